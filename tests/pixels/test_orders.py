"""Reading orders: every pixel once, and each as its name says."""

import numpy as np
import pytest

from igpt.errors import ConfigError
from igpt.pixels.orders import check_order, reading_order

ORDERS = ("raster", "columns", "spiral", "hilbert", "random:0")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 11, 12, 14, 17])
def test_every_order_reads_every_pixel_once(order, size):
    assert sorted(reading_order(order, size)) == list(range(size**2))


def test_orders_are_those_of_their_names():
    assert reading_order("raster", 3) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert reading_order("columns", 3) == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    assert reading_order("spiral", 3) == [0, 1, 2, 5, 8, 7, 6, 3, 4]
    assert reading_order("spiral", 4) == [0, 1, 2, 3, 7, 11, 15, 14, 13, 12, 8, 4, 5, 6, 10, 9]


@pytest.mark.parametrize("order", ["spiral", "hilbert"])
def test_a_spiral_and_a_hilbert_curve_of_any_size_go_from_neighbor_to_neighbor(order):
    for size in range(2, 33):
        places = np.stack(np.divmod(reading_order(order, size), size), axis=1)
        assert (np.abs(np.diff(places, axis=0)).sum(axis=1) == 1).all(), size


def textbook_hilbert(size, number):
    """Column and row of a point of Hilbert's curve (Wikipedia, "Hilbert curve", d2xy)."""
    x = y = 0
    side = 1
    while side < size:
        right = 1 & (number // 2)
        up = 1 & (number ^ right)
        if up == 0:
            if right == 1:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        x, y = x + side * right, y + side * up
        number //= 4
        side *= 2
    return x, y


@pytest.mark.parametrize("size", [2, 4, 8, 16, 32])
def test_of_a_power_of_two_the_curve_is_hilberts_own(size):
    places = [textbook_hilbert(size, number) for number in range(size**2)]
    found = reading_order("hilbert", size)
    assert found in ([y * size + x for x, y in places], [x * size + y for x, y in places])


def test_a_random_order_is_its_seeds():
    assert reading_order("random:3", 6) == reading_order("random:3", 6)
    assert reading_order("random:3", 6) != reading_order("random:4", 6)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hilbrt", "did you mean 'hilbert'"),
        ("random", "there is no reading order 'random'"),
        ("random:", "a whole number under 4,294,967,296 .* got 'random:'"),
        ("random:-1", "such as random:0, got 'random:-1'"),
        ("random:01", "got 'random:01'"),
        ("random:4294967296", "got 'random:4294967296'"),
        ("", "there is no reading order ''"),
    ],
)
def test_orders_that_do_not_exist_are_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        check_order(name)
