"""The nearest of many colors, exactly.

The distance from a byte color (r, g, b) to a center c is, in float64 and summed in this order,

    (r / 127.5 - 1 - c[0]) ** 2 + (g / 127.5 - 1 - c[1]) ** 2 + (b / 127.5 - 1 - c[2]) ** 2

and of equally near centers the first one counts. `nearest` compares a color with every center;
`nearest_table` answers for all 2^24 colors at once, and gives the very same answers.

The table splits the cube of colors into ever smaller boxes. Take the center whose greatest distance
to a box is least: how much nearer another center is than this one is linear in the color, so it is
most at a corner, which each axis chooses for itself. Where even that is less than nothing, the
other center cannot win in the box, and soon few centers are left. For 512 centers this leaves a
hundredth of the distances to compare.
"""

import itertools

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt16

Table = UInt16[np.ndarray, "256 256 256"]
"""The nearest center of every color, by red, green and blue."""

FEW_COLORS = 65_536
"""Distinct colors up to which `nearest` is quicker than making the table."""

_VALUES = np.arange(256) / 127.5 - 1
_DISTANCES_AT_ONCE = 2**17  # 1 MiB as float64, which stays in the cache of a core
_ROUNDING = 1e-12  # distances are at most 12, so float64 gets them right to 1e-14


def nearest(
    centers: Float32[np.ndarray, "center 3"], colors: UInt8[np.ndarray, "color 3"]
) -> UInt16[np.ndarray, " color"]:
    """Return the nearest center of each color; of equally near ones the first."""
    red, green, blue = centers.astype(np.float64).T
    tokens = np.empty(len(colors), np.uint16)
    step = max(1, _DISTANCES_AT_ONCE // len(centers))
    for start in range(0, len(colors), step):
        r, g, b = _VALUES[colors[start : start + step].T, None]  # each (color, 1)
        distances = (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2
        tokens[start : start + step] = distances.argmin(axis=1)
    return tokens


def nearest_table(centers: Float32[np.ndarray, "center 3"]) -> Table:
    """Return what `nearest` returns for every color there is."""
    table = np.empty((256, 256, 256), np.uint16)
    _, first = np.unique(centers, axis=0, return_index=True)  # a repeated center never wins
    _fill(table, (0, 0, 0), 256, centers.astype(np.float64), np.sort(first))
    return table


def _fill(
    table: Table,
    corner: tuple[int, int, int],
    side: int,
    centers: np.ndarray,
    candidates: Int64[np.ndarray, " candidate"],
) -> None:
    """Fill the box of `side`^3 colors at `corner`, where only `candidates` (ascending) can win."""
    ends = _VALUES[np.array([corner, np.add(corner, side - 1)])]  # (2, 3)
    squares = (ends[..., None] - centers[candidates].T) ** 2  # (2, 3, candidate)
    rival = squares.max(axis=0).sum(axis=0).argmin()
    nearer_by = (squares[..., [rival]] - squares).max(axis=0).sum(axis=0)
    candidates = candidates[nearer_by >= -_ROUNDING]

    box = tuple(slice(start, start + side) for start in corner)
    if len(candidates) == 1:
        table[box] = candidates[0]
    elif side == 1 or side**3 * len(candidates) <= _DISTANCES_AT_ONCE:
        red, green, blue = (
            (_VALUES[axis, None] - offsets) ** 2
            for axis, offsets in zip(box, centers[candidates].T, strict=True)
        )  # each (side, candidate)
        distances = (red[:, None] + green)[:, :, None] + blue
        table[box] = candidates[distances.argmin(axis=-1)]
    else:
        half = side // 2
        red, green, blue = ((start, start + half) for start in corner)
        for inner in itertools.product(red, green, blue):
            _fill(table, inner, half, centers, candidates)
