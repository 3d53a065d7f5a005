"""The colors behind a token: a code that wastes nothing and leaves nothing out."""

import math

import numpy as np
import pytest

from igpt.errors import DataError
from igpt.pixels.nearest import nearest
from igpt.pixels.palette import Palette, pack_colors, unpack_colors
from igpt.pixels.shades import Shades, fit_shades

WIDTHS = (0.0, 1.0)
"""Few, as each blurs a cube of 2^24."""


@pytest.fixture(scope="module")
def images():
    """Twenty images of dark colors close to each other."""
    return np.random.default_rng(0).integers(60, 90, (20, 6, 6, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def shades(images):
    colors = np.random.default_rng(1).uniform(-1, 1, (12, 3)).astype(np.float32)
    return fit_shades(Palette(colors), images, widths=WIDTHS)


def every_color(red):
    """All colors of one plane of the cube."""
    return unpack_colors(np.arange(red << 16, (red + 1) << 16, dtype=np.uint32))


def test_probabilities_of_every_tokens_colors_sum_to_one(shades):
    sums = np.zeros(shades.palette.size)
    for red in range(256):
        colors = every_color(red)
        tokens, nats = shades.palette.encode(colors), shades.nats(colors)
        sums += np.bincount(tokens, np.exp(-nats), minlength=len(sums))
    assert sums == pytest.approx(1, abs=1e-5)  # 0.5 if a token without training pixels had none


def blurred(colors, pixels, *, width):
    """How many training pixels a Gaussian around each color counts, in float64, one by one."""
    radius = int(4 * width + 0.5)
    steps = np.arange(-radius, radius + 1)
    kernel = np.exp(-(steps**2) / (2 * width**2))
    kernel /= kernel.sum()
    away = np.abs(colors[:, None].astype(int) - pixels[None].astype(int))
    near = np.where(away <= radius, kernel[np.minimum(away, radius) + radius], 0)
    return near.prod(axis=2).sum(axis=1)


def test_a_color_costs_what_counts_kernels_and_sizes_worked_out_by_hand_say(images):
    palette = Palette(np.array([[-0.4, -0.4, -0.4], [1, 1, 1]], np.float32))
    images = images[:2]
    shades = fit_shades(palette, images, widths=WIDTHS)
    pixels = images.reshape(-1, 3)
    own = [every_color(red) for red in range(256)]
    own = np.concatenate([colors[nearest(palette.colors, colors) == 0] for colors in own])
    near = own[((own >= 56) & (own < 94)).all(axis=1)]  # the pixels lie from 60 to 89
    spread = sum(blurred(part, pixels, width=1.0).sum() for part in np.array_split(near, 64))
    assert (nearest(palette.colors, pixels) == 0).all()
    for color in (pixels[0], pixels[1] + np.uint8(1), np.array([3, 3, 3], np.uint8)):
        exact = (pixels == color).all(axis=1).sum() / len(pixels)
        parts = [exact, blurred(color[None], pixels, width=1.0)[0] / spread, 1 / len(own)]
        wanted = -math.log(np.dot(shades.weights, parts))
        assert shades.nats(color[None]) == pytest.approx(wanted, rel=1e-5)


def test_where_training_pixels_have_few_colors_counts_weigh_most():
    few = np.repeat(np.arange(0, 240, 60, dtype=np.uint8), 3 * 90).reshape(10, 6, 6, 3)
    mixed = np.random.default_rng(0).permuted(few.reshape(-1, 3), axis=0).reshape(few.shape)
    palette = Palette(np.array([[-1, -1, -1], [1, 1, 1]], np.float32))
    exact, blurred, even = fit_shades(palette, mixed, widths=WIDTHS).weights
    assert exact > 0.95 > 0.05 > blurred + even


def test_where_they_have_any_color_no_count_weighs_most():
    noise = np.random.default_rng(0).integers(256, size=(10, 16, 16, 3), dtype=np.uint8)
    palette = Palette(np.array([[-1, -1, -1], [1, 1, 1]], np.float32))
    assert fit_shades(palette, noise, widths=WIDTHS).weights[-1] > 0.9


def test_what_was_kept_says_the_same_and_of_nothing_else(shades, images, tmp_path):
    shades = Shades(shades.palette, shades.colors, shades.counts, (0.5, 0.2, 0.1, 0.1, 0.05, 0.05))
    shades.save(tmp_path / "shades.npy", made_from="these")
    again = Shades.load(tmp_path / "shades.npy", shades.palette, made_from="these")
    assert again.weights == shades.weights
    assert again.colors.tolist() == shades.colors.tolist()
    assert again.counts.sum() == images[..., 0].size
    others = Palette(-shades.palette.colors)
    for palette, made_from in ((others, "these"), (shades.palette, "those")):
        with pytest.raises(DataError, match="made from something else"):
            Shades.load(tmp_path / "shades.npy", palette, made_from=made_from)


def test_colors_are_counted_in_all_images(shades, images):
    distinct, counts = np.unique(pack_colors(images), return_counts=True)
    assert shades.colors.tolist() == distinct.tolist()
    assert shades.counts.tolist() == counts.tolist()
