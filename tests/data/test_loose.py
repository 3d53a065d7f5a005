"""Files and folders as they are named on a command line."""

import shutil

import numpy as np
import pytest
from PIL import Image

from igpt.data.loose import loose_files, read_squares
from igpt.errors import DataError
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture
def tokenizer():
    return ImageTokenizer(Palette(np.array([[-1, -1, -1], [1, 1, 1]], np.float32)), 2)


def names(parts):
    return [name for part in parts for name in part.names]


def test_a_folder_is_walked_in_order_and_a_broken_file_is_named_while_others_go_on(
    tmp_path, save_image, tokenizer
):
    for name in ("a/2.png", "a/1.jpg", "b.png", ".hidden/x.png"):
        save_image(tmp_path / "photos" / name)
    (tmp_path / "photos" / "a" / "notes.txt").write_text("nothing")
    (tmp_path / "photos" / "a" / "3.png").write_text("no image")
    save_image(tmp_path / "one.png")
    files = loose_files([tmp_path / "one.png", tmp_path / "photos", tmp_path / "none.png"])
    parts = list(read_squares(files, tokenizer, at_once=2))
    photos = f"{tmp_path}/photos"
    assert names(parts) == [f"{tmp_path}/one.png", f"{photos}/a/1.jpg", f"{photos}/a/2.png",
                            f"{photos}/b.png"]  # fmt: skip
    assert max(len(part.squares) for part in parts) <= 2
    assert [file.file for file in files.skipped] == [f"{photos}/a/3.png", f"{tmp_path}/none.png"]
    assert "is not an image" in files.skipped[0].reason
    files.require_some_read()


def test_a_zip_file_is_read_as_the_folder_that_it_holds(tmp_path, save_image, tokenizer):
    save_image(tmp_path / "photos" / "a.png", 255)
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "photos")
    archive = tmp_path / "photos.zip"
    (part,) = read_squares(loose_files([archive]), tokenizer)
    assert part.names == [f"{archive}/a.png"]
    assert part.squares.min() == 255


def test_files_are_cut_and_resized_as_the_tokenizer_says(tmp_path, tokenizer):
    Image.fromarray(np.arange(75, dtype=np.uint8).reshape(5, 5, 3)).save(tmp_path / "a.png")
    (part,) = read_squares(loose_files([tmp_path]), tokenizer)
    np.testing.assert_array_equal(part.squares, tokenizer.squares(tmp_path / "a.png"))


def test_nothing_to_read_is_refused(tmp_path, tokenizer):
    with pytest.raises(DataError, match="holds no images"):
        loose_files([tmp_path])
    with pytest.raises(DataError, match="no images are given"):
        loose_files([])
    files = loose_files([tmp_path / "x.png", tmp_path / "y.png"])
    assert list(read_squares(files, tokenizer)) == []
    with pytest.raises(DataError, match=r"could not read .*x\.png.*; nor could 1 more be read"):
        files.require_some_read()
