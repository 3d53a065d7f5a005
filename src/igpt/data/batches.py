"""Batches: the tokens and labels of a step, from records on disk.

    batches = TokenBatches(store.split("train"), tokenizer, batch_size=128, seed=0)
    batches.at(7_000).tokens  # (128, position), the same whenever and wherever it is asked for

Training asks for the batch of a step; evaluation goes once through a split, in order and without
augmentation.
"""

from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from igpt.data.augment import CROP, LONGEST, Augmentation, augment
from igpt.data.order import records_at_step
from igpt.data.store import Records
from igpt.errors import ConfigError
from igpt.pixels.tokenizer import ImageTokenizer


@dataclass(frozen=True)
class Batch:
    """Some images as the model reads them."""

    tokens: Int64[Tensor, "batch position"]
    labels: Int64[Tensor, " batch"] | None


@dataclass(frozen=True)
class TokenBatches:
    """The share of `rank` in the batch of every step, a pure function of the step.

    Raises:
        ConfigError: The batch is larger than the split, or cannot be shared out evenly, or crops
            would be cropped again.
        DataError: The records are too small for the model, or tokens of another palette.
    """

    records: Records
    tokenizer: ImageTokenizer
    _: KW_ONLY
    batch_size: int
    seed: int
    augmentation: Augmentation = "none"
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        check_fits(
            self.records,
            self.tokenizer,
            batch_size=self.batch_size,
            augmentation=self.augmentation,
        )

    def at(self, step: int) -> Batch:
        """Return the batch of `step`."""
        numbers = records_at_step(
            step,
            records=len(self.records),
            batch_size=self.batch_size,
            seed=self.seed,
            rank=self.rank,
            ranks=self.ranks,
        )
        images = augment(
            self.records.images[numbers],
            self.augmentation,
            image_size=self.tokenizer.image_size,
            seed=self.seed,
            step=step,
            rank=self.rank,
            ranks=self.ranks,
            filter=self.records.filter,
        )
        labels = self.records.labels
        return Batch(
            tokens=self.tokenizer.encode(images),
            labels=None if labels is None else torch.from_numpy(labels[numbers]),
        )


def evaluation_batches(
    records: Records,
    tokenizer: ImageTokenizer,
    *,
    batch_size: int,
    first: int = 0,
    stride: int | None = None,
) -> Iterator[Batch]:
    """Yield all records in order; the last batch may be smaller.

    Args:
        records: Images, of the network's size or larger.
        tokenizer: Makes their tokens.
        batch_size: Images at a time.
        first: Record that the first batch begins with ...
        stride: ... and how many records on the next one does, `batch_size` by default; so several
            processes take turns.

    Raises:
        DataError: The records are smaller than the model's images, or tokens of another palette.
    """
    check_fits(records, tokenizer)
    labels = records.labels
    for start in range(first, len(records), stride or batch_size):
        part = slice(start, start + batch_size)
        yield Batch(
            tokens=tokenizer.encode(records.squares(part, tokenizer.image_size)),
            labels=None if labels is None else torch.from_numpy(labels[part]),
        )


def check_fits(
    records: Records,
    tokenizer: ImageTokenizer,
    *,
    batch_size: int | None = None,
    augmentation: Augmentation = "none",
) -> None:
    """See that a model can learn from, or be measured on, these records.

    Raises:
        ConfigError: `batch_size` is more than there are, or `augmentation` would crop records that
            are random crops already, or are so small that crops would have to be enlarged.
        DataError: They are smaller than the model's images, or tokens of another palette.
    """
    records.require_fit(tokenizer.image_size, tokenizer.palette.fingerprint)
    if batch_size is not None and batch_size > len(records):
        raise ConfigError(
            f"batch_size={batch_size} is more than the {len(records)} {records.name} images there "
            f"are; set training.batch_size={len(records)} or less"
        )
    if records.cropped and augmentation == "random-resize-crop":
        raise ConfigError(
            f"the {records.described} are random crops already, made with --crops; set "
            "augmentation=none"
        )
    stored, size = records.images.shape[1], tokenizer.image_size
    if augmentation == "random-resize-crop" and stored * CROP < size * LONGEST:
        raise ConfigError(
            f"the {records.described} are images of {stored}x{stored} pixels, and the smallest "
            f"crop, {CROP}/{LONGEST} of that, is less than the model's {size}; prepare them again "
            f"with --image-size {-(-size * LONGEST // CROP)} or more, or set augmentation=flip"
        )


def images_at_size(
    records: Records, image_size: int
) -> UInt8[np.ndarray, "record {image_size} {image_size} 3"]:
    """Return the records as a model of this image size sees them, without augmentation.

    Raises:
        DataError: The records are smaller than that.
    """
    records.require_fit(image_size)
    return records.squares(slice(None), image_size)
