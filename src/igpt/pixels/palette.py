"""Palettes: the few hundred colors that stand in for all of them.

A palette makes one token of each pixel. The published models share one of 512 colors,
found by k-means over training pixels (Chen et al. 2020, section 3.2), so a 32x32 image
is 1,024 tokens instead of 3,072 bytes.

    palette = Palette.load(Path("palette-512.npy"))
    tokens = palette.encode(image)  # (height, width), 0 <= token < 512
    image = palette.decode(tokens)  # (height, width, 3), bytes

A few colors are looked up one by one. Once many have been asked for, a table of all 2^24 is made,
which takes half a second and 34 MB of memory; the tokens are the same either way. Everything here
is NumPy on the CPU. The order in which a model reads the tokens is not decided here but in
`igpt.pixels.tokenizer`.
"""

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer, Shaped, UInt8, UInt16, UInt32

from igpt.arrays import read_array
from igpt.errors import DataError
from igpt.files import written_aside
from igpt.paths import AnyPath
from igpt.pixels.nearest import FEW_COLORS, Table, nearest, nearest_table

MOST_COLORS = 65_536
"""So many colors a palette has at most; a token then takes two bytes."""

_PIXELS_AT_ONCE = 2**17
"""Pixels that one thread looks up at a time."""

_FEW_PIXELS = 2**14
"""Below so many, sorting is quicker than to go over all colors: 0.2 ms, not 2.2, for 16 images of
14x14 pixels."""

_MAKING_TABLE = threading.Lock()


class Palette:
    """An ordered set of colors; it never changes, so tokens keep their meaning."""

    colors: Float32[np.ndarray, "size 3"]
    """Red, green and blue of each color, in [-1, 1]; read-only."""
    rgb: UInt8[np.ndarray, "size 3"]
    """The colors as bytes; read-only."""

    def __init__(self, colors: np.ndarray, *, few_colors: int = FEW_COLORS) -> None:
        """Take (size, 3) floats in [-1, 1], and refuse everything else.

        Args:
            colors: Red, green and blue of each.
            few_colors: Distinct colors that are looked up one by one before the table is made.

        Raises:
            DataError: `colors` is no palette; the message says why.
        """
        _check(colors)
        self.colors = colors.astype("<f4", order="C")
        self.rgb = np.rint(127.5 * (self.colors.astype(np.float64) + 1)).astype(np.uint8)
        self.colors.flags.writeable = self.rgb.flags.writeable = False
        self._few_colors = few_colors
        self._asked = 0
        self._table: Table | None = None

    @property
    def size(self) -> int:
        """How many colors there are; tokens are less than this."""
        return len(self.colors)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that tell this palette from others."""
        return hashlib.sha256(self.colors.tobytes()).hexdigest()[:12]

    @classmethod
    def load(cls, path: AnyPath) -> "Palette":
        """Return the palette in an `.npy` file.

        Raises:
            DataError: The file is missing or broken, or holds something else.
        """
        path = Path(path)
        colors = read_array(
            path, dtype=np.number, advice="fit the palette again, or give the path of another"
        )
        try:
            return cls(colors)
        except DataError as error:
            raise DataError(f"{path} holds no palette: {error}") from error

    def save(self, path: AnyPath) -> None:
        """Write the palette as an `.npy` file, whole or not at all.

        Raises:
            DataError: The disk is full, or the path cannot be written to.
        """
        npy = io.BytesIO()  # NumPy writing to the disk itself would not say why it failed
        np.save(npy, self.colors)
        with written_aside(Path(path)) as aside:
            aside.write_bytes(npy.getbuffer())

    def encode(
        self, pixels: Shaped[np.ndarray, "*shape _channels"]
    ) -> UInt16[np.ndarray, "*shape"]:
        """Return the token of the nearest color for each pixel; of equally near ones the lowest.

        Distances are those of `igpt.pixels.nearest`, exactly, whichever way they are found.

        Raises:
            DataError: They are not uint8, or not of three channels.
        """
        require_pixels(pixels)
        if self._table is None:
            packed = pack_colors(pixels).reshape(-1)
            distinct = _distinct(packed)
            self._asked += distinct.size
            if self._asked < self._few_colors:
                tokens = nearest(self.colors, unpack_colors(distinct))
                return tokens[np.searchsorted(distinct, packed)].reshape(pixels.shape[:-1])
            with _MAKING_TABLE:
                if self._table is None:
                    self._table = nearest_table(self.colors)
        return _look_up(self._table, pixels.reshape(-1, 3)).reshape(pixels.shape[:-1])

    def decode(self, tokens: Integer[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
        """Return the color of each token, as bytes.

        Raises:
            DataError: A token is not one of this palette's.

        Source: the published code, rgb = round(127.5 * (color + 1)).
        """
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.size:
            raise DataError(
                f"tokens of a {self.size}-color palette lie in [0, {self.size}), but these go "
                f"from {tokens.min()} to {tokens.max()}; were they made with another palette?"
            )
        return self.rgb[tokens]


def require_pixels(pixels: Shaped[np.ndarray, "..."]) -> None:
    """See that an array holds bytes of red, green and blue, so that no other passes for colors.

    Raises:
        DataError: It does not.
    """
    if pixels.dtype != np.uint8 or pixels.shape[-1:] != (3,):
        raise DataError(
            f"pixels should be uint8 (..., 3), got {pixels.dtype} of shape {pixels.shape}; scale "
            "levels to 0 to 255, put the channels last, and leave transparency out"
        )


def pack_colors(pixels: UInt8[np.ndarray, "*shape 3"]) -> UInt32[np.ndarray, "*shape"]:
    """Return each color as one number below 2^24, red in its highest byte."""
    packed = pixels[..., 0].astype(np.uint32)
    for channel in (1, 2):
        packed <<= 8
        packed |= pixels[..., channel]
    return packed


def unpack_colors(packed: UInt32[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Return the colors that `pack_colors` packed."""
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1).astype(np.uint8)


def _look_up(table: Table, pixels: UInt8[np.ndarray, "pixel 3"]) -> UInt16[np.ndarray, " pixel"]:
    """Return the entry of each pixel: in pieces whose numbers stay in the cache, on all cores."""
    entries = table.reshape(-1)
    tokens = np.empty(len(pixels), np.uint16)

    def look_up_from(start: int) -> None:
        part = slice(start, start + _PIXELS_AT_ONCE)
        # No color is out of range: to "clip" spares NumPy a copy, in which it would check that.
        entries.take(pack_colors(pixels[part]), mode="clip", out=tokens[part])

    starts = range(0, len(pixels), _PIXELS_AT_ONCE)
    if len(starts) <= 1:  # no more than 128 images of 32x32
        for start in starts:
            look_up_from(start)
    else:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(look_up_from, starts))  # NumPy lets go of Python's lock
    return tokens


def _distinct(packed: UInt32[np.ndarray, " pixel"]) -> UInt32[np.ndarray, " color"]:
    """Return what `np.unique` does, many times faster for many pixels."""
    if packed.size < _FEW_PIXELS:
        return np.unique(packed)
    seen = np.zeros(2**24, bool)
    seen[packed] = True
    return np.flatnonzero(seen).astype(np.uint32)


def _check(colors: np.ndarray) -> None:
    if colors.dtype.kind != "f":
        raise DataError(
            f"a palette's colors are floats in [-1, 1], got {colors.dtype}; "
            "divide bytes by 127.5 and subtract 1"
        )
    if colors.ndim != 2 or colors.shape[1] != 3 or not 2 <= len(colors) <= MOST_COLORS:
        raise DataError(
            f"a palette has the shape (size, 3) with 2 to {MOST_COLORS:,} colors, got "
            f"{colors.shape}; give one row of red, green and blue for each color"
        )
    if not np.isfinite(colors).all():
        raise DataError("these colors hold NaN or infinity, where numbers are wanted; fit it again")
    if np.abs(colors).max() > 1:
        raise DataError(
            f"a palette's colors lie in [-1, 1], but these go from {colors.min():g} to "
            f"{colors.max():g}; divide bytes by 127.5 and subtract 1"
        )
