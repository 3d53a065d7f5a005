"""Finding a palette: k-means over the colors of training pixels, and how much it loses.

    palette = fit_palette(images, 512)
    print(measure_distortion(palette, test_images).psnr_db)

The method is k-means on the distinct colors, each weighted by how often it occurs, which is k-means
on the pixels in less time (Chen et al. 2020, section 3.2). scikit-learn's does it, from k-means++
on some of the colors; where there are many, it sees those of some pixels only, and rounds on all of
them follow, in which the exact table of `igpt.pixels.nearest` gives the nearest center of each. The
colors keep k-means' order, which means nothing.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped, UInt8, UInt32
from tqdm import tqdm

from igpt.errors import ConfigError, DataError
from igpt.pixels.images import to_grey
from igpt.pixels.nearest import FEW_COLORS, nearest, nearest_table
from igpt.pixels.palette import MOST_COLORS, Palette, pack_colors, require_pixels, unpack_colors
from igpt.randomness import Stream, stream

_START_COLORS = 50_000  # k-means++ takes longer than all iterations if it weighs every color
_COUNTED_AT_ONCE = 2**24
_OVER = 1.8  # how far a center goes towards its mean: 2 would be no gain, 1 is slower


def fit_palette(
    images: Shaped[np.ndarray, "image height width _channels"],
    size: int,
    *,
    grey: bool = False,
    sample: int = 200_000,
    seed: int = 0,
    iterations: int = 30,
    refinements: int = 25,
) -> Palette:
    """Return the palette of `size` colors that loses little of these images.

    The defaults take under half a minute for 512 colors of all 51 million pixels of CIFAR-10, and
    come within half a percent of the squared error that hundreds of rounds would reach.

    Args:
        images: What the palette is for, uint8 of three channels; training images only.
        size: Number of colors.
        grey: Whether to find grey levels instead, from the luminance of each pixel.
        sample: Where there are more distinct colors than this, scikit-learn's rounds see so many
            pixels only, drawn without replacement.
        seed: What the drawn pixels and the first colors depend on.
        iterations: At most this many rounds of scikit-learn's k-means.
        refinements: Rounds on all colors after a sample.

    Raises:
        ConfigError: No palette has so many colors, or so few.
        DataError: There are fewer distinct colors than `size`, or there is one only; or these are
            not uint8 of three channels.
    """
    require_pixels(images)
    if not 2 <= size <= MOST_COLORS:
        raise ConfigError(f"a palette has 2 to {MOST_COLORS} colors, got --size {size}")
    from sklearn.cluster import KMeans  # takes a second
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    generator = stream(Stream.PALETTE, seed)
    doing = tqdm(desc="palette: counting colors", bar_format="{desc} ({elapsed})", disable=None)
    pixels = to_grey(images.reshape(-1, 3)) if grey else images.reshape(-1, 3)
    all_colors = distinct, counts = count_colors(pixels)
    if len(distinct) == 1:
        color = "#" + bytes(unpack_colors(distinct)[0]).hex()
        raise DataError(
            f"these images have one color only, {color}, and a palette has at least 2; look at "
            "some of them, and prepare others if they should not be flat"
        )
    if len(distinct) < size:
        raise DataError(
            f"asked for {size} colors but these images have only {len(distinct)}; "
            f"try --size {_smaller_size(len(distinct))}"
        )
    sampled = len(distinct) > sample
    if sampled:
        drawn, how_often = count_colors(pixels[_draw(len(pixels), sample, generator)])
        sampled = len(drawn) >= size
        if sampled:
            distinct, counts = drawn, how_often
    points = (unpack_colors(distinct) / 127.5 - 1).astype(np.float32)
    start = _draw(len(points), min(max(_START_COLORS, size), len(points)), generator)
    # On one thread: several add up their shares in the order in which they happen to end.
    with doing, threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the docstring says "at most"
        doing.set_description_str(f"palette: choosing {size} of {len(start):,} colors")
        first = KMeans(size, n_init=1, max_iter=1, random_state=int(generator.integers(2**32)))
        first.fit(points[start], sample_weight=counts[start])
        doing.set_description_str(f"palette: k-means over {len(points):,} colors")
        means = KMeans(size, init=first.cluster_centers_, n_init=1, max_iter=iterations)
        means.fit(points, sample_weight=counts)
    centers = means.cluster_centers_
    if sampled:
        centers = _refined(centers, *all_colors, rounds=refinements)
    return Palette(np.clip(centers, -1, 1).astype(np.float32))


def _refined(
    centers: Float32[np.ndarray, "center 3"],
    distinct: UInt32[np.ndarray, " color"],
    counts: Int64[np.ndarray, " color"],
    *,
    rounds: int,
) -> Float64[np.ndarray, "center 3"]:
    """Return the centers after more rounds of k-means, on all colors.

    A center goes beyond the mean of its colors, by less than as far again, in all rounds but the
    last: for the colors it has that loses nothing, and it gets sooner to where it will end.
    """
    colors = unpack_colors(distinct)
    channels = colors.T / 127.5 - 1  # (3, color)
    moved = centers.astype(np.float64)
    for number in tqdm(range(rounds), desc="palette", unit="round", disable=None):
        shown = np.clip(moved, -1, 1).astype(np.float32)
        few = len(distinct) <= FEW_COLORS
        chosen = nearest(shown, colors) if few else nearest_table(shown).reshape(-1)[distinct]
        weights = np.bincount(chosen, counts, minlength=len(moved))[:, None]
        sums = [np.bincount(chosen, counts * values, minlength=len(moved)) for values in channels]
        means = np.stack(sums, axis=1) / np.maximum(weights, 1)
        over = _OVER if number + 1 < rounds else 1.0
        moved = np.where(weights > 0, moved + over * (means - moved), moved)
    return moved


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """What is lost when images are shown in a palette's colors."""

    mean_squared_error: float
    """Mean over pixels and channels, on the scale from 0 to 255."""
    psnr_db: float | None
    """Peak signal-to-noise ratio, 10 log10(255^2 / mean squared error), in decibels; None where
    nothing is lost, since it is infinite then, which JSON cannot say."""
    colors_used: int
    """Colors of the palette that are the nearest to some pixel."""


def measure_distortion(
    palette: Palette, images: UInt8[np.ndarray, "image height width 3"]
) -> Distortion:
    """Return what encoding and decoding every pixel of `images` loses, in bytes as shown."""
    distinct, counts = count_colors(images.reshape(-1, 3))
    colors = unpack_colors(distinct)
    tokens = palette.encode(colors)
    errors = (colors.astype(np.int64) - palette.decode(tokens)) ** 2
    error = int(errors.sum(axis=1) @ counts) / images.size
    return Distortion(
        mean_squared_error=error,
        psnr_db=10 * math.log10(255**2 / error) if error else None,
        colors_used=len(np.unique(tokens)),
    )


def distortion_cells(
    palette: Palette, images: UInt8[np.ndarray, "image height width 3"], columns: int = 8
) -> UInt8[np.ndarray, "row {columns} height width 3"]:
    """Return images to look at: a row of them, below it the same in the palette's colors.

    Images stand `columns` to a row; the last row is filled up with white.
    """
    count, rows = len(images), -(-len(images) // columns)
    cells = np.full((rows * columns, 2, *images.shape[1:]), 255, np.uint8)
    cells[:count, 0] = images
    cells[:count, 1] = palette.decode(palette.encode(images))
    cells = cells.reshape(rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    return cells.reshape(2 * rows, columns, *images.shape[1:])


def _draw(total: int, number: int, generator: np.random.Generator) -> Int64[np.ndarray, " number"]:
    """Return `number` distinct numbers below `total`, ascending, in memory that `number` bounds."""
    if number == total:
        return np.arange(total)
    drawn = np.unique(generator.integers(total, size=number))
    while len(drawn) < number:
        drawn = np.union1d(drawn, generator.integers(total, size=number))
    return np.sort(generator.choice(drawn, number, replace=False))


def count_colors(
    colors: UInt8[np.ndarray, "pixel 3"],
) -> tuple[UInt32[np.ndarray, " color"], Int64[np.ndarray, " color"]]:
    """Return the distinct colors, packed and ascending, and how often each occurs."""
    counts = np.zeros(2**24, np.int64)
    for start in range(0, len(colors), _COUNTED_AT_ONCE):
        packed = pack_colors(colors[start : start + _COUNTED_AT_ONCE])
        counts += np.bincount(packed, minlength=2**24)
    distinct = np.flatnonzero(counts)
    return distinct.astype(np.uint32), counts[distinct]


def _smaller_size(colors: int) -> int:
    """Return the greatest power of two that so many colors allow."""
    return 2 ** (colors.bit_length() - 1)
