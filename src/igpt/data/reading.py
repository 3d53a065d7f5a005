"""Reading an image of a source: its records, or why it has to be skipped.

What an image becomes depends on the image, its number and the settings alone, so that threads may
read in any order. All that decode at the same time share one budget of memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from igpt.data.augment import CROP, LONGEST, crop_boxes
from igpt.data.config import StoreConfig
from igpt.data.sources import SourceImage
from igpt.errors import DataError, printable
from igpt.pixels.decoding import MAX_PIXELS, DecodingBudget
from igpt.pixels.images import opened_image, square
from igpt.pixels.opening import SkippedImage
from igpt.randomness import Stream, stream


@dataclass(frozen=True, kw_only=True)
class ReadImage:
    """What was made of an image."""

    name: str
    records: UInt8[np.ndarray, "record size size 3"] | None
    """None if it had to be skipped."""
    skipped: tuple[str, str] | None = None
    """The reason why it was, and what is to be said of it."""
    highest_level: int | None = None
    """Of a file of 16 bits or more."""


def versions() -> dict[str, str]:
    """Return the versions of what shapes the pixels."""
    return {name: version(name) for name in ("igpt", "numpy", "pillow")}


@dataclass(frozen=True, kw_only=True)
class RecordsOfImages:
    """Work: the records of some images, their crops if `cropped`, or else their squares."""

    config: StoreConfig
    cropped: bool
    budget: DecodingBudget | None
    """What bounds the memory of all threads together; None for each image alone."""

    def __call__(
        self, image: Callable[[int], SourceImage], numbers: Sequence[int]
    ) -> list[ReadImage]:
        """Return what is made of the images of these numbers, which `image` gives.

        Raises:
            DataError: One would be skipped, and `config.strict` is set.
        """
        return [
            _read(image, number, self.config, cropped=self.cropped, budget=self.budget)
            for number in numbers
        ]


def _read(
    image_of: Callable[[int], SourceImage],
    number: int,
    config: StoreConfig,
    *,
    cropped: bool,
    budget: DecodingBudget | None,
) -> ReadImage:
    image, highest = None, None
    try:
        image = image_of(number)
        if isinstance(image.content, np.ndarray):
            height, width = image.content.shape[1:3]
            _require_size(image.name, height, width, config)
            squares = [square(copy, config.image_size, config.filter) for copy in image.content]
            records = np.stack(squares)
        else:
            records, highest = file_records(image, number, config, cropped=cropped, budget=budget)
        return ReadImage(name=image.name, records=records, highest_level=highest)
    except SkippedImage as error:
        if config.strict:
            raise DataError(f"{error}; leave out --strict to skip such files") from error
        name, message = f"record {number}" if image is None else image.name, str(error)
        if image is not None and isinstance(image.content, Path):  # its path in the source will do
            message = message.replace(printable(str(image.content)), printable(name))
        return ReadImage(name=name, records=None, skipped=(error.reason, message))


def file_records(
    source: SourceImage,
    number: int,
    config: StoreConfig,
    *,
    cropped: bool,
    budget: DecodingBudget | None = None,
) -> tuple[UInt8[np.ndarray, "record size size 3"], int | None]:
    """Return the records of an image file, and its highest level if it has 16 bits or more.

    They are its centered square, or `config.crops` crops as of `random-resize-crop`, each resampled
    once from the decoded file. Where crop k of an image lies depends on the seed, the number of the
    image, k and the size of the image, and on nothing else.

    Args:
        source: An image that is a file.
        number: That of the image in its split of the source.
        config: The size of records, how they are resampled and how many crops there are.
        cropped: Whether crops are wanted.
        budget: What bounds the memory of all threads together.

    Raises:
        SkippedImage: The file is missing or broken, or a record would have to be enlarged although
            `config.enlarge` is not set.
    """
    assert not isinstance(source.content, np.ndarray), "these are pixels already"
    with opened_image(
        source.content,
        name=source.name,
        fast_jpeg=config.fast_jpeg,
        max_pixels=config.max_pixels or MAX_PIXELS,
        levels=config.levels,
        budget=budget,
    ) as image:
        _require_size(source.name, image.height, image.width, config, cropped=cropped)
        if cropped:
            generator = stream(Stream.CROPS, config.seed, number)
            boxes = crop_boxes(generator, image.height, image.width, config.crops)
            records = image.crops(boxes, config.image_size, config.filter)
        else:
            records = image.square(config.image_size, config.filter)[None]
        return records, image.highest_level


def _require_size(
    name: str, height: int, width: int, config: StoreConfig, *, cropped: bool = False
) -> None:
    """Refuse an image that would have to be enlarged, unless that is wished."""
    part, whole = (CROP, LONGEST) if cropped else (1, 1)
    if min(height, width) * part < config.image_size * whole and not config.enlarge:
        smallest = f"the smallest crop, {part}/{whole} of its shorter side,"
        raise SkippedImage(
            f"{name} is {width}x{height}, and {smallest if cropped else 'its shorter side'} is "
            f"less than --image-size {config.image_size}; choose a smaller size, or --enlarge",
            "too small",
        )
