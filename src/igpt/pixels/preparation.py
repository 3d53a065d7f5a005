"""Images as people have them, files, Pillow's or arrays, as the squares that a network reads.

    preparation = Preparation(size=32)
    preparation.square("cat.jpg", 12)          # (12, 12, 3), as from a store of 32x32 pixels
    preparation.square(Image.open(...), 12)    # the same; so are arrays, (height, width, 3)

A network learns from the images of a store, which were cut to squares and resampled once when it
was prepared, and once more where the network is smaller. What it is shown later has to go the same
way: another filter, or one step in place of two, gives other pixels, and other tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from igpt.errors import DataError
from igpt.pixels.decoding import MAX_PIXELS, DecodingBudget, upright_rgb
from igpt.pixels.filters import DEFAULT_FILTER, ResamplingFilter
from igpt.pixels.images import opened_image, resize_images, square
from igpt.pixels.opening import refusals

AnyImage = str | Path | bytes | Image.Image | np.ndarray
"""A file, by its path or what is in it, an image of Pillow's, or uint8 (height, width, 3)."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How images become squares."""

    size: int | None = None
    """Side of the squares that they are cut to first, those of a store; None for the very size
    that is asked for."""
    filter: ResamplingFilter = DEFAULT_FILTER
    levels: int | None = None
    """The grey level that is white in files of 16 bits or more and of floats; see `opened_image`.
    """

    def square(
        self,
        image: AnyImage,
        size: int,
        *,
        name: str | None = None,
        max_pixels: int = MAX_PIXELS,
        budget: DecodingBudget | None = None,
    ) -> UInt8[np.ndarray, "{size} {size} 3"]:
        """Return the middle of an image as a square of `size` pixels, upright.

        Smaller images are enlarged.

        Args:
            image: See `AnyImage`. Arrays of one level a pixel or of four (RGBA) will do as well.
            size: Side of the square.
            name: What errors call it, if not by its path.
            max_pixels: How many of a file are decoded at most.
            budget: What bounds the memory of all files that are decoded at the same time.

        Raises:
            DataError: It is no image; of a file, a `SkippedImage` says what is wrong with it.
        """
        first = self.size or size
        name = name or name_of(image) or "the image"
        if isinstance(image, str | Path | bytes):
            with opened_image(
                image, name=name, max_pixels=max_pixels, levels=self.levels, budget=budget
            ) as opened:
                pixels = opened.square(first, self.filter)
        else:
            if not isinstance(image, Image.Image):
                image = _from_array(image, name)
            with refusals(name):
                rgb = upright_rgb(image, name, self.levels)
                pixels = square(np.asarray(rgb), first, self.filter)
        return resize_images(pixels[None], size, self.filter)[0]


def as_images(images: AnyImage | Iterable[AnyImage]) -> Iterable[AnyImage]:
    """Return several images, or the one that was given as several."""
    single = isinstance(images, str | bytes) or not isinstance(images, Iterable)
    if single or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images]  # pyrefly: ignore
    return images


def name_of(image: AnyImage) -> str | None:
    """Return the path of an image, if it has one."""
    if isinstance(image, str | Path):
        return str(image)
    return str(getattr(image, "filename", "")) or None  # of an image that Pillow opened


def _from_array(image: object, name: str) -> Image.Image:
    if not isinstance(image, np.ndarray):
        raise DataError(
            f"{name} should be a file's path, an image of Pillow's or a NumPy array, got "
            f"{type(image).__name__}; of a tensor, give tensor.numpy()"
        )
    grey = image.ndim == 2
    if image.dtype != np.uint8 or not (grey or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise DataError(
            f"{name} should be uint8 (height, width, 3), got {image.dtype} of shape {image.shape}; "
            "scale levels to 0 to 255, and put the channels last"
        )
    if 0 in image.shape:
        raise DataError(f"{name} has no pixels, got the shape {image.shape}; leave it out")
    return Image.fromarray(np.ascontiguousarray(image))
