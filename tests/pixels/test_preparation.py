"""Files, images of Pillow's and arrays become the same squares."""

import io

import numpy as np
import pytest
from PIL import Image

from igpt.errors import DataError
from igpt.pixels.images import read_square, resize_images
from igpt.pixels.preparation import Preparation, name_of


@pytest.fixture
def photo(tmp_path):
    """A wide picture, stored lying on its side, as cameras do."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
    return tmp_path / "photo.png", np.rot90(pixels, -1)


def test_a_file_becomes_what_the_record_of_a_store_becomes(photo):
    path, upright = photo
    prepared = Preparation(size=16, filter="bilinear")
    record = read_square(path, 16, "bilinear")
    wanted = resize_images(record[None], 6, "bilinear")[0]
    opened = Image.open(path)
    for image in (path, str(path), path.read_bytes(), opened, upright):
        np.testing.assert_array_equal(prepared.square(image, 6), wanted)
    assert opened.load() is not None  # it is still the caller's to use
    assert [name_of(image) for image in (path, opened, upright)] == [str(path), str(path), None]


def test_without_a_store_an_image_is_resized_once(photo):
    path, upright = photo
    np.testing.assert_array_equal(Preparation().square(upright, 6), read_square(path, 6))


def test_other_modes_and_arrays_of_grey_or_transparent_pixels_are_taken():
    grey = np.full((5, 7), 200, np.uint8)
    clear = np.zeros((5, 7, 4), np.uint8)
    for image in (grey, Image.fromarray(grey), Image.fromarray(grey).convert("P")):
        assert Preparation().square(image, 3).tolist() == [[[200] * 3] * 3] * 3
    assert Preparation().square(clear, 3).min() == 255  # laid on white


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), r"uint8 \(height, width, 3\), got float64 of shape \(4, 4, 3\)"),
        (np.zeros((3, 5, 5), np.uint8), r"got uint8 of shape \(3, 5, 5\); .* channels last"),
        (np.zeros((0, 4, 3), np.uint8), "has no pixels"),
        ("nowhere.png", r"could not read nowhere\.png"),
    ],
)
def test_what_is_no_image_is_refused_in_a_line(image, message):
    with pytest.raises(DataError, match=message):
        Preparation().square(image, 3)


def test_a_broken_image_of_pillows_is_refused_like_its_file():
    png = io.BytesIO()
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(png, "PNG")
    with pytest.raises(DataError, match="the image is broken"):
        Preparation().square(Image.open(io.BytesIO(png.getvalue()[:-40])), 3)
