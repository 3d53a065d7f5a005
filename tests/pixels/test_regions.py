"""Regions are what they are said to be, to the pixel."""

import numpy as np
import pytest
from PIL import Image

from igpt.errors import ConfigError, DataError
from igpt.pixels.images import write_png
from igpt.pixels.regions import below, inside_box, painted


def test_rows_and_boxes_are_counted_from_the_top_left():
    assert below(2, 3).tolist() == [[False] * 3, [False] * 3, [True] * 3]
    assert below(0, 2).all()
    box = inside_box((1, 0, 3, 2), 4)
    assert np.argwhere(box).tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


@pytest.mark.parametrize("rows", [-1, 3])
def test_rows_that_are_not_there_are_refused(rows):
    with pytest.raises(ConfigError, match=f"between 0 and 2 for 3x3 images, got {rows}"):
        below(rows, 3)


@pytest.mark.parametrize("box", [(2, 0, 2, 3), (-1, 0, 2, 2), (0, 0, 5, 2), (0, 3, 2, 1)])
def test_boxes_that_are_not_there_are_refused(box):
    with pytest.raises(ConfigError, match=r"LEFT,TOP,RIGHT,BOTTOM .* 4x4 images, .* got"):
        inside_box(box, 4)


def test_all_of_an_image_is_no_box():
    with pytest.raises(ConfigError, match="the box hides every pixel"):
        inside_box((0, 0, 4, 4), 4)


def test_what_is_white_in_a_mask_is_hidden(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[1, 2], pixels[3, 0], pixels[0, 0] = 255, 130, 120
    write_png(tmp_path / "mask.png", pixels)
    assert np.argwhere(painted(tmp_path / "mask.png", 4)).tolist() == [[1, 2], [3, 0]]


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (np.full((4, 5), 255), r"mask\.png is 5x4, and a mask is of the size .*, 4x4"),
        (np.full((4, 4), 255), r"mask\.png hides every pixel"),
        (np.zeros((4, 4)), r"mask\.png hides no pixel"),
    ],
)
def test_masks_of_other_sizes_of_all_and_of_nothing_are_refused(tmp_path, levels, message):
    write_png(tmp_path / "mask.png", np.repeat(levels[..., None], 3, axis=2).astype(np.uint8))
    with pytest.raises(ConfigError, match=message):
        painted(tmp_path / "mask.png", 4)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_mask_that_is_transparent_in_places_is_refused(tmp_path, mode):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[1:3, 1:3] = 255  # white in the middle, and around it nothing
    Image.fromarray(pixels).convert(mode).save(tmp_path / "mask.png")
    with pytest.raises(ConfigError, match=r"mask\.png is transparent in places.* save it without"):
        painted(tmp_path / "mask.png", 4)
    pixels[..., 3] = 255
    Image.fromarray(pixels).convert(mode).save(tmp_path / "mask.png")
    assert np.array_equal(painted(tmp_path / "mask.png", 4), pixels[..., 0] == 255)


def test_what_is_no_picture_is_no_mask(tmp_path):
    with pytest.raises(DataError, match="does not exist; a mask is a picture"):
        painted(tmp_path / "mask.png", 4)
    (tmp_path / "mask.png").write_text("white")
    with pytest.raises(DataError, match="not an image"):
        painted(tmp_path / "mask.png", 4)
