import pytest


@pytest.fixture
def given(shapes_store, tiny_palette, tmp_path):
    """What every pretraining of shapes is given."""
    tiny_palette.save(tmp_path / "palette.npy")
    return {"data": shapes_store.path, "palette": tmp_path / "palette.npy", "device": "cpu"}
