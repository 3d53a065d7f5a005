import numpy as np
import pytest

from igpt.pixels.nearest import nearest, nearest_table
from igpt.pixels.palette import pack_colors


def random_colors(size, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (size, 3)).astype(np.float32)


def random_pixels(*shape, seed=1):
    return np.random.default_rng(seed).integers(256, size=(*shape, 3), dtype=np.uint8)


def grey_colors(size):
    return np.repeat(np.linspace(-1, 1, size, dtype=np.float32)[:, None], 3, axis=1)


def repeated_colors(size):
    return np.concatenate([random_colors(size)] * 2)[::-1].copy()


def lattice_colors(size):
    """Centers in the middle between bytes, and on them: ties everywhere."""
    steps = np.arange(0, 256, size) / 127.5 - 1
    return np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3).astype(np.float32)


def by_distance(colors, pixels):
    """The lowest index of the least distance in float64, summed red, green, blue."""
    tokens = []
    for part in np.array_split(pixels.reshape(-1, 3) / 127.5 - 1, max(1, len(pixels) // 500)):
        r, g, b = ((part[:, i, None] - colors[:, i].astype(np.float64)) ** 2 for i in range(3))
        tokens.append(np.argmin(r + g + b, axis=1))
    return np.concatenate(tokens)


PALETTES = {
    "2": random_colors(2),
    "3": random_colors(3),
    "512": random_colors(512),
    "grey 16": grey_colors(16),
    "grey 256": grey_colors(256),
    "each twice": repeated_colors(100),
    "all the same": np.full((4, 3), 0.25, np.float32),
    "lattice": lattice_colors(51),
    "clustered": (random_colors(300) * 0.01).astype(np.float32),
}


@pytest.mark.parametrize("colors", PALETTES.values(), ids=PALETTES)
def test_the_nearest_center_is_found_and_of_equally_near_ones_the_first(colors):
    pixels = random_pixels(100_000)
    expected = by_distance(colors, pixels)
    table = nearest_table(colors)
    np.testing.assert_array_equal(table.reshape(-1)[pack_colors(pixels)], expected)
    np.testing.assert_array_equal(nearest(colors, pixels), expected)


@pytest.mark.slow
def test_the_largest_palette_is_exact():
    colors, pixels = random_colors(65_536), random_pixels(500)
    table = nearest_table(colors)
    np.testing.assert_array_equal(
        table.reshape(-1)[pack_colors(pixels)], by_distance(colors, pixels)
    )


def test_neighbors_across_every_border_inside_the_table_are_exact():
    colors = random_colors(40)
    edges = np.array([0, 7, 8, 15, 16, 63, 64, 127, 128, 191, 192, 255], np.uint8)
    pixels = np.stack(np.meshgrid(edges, edges, edges), -1).reshape(-1, 3)
    tokens = nearest_table(colors).reshape(-1)[pack_colors(pixels)]
    np.testing.assert_array_equal(tokens, by_distance(colors, pixels))
