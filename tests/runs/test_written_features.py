"""Features in files for use elsewhere."""

import datasets
import numpy as np
import pytest
from tests.conftest import random_model, write_shapes

import igpt
from igpt.errors import ConfigError, DataError
from igpt.evaluation.features import extract_features
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.features import write_features


@pytest.fixture
def model(tiny_palette, shapes_store, tmp_path):
    tokenizer = ImageTokenizer(tiny_palette, 4, shapes_store.preparation)
    Pretrained(model=random_model(), tokenizer=tokenizer).save(tmp_path / "model")
    return tmp_path / "model"


def test_features_of_every_split_are_written_as_one_file(model, shapes_store, tmp_path):
    out = tmp_path / "features.npz"
    written = write_features(model, data=shapes_store.path, out=out, layers=[1], device="cpu")
    assert written.images == {"train": 51, "validation": 13, "test": 16}
    test = shapes_store.split("test")
    with np.load(out) as arrays:
        assert arrays["class_names"].tolist() == ["left", "top"]
        assert arrays["layers"].tolist() == [1]
        assert arrays["test_files"].tolist() == test.names
        assert np.array_equal(arrays["test_labels"], test.labels)
        wanted = extract_features(igpt.load(model), test, layers=[1])
        assert np.array_equal(arrays["test_features"], wanted)


def test_features_of_files_are_those_of_the_records_made_of_them(model, shapes_store, tmp_path):
    source = shapes_store.path.parent / "images"
    test = shapes_store.split("test")
    out = tmp_path / "features.npz"
    (tmp_path / "broken.png").write_text("no image")
    files = [source / name for name in test.names]
    written = write_features(model, [*files, tmp_path / "broken.png"], out=out, device="cpu")
    assert [skipped.file for skipped in written.skipped] == [str(tmp_path / "broken.png")]
    with np.load(out) as arrays:
        assert arrays["files"].tolist() == list(map(str, files))
        wanted = extract_features(igpt.load(model), test)
        np.testing.assert_allclose(arrays["features"], wanted, rtol=1e-5, atol=1e-6)


def test_a_parquet_file_and_a_folder_hold_a_row_an_image(model, shapes_store, tmp_path):
    given = {"data": shapes_store.path, "layers": [0, 2], "device": "cpu"}
    write_features(model, out=tmp_path / "features.parquet", **given)
    write_features(model, out=tmp_path / "features", **given)
    cache = str(tmp_path / "cache")
    table = datasets.Dataset.from_parquet(str(tmp_path / "features.parquet"), cache_dir=cache)
    by_split = datasets.load_from_disk(str(tmp_path / "features"))
    test = shapes_store.split("test")
    wanted = extract_features(igpt.load(model), test, layers=[2])[:, 0]
    for rows in (table.filter(lambda row: row["split"] == "test"), by_split["test"]):
        assert rows["file"][:] == test.names
        assert rows["label"][:] == test.labels.tolist()
        assert rows["class_name"][:] == [test.class_names[label] for label in test.labels]
        np.testing.assert_array_equal(np.array(rows["layer_2"][:], np.float32), wanted)
    assert by_split["test"].features["label"].names == ["left", "top"]


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_a_layer_that_is_asked_for_twice_is_written_once(model, shapes_store, tmp_path, ending):
    out = tmp_path / f"features.{ending}"
    layers = [1, 0, 1]
    written = write_features(model, data=shapes_store.path, out=out, layers=layers, device="cpu")
    assert written.layers == (1, 0)
    if ending == "npz":
        with np.load(out) as arrays:
            assert arrays["layers"].tolist() == [1, 0]
            assert arrays["test_features"].shape[1] == 2


def test_what_cannot_be_written_is_refused_before_the_work(model, shapes_store, tmp_path):
    given = {"data": shapes_store.path, "device": "cpu"}
    with pytest.raises(ConfigError, match=r"\.npz, \.parquet or a folder .* got --out .*\.npy"):
        write_features(model, out=tmp_path / "features.npy", **given)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(DataError, match="File exists"):
        write_features(model, out=tmp_path / "full", **given)
    with pytest.raises(ConfigError, match="folders are not replaced"):
        write_features(model, out=tmp_path / "full", overwrite=True, **given)
    for images, data in (((), None), ([tmp_path], shapes_store.path)):
        with pytest.raises(ConfigError, match="either image files or a record store"):
            write_features(model, images, data=data, out=tmp_path / "features.npz")


def test_a_folder_of_photographs_without_labels_has_no_classes(model, tmp_path):
    photos = write_shapes(tmp_path / "photos", images=4, size=12)
    write_features(model, [photos], out=tmp_path / "features", layers=[1], device="cpu")
    rows = datasets.load_from_disk(str(tmp_path / "features"))["files"]
    assert rows["label"][:] == [None] * 4
    assert all(file.startswith(str(photos)) for file in rows["file"][:])
