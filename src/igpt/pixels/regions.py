"""Regions of an image: which pixels are to be drawn, as a map of true and false.

    below(6, 12)                       # all rows but the first six
    inside_box((4, 4, 8, 8), 12)       # a square in the middle
    painted(Path("mask.png"), 12)      # what is white in a picture

All are counted in pixels of the network's own images, which photos are cropped and shrunk to. In
which order they are read, and what a network can draw of them, is not known here.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Bool

from igpt.errors import ConfigError, DataError
from igpt.pixels.images import read_image, to_grey
from igpt.pixels.opening import picture_file, refusals

Box = tuple[int, int, int, int]
"""Left, top, right and bottom; the last two are the first columns and rows outside."""

_WHITE = 128  # and lighter


def below(rows: int, size: int) -> Bool[np.ndarray, "{size} {size}"]:
    """Return all but the first rows.

    Raises:
        ConfigError: There are not so many, or nothing is left.
    """
    if not 0 <= rows < size:
        raise ConfigError(
            f"rows must lie between 0 and {size - 1} for {size}x{size} images, got {rows}; "
            f"half an image is {size // 2}"
        )
    region = np.zeros((size, size), dtype=bool)
    region[rows:] = True
    return region


def inside_box(box: Box, size: int) -> Bool[np.ndarray, "{size} {size}"]:
    """Return what lies in a box.

    Raises:
        ConfigError: The image has no such box, or the box is all of it.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= size and 0 <= top < bottom <= size):
        raise ConfigError(
            f"a box is LEFT,TOP,RIGHT,BOTTOM in pixels of the network's {size}x{size} images, such "
            f"as {size // 4},{size // 4},{size - size // 4},{size - size // 4}, got "
            f"{','.join(map(str, box))}"
        )
    region = np.zeros((size, size), dtype=bool)
    region[top:bottom, left:right] = True
    require_some(region, size, "the box")
    return region


def painted(file: Path, size: int) -> Bool[np.ndarray, "{size} {size}"]:
    """Return what is white, or nearly, in a picture.

    Raises:
        ConfigError: It is of another size or partly transparent, or all or nothing of it is white.
        DataError: It is no picture.
    """
    if not file.is_file():
        raise DataError(f"{file} does not exist; a mask is a picture whose white is to be drawn")
    pixels = read_image(file)
    height, width = pixels.shape[:2]
    if (height, width) != (size, size):
        raise ConfigError(
            f"{file} is {width}x{height}, and a mask is of the size of the network's images, "
            f"{size}x{size}, which photos are cropped and shrunk to; resize it"
        )
    if _is_transparent(file):
        raise ConfigError(
            f"{file} is transparent in places, and a mask is white where it is to be drawn and "
            "black elsewhere; save it without transparency"
        )
    region = to_grey(pixels)[..., 0] >= _WHITE
    require_some(region, size, str(file))
    return region


def _is_transparent(file: Path) -> bool:
    """Return whether any pixel lets through what is behind it; `read_image` puts white there."""
    with refusals(str(file)), picture_file(file, name=str(file)) as image:
        alpha = np.asarray(image.convert("RGBA"))[..., 3] if image.has_transparency_data else 255
        return bool(np.any(alpha < 255))


def require_some(region: Bool[np.ndarray, "height width"], size: int, name: str) -> None:
    """See that a region is of the images' size and has some of their pixels, and not all.

    Raises:
        ConfigError: It is not, or has not.
    """
    height, width = region.shape
    if (height, width) != (size, size):
        raise ConfigError(
            f"{name} is a map of {width}x{height} pixels, and the network's images have "
            f"{size}x{size}; one of theirs is wanted"
        )
    if region.all():
        raise ConfigError(
            f"{name} hides every pixel, so that nothing is given; igpt sample draws images from "
            "nothing"
        )
    if not region.any():
        raise ConfigError(f"{name} hides no pixel, so that there is nothing to draw")
