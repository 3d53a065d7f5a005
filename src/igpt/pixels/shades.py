"""Shades: the colors behind a token, and how likely each of them is.

A palette makes one token of thousands of colors, so a network's bits per token say nothing to those
who count bits of 8-bit images. What is missing is a code for the color once its token is known:

    -log p(image) = -log p(tokens) - sum over pixels of log p(color | token)

which is exact, as a color has one token only. The second term comes from the colors of training
pixels (`fit_shades`): their counts as they are, blurred in the cube of colors by Gaussians of a few
widths, and no count at all, each shared out within the token's own colors and mixed by weights that
make held-out images likeliest. The probabilities of each token's colors so sum to one, and every
color has some: what comes out is a code's length for any image, an upper bound on the best one's.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8, UInt32

from igpt.arrays import read_array
from igpt.errors import ConfigError, DataError
from igpt.files import read_json, write_json, written_aside
from igpt.pixels.nearest import Table, nearest_table
from igpt.pixels.palette import Palette, pack_colors
from igpt.pixels.palette_fitting import count_colors
from igpt.randomness import Stream, stream
from igpt.seals import crc32c, sealed, unsealed
from igpt.values import from_dict, to_dict

WIDTHS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Standard deviations by which counts are blurred, in steps of the 256 of each channel."""

_HELD_OUT_ONE_IN = 10  # images, to choose the weights by
_ROUNDS = 200  # of expectation maximization; the weights stand still after a tenth of them
_LEAST_WEIGHT = 1e-6  # so that a color unlike all that were held out has some probability
_RED_AT_ONCE = 16  # planes of the cube whose tokens NumPy widens to eight bytes at a time


class Shades:
    """What is known of the colors behind each token of a palette."""

    def __init__(
        self,
        palette: Palette,
        colors: UInt32[np.ndarray, " color"],
        counts: Int64[np.ndarray, " color"],
        weights: Sequence[float],
        *,
        widths: Sequence[float] = WIDTHS,
    ) -> None:
        """Take what `fit_shades` finds.

        Args:
            palette: Whose tokens they are.
            colors: Distinct colors of training pixels, packed (`igpt.pixels.palette.pack_colors`).
            counts: How often each of them occurs.
            weights: Of the counts at each of `widths`, then of no count; they sum to one.
            widths: Standard deviations of the Gaussians.
        """
        assert len(weights) == len(widths) + 1
        assert abs(sum(weights) - 1) < 1e-6
        self.palette = palette
        self.colors, self.counts = colors, counts
        self.weights, self.widths = tuple(weights), tuple(widths)

    def nats(self, pixels: UInt8[np.ndarray, "*shape 3"]) -> Float64[np.ndarray, "*shape"]:
        """Return -log p(color | its token) of each pixel.

        The first call makes a table of all 2^24 colors: some seconds, half a gigabyte on the way
        and 64 MiB after it.
        """
        return -np.log(self.probabilities.reshape(-1)[pack_colors(pixels)].astype(np.float64))

    @functools.cached_property
    def probabilities(self) -> Float32[np.ndarray, "256 256 256"]:
        """p(color | its token), by red, green and blue."""
        table = nearest_table(self.palette.colors)
        mixed = np.zeros((256, 256, 256), np.float32)
        parts = _parts(table, self.palette.size, self.colors, self.counts, self.widths)
        for weight, part in zip(self.weights, parts, strict=True):
            mixed += np.float32(weight) * part
        return mixed

    def save(self, file: Path, *, made_from: str) -> None:
        """Write an `.npy` of colors and counts, and beside it a `.json` of what else there is.

        Args:
            file: The `.npy` file.
            made_from: What tells these images from others, for `load`.

        Raises:
            DataError: The disk is full, or the path cannot be written to.
        """
        with written_aside(file) as aside, aside.open("wb") as opened:
            np.save(opened, np.stack([self.colors.astype(np.int64), self.counts], axis=1))
        note = _Note(
            palette=self.palette.fingerprint, made_from=made_from, weights=self.weights,
            crc32c=crc32c(file),
        )  # fmt: skip
        write_json(file.with_suffix(".json"), sealed(to_dict(note)))

    @classmethod
    def load(cls, file: Path, palette: Palette, *, made_from: str) -> "Shades":
        """Return what `save` wrote.

        Raises:
            DataError: It is not there, is damaged, or belongs to another palette or other images.
        """
        beside = file.with_suffix(".json")
        values = unsealed(read_json(beside, error=DataError), beside, error=DataError)
        try:
            note = from_dict(_Note, values, name="it")
        except ConfigError as error:
            raise DataError(f"{beside} says nothing of shades: {error}; remove it") from error
        colors, counts = read_array(file, dtype=np.int64, shape=(None, 2)).T
        wanted = (palette.fingerprint, made_from, len(WIDTHS) + 1, crc32c(file))
        if wanted != (note.palette, note.made_from, len(note.weights), note.crc32c):
            raise DataError(f"{file} was made from something else, or damaged; remove it")
        return cls(palette, colors.astype(np.uint32), counts, note.weights)


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What the `.json` holds."""

    palette: str
    """Fingerprint of the palette."""
    made_from: str
    weights: tuple[float, ...]
    """As `Shades` takes them."""
    crc32c: int
    """Of the `.npy`."""


def fit_shades(
    palette: Palette,
    images: UInt8[np.ndarray, "image height width 3"],
    *,
    seed: int = 0,
    widths: Sequence[float] = WIDTHS,
) -> Shades:
    """Return how likely the colors behind each token are, after training images.

    Args:
        palette: Whose tokens they are.
        images: Training images only, as large as the network sees them; two at least, or else all
            weights are the same.
        seed: Decides which images, a tenth of them, the weights are chosen by.
        widths: Standard deviations by which counts are blurred.
    """
    order = stream(Stream.SHADES, seed).permutation(len(images))
    held = order[: -(-len(images) // _HELD_OUT_ONE_IN)] if len(images) > 1 else order[:0]
    later, later_counts = count_colors(images[held].reshape(-1, 3))
    colors, counts = count_colors(images.reshape(-1, 3))
    earlier = counts.copy()
    earlier[np.searchsorted(colors, later)] -= later_counts
    table = nearest_table(palette.colors)
    parts = _parts(table, palette.size, colors, earlier, widths)
    seen = np.stack([part.reshape(-1)[later] for part in parts]).astype(np.float64)
    weights = np.full(len(seen), 1 / len(seen))
    for _ in range(_ROUNDS if len(held) else 0):
        shares = weights[:, None] * seen
        weights = shares / shares.sum(axis=0) @ later_counts / later_counts.sum()
    weights = np.maximum(weights, _LEAST_WEIGHT)
    weights /= weights.sum()
    return Shades(palette, colors, counts, weights.tolist(), widths=widths)


def _parts(
    table: Table,
    size: int,
    colors: UInt32[np.ndarray, " color"],
    counts: Int64[np.ndarray, " color"],
    widths: Sequence[float],
) -> Iterator[Float32[np.ndarray, "256 256 256"]]:
    """Yield p(color | token) by the counts at each width, and then by no count.

    Where no count falls on a token's colors, they are equally likely.
    """
    from scipy.ndimage import gaussian_filter  # takes a quarter of a second

    counted = np.zeros(256**3, np.float32)
    counted[colors] = counts
    counted = counted.reshape(256, 256, 256)
    even = np.ones_like(counted)
    even /= _of_tokens(_sums(table, size, even), table)
    for width in widths:
        part = gaussian_filter(counted, width, mode="constant") if width else counted.copy()
        sums = _sums(table, size, part)
        part /= _of_tokens(np.where(sums > 0, sums, 1), table)
        empty = _of_tokens(sums, table) <= 0
        part[empty] = even[empty]
        yield part
    yield even


def _sums(
    table: Table, size: int, values: Float32[np.ndarray, "256 256 256"]
) -> Float64[np.ndarray, " {size}"]:
    """Return the sum over each token's colors."""
    sums = np.zeros(size)
    for red in range(0, 256, _RED_AT_ONCE):
        planes = slice(red, red + _RED_AT_ONCE)
        sums += np.bincount(table[planes].ravel(), values[planes].ravel(), minlength=size)
    return sums


def _of_tokens(
    values: Float64[np.ndarray, " token"], table: Table
) -> Float32[np.ndarray, "256 256 256"]:
    """Return the value of each color's token."""
    return values.astype(np.float32)[table]
