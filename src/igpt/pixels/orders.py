"""Reading orders: which pixel is read first, which next (equation 1's permutation).

    reading_order("raster", 3)     # [0, 1, 2, 3, 4, 5, 6, 7, 8], pixel numbers row by row
    reading_order("columns", 3)    # [0, 3, 6, 1, 4, 7, 2, 5, 8]
    reading_order("spiral", 3)     # [0, 1, 2, 5, 8, 7, 6, 3, 4], inwards from the top left corner
    reading_order("hilbert", 4)    # one step from pixel to pixel, and near ones stay near
    reading_order("random:7", 3)   # drawn once from the seed 7, and the same for every image

Only names and lists of numbers here, and nothing slow to import; what is read in which order is for
`igpt.pixels.tokenizer` to say.
"""

from collections.abc import Callable, Iterator

from igpt.errors import ConfigError, nearest_name
from igpt.values import SEEDS

RASTER = "raster"
_RANDOM = "random:"


def check_order(name: str) -> None:
    """See that there is a reading order of this name.

    Raises:
        ConfigError: There is none.
    """
    if name in _ORDERS:
        return
    seed = name.removeprefix(_RANDOM)
    if seed == name:
        known = nearest_name(name, [*_ORDERS, "random:SEED"])
        raise ConfigError(f"there is no reading order {name!r}{known}")
    if not (seed.isdecimal() and seed.isascii() and int(seed) < SEEDS and str(int(seed)) == seed):
        raise ConfigError(
            f"a random reading order has a whole number under {SEEDS:,} for its seed, such as "
            f"random:0, got {name!r}"
        )


def reading_order(name: str, size: int) -> list[int]:
    """Return the numbers of the pixels of a square image, row by row, in the order of reading.

    Args:
        name: raster, columns, spiral, hilbert or random:SEED.
        size: Side of the image.

    Raises:
        ConfigError: There is no such order.
    """
    check_order(name)
    if name in _ORDERS:
        return [row * size + column for row, column in _ORDERS[name](size)]
    from igpt.randomness import Stream, stream  # imports NumPy, which names do not need

    seed = int(name.removeprefix(_RANDOM))
    return stream(Stream.READING_ORDER, seed).permutation(size**2).tolist()


Places = Iterator[tuple[int, int]]
"""Rows and columns, one pixel after the other."""


def _rows(size: int) -> Places:
    return ((row, column) for row in range(size) for column in range(size))


def _columns(size: int) -> Places:
    return ((row, column) for column in range(size) for row in range(size))


def _spiral(size: int) -> Places:
    """Go around clockwise, from the top left corner inwards."""
    for ring in range((size + 1) // 2):
        last = size - 1 - ring
        yield from ((ring, column) for column in range(ring, last + 1))
        yield from ((row, last) for row in range(ring + 1, last + 1))
        if last > ring:
            yield from ((last, column) for column in range(last - 1, ring - 1, -1))
            yield from ((row, ring) for row in range(last - 1, ring, -1))


def _hilbert(size: int) -> Places:
    """Follow the Hilbert curve, generalized to any side: of a power of two it is Hilbert's own.

    Source: Červený, "gilbert", a space-filling curve for rectangles of arbitrary size.
    """
    return ((y, x) for x, y in _curve((0, 0), (size, 0), (0, size)))


def _curve(start: tuple[int, int], along: tuple[int, int], across: tuple[int, int]) -> Places:
    """Fill the rectangle that two vectors span, from its corner `start` along the first."""
    (x, y), (ax, ay), (bx, by) = start, along, across
    length, breadth = abs(ax + ay), abs(bx + by)
    step, side = (_sign(ax), _sign(ay)), (_sign(bx), _sign(by))
    if breadth == 1 or length == 1:
        count, (dx, dy) = (length, step) if breadth == 1 else (breadth, side)
        yield from ((x + dx * number, y + dy * number) for number in range(count))
        return
    half, half_across = (ax // 2, ay // 2), (bx // 2, by // 2)
    if 2 * length > 3 * breadth:  # long: two halves, side by side
        if abs(sum(half)) % 2 and length > 2:
            half = (half[0] + step[0], half[1] + step[1])
        yield from _curve(start, half, across)
        rest = (ax - half[0], ay - half[1])
        yield from _curve((x + half[0], y + half[1]), rest, across)
        return
    if abs(sum(half_across)) % 2 and breadth > 2:
        half_across = (half_across[0] + side[0], half_across[1] + side[1])
    (hx, hy), (gx, gy) = half, half_across
    yield from _curve(start, half_across, half)  # out, along the other side, and back
    yield from _curve((x + gx, y + gy), along, (bx - gx, by - gy))
    yield from _curve(
        (x + ax - step[0] + gx - side[0], y + ay - step[1] + gy - side[1]),
        (-gx, -gy),
        (hx - ax, hy - ay),
    )


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


_ORDERS: dict[str, Callable[[int], Places]] = {
    RASTER: _rows,
    "columns": _columns,
    "spiral": _spiral,
    "hilbert": _hilbert,
}
