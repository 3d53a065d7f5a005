"""Foreign images of stores and folders."""

import numpy as np
import pytest
from tests.conftest import random_model, write_shapes

from igpt.errors import DataError
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.foreign import foreign_identity, foreign_records


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


def test_all_splits_of_a_store_are_drawn_from(pretrained, shapes_store):
    everything = foreign_records(shapes_store.path, pretrained, count=1000, seed=0)
    assert len(everything) == 51 + 13 + 16
    names = [name for split in shapes_store.splits for name in shapes_store.split(split).names]
    assert everything.names == names
    some = foreign_records(shapes_store.path, pretrained, count=30, seed=0)
    assert len(some) == 30
    for name, pixels in zip(some.names, some.images, strict=True):
        np.testing.assert_array_equal(pixels, everything.images[names.index(name)])


def test_a_folder_is_read_as_the_network_reads_photographs(pretrained, tmp_path):
    folder = write_shapes(tmp_path / "photos", images=6, size=12)
    (folder / "broken.png").write_text("no image")
    with pytest.warns(UserWarning, match=r"left out: .*broken\.png is not an image"):
        records = foreign_records(folder, pretrained, count=100, seed=0)
    assert len(records) == 6
    np.testing.assert_array_equal(records.images, pretrained.tokenizer.squares(records.names))
    (folder / "broken.png").unlink()
    assert len(foreign_records(folder, pretrained, count=3, seed=1)) == 3
    with pytest.raises(DataError, match="could not read"):
        foreign_records(tmp_path / "photos" / "left" / "nothing", pretrained, count=3, seed=0)


def test_changed_images_have_another_identity(shapes_store, tmp_path):
    folder = write_shapes(tmp_path / "photos", images=4)
    before = foreign_identity(folder)
    assert foreign_identity(folder) == before
    write_shapes(tmp_path / "photos", images=4, size=9)
    assert foreign_identity(folder) != before
    assert foreign_identity(shapes_store.path) == shapes_store.identity
