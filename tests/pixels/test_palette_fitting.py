import math
import warnings

import numpy as np
import pytest
from sklearn.cluster import KMeans

from igpt.errors import DataError
from igpt.pixels.palette import Palette
from igpt.pixels.palette_fitting import distortion_cells, fit_palette, measure_distortion


def smooth_images(images=6, size=16, seed=0):
    """Images of few enough colors that many pixels share one."""
    generator = np.random.default_rng(seed)
    corners = generator.integers(256, size=(images, 1, 1, 3))
    slopes = generator.integers(-4, 5, size=(2, images, 1, 1, 3))
    y, x = np.mgrid[:size, :size][..., None]
    return np.clip(corners + slopes[0] * y + slopes[1] * x, 0, 255).astype(np.uint8)


def squared_error(palette, images):
    points = images.reshape(-1, 3) / 127.5 - 1
    distances = ((points[:, None] - palette.colors.astype(np.float64)) ** 2).sum(-1)
    return distances.min(axis=1).sum()


def test_weighted_colors_give_as_little_loss_as_k_means_on_all_pixels():
    images = smooth_images()
    points = images.reshape(-1, 3) / 127.5 - 1
    inertias = [
        KMeans(24, n_init=1, max_iter=100, random_state=seed).fit(points).inertia_
        for seed in range(5)
    ]
    errors = [
        squared_error(fit_palette(images, 24, iterations=100, seed=seed), images)
        for seed in range(5)
    ]
    assert np.mean(errors) == pytest.approx(np.mean(inertias), rel=0.1)


def test_a_color_that_occurs_more_often_pulls_its_center():
    images = np.zeros((1, 1, 8, 3), np.uint8)
    images[0, 0, 3:] = [[8, 0, 0]] * 1 + [[255, 255, 255]] * 4
    palette = fit_palette(images, 2)
    # three pixels of red 0 and one of red 8 have the mean 2
    assert sorted(palette.rgb.tolist()) == [[2, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("grey", [False, True])
def test_images_of_one_color_are_said_to_be_flat(grey):
    flat = np.full((6, 8, 8, 3), 7, np.uint8)
    with pytest.raises(DataError, match=r"have one color only, #070707.*at least 2; look at"):
        fit_palette(flat, 512, grey=grey)


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize(
    "images", [np.random.default_rng(0).random((5, 8, 8, 3)), np.zeros((5, 8, 8, 4), np.uint8)]
)
def test_a_palette_is_fitted_to_bytes_of_three_channels_alone(images, grey):
    with pytest.raises(DataError, match=r"pixels should be uint8 \(\.\.\., 3\)"):
        fit_palette(images, 4, grey=grey)


def test_the_same_seed_gives_the_same_palette_and_another_seed_another():
    images = smooth_images()
    first, again, other = (fit_palette(images, 16, sample=70, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.colors, again.colors)
    assert first.fingerprint != other.fingerprint


def test_rounds_on_all_colors_make_up_for_a_small_sample():
    images = smooth_images(images=20)
    few, refined = (
        squared_error(fit_palette(images, 24, sample=60, refinements=rounds), images)
        for rounds in (0, 6)
    )
    whole = squared_error(fit_palette(images, 24, iterations=100), images)
    assert refined < 0.95 * few
    assert fit_palette(images, 200, sample=60, refinements=0).size == 200
    assert refined < 1.1 * whole


def test_a_round_on_all_colors_is_one_of_k_means():
    images = smooth_images()
    points = images.reshape(-1, 3) / 127.5 - 1
    start, after = (
        fit_palette(images, 8, sample=60, refinements=rounds).colors.astype(np.float64)
        for rounds in (0, 1)
    )
    nearest = ((points[:, None] - start) ** 2).sum(-1).argmin(axis=1)
    means = [points[nearest == center].mean(axis=0) for center in range(8)]
    np.testing.assert_allclose(after, means, atol=1e-6)


def test_as_many_colors_as_there_are_lose_nothing():
    images = smooth_images(images=2)
    distinct = len(np.unique(images.reshape(-1, 3), axis=0))
    distortion = measure_distortion(fit_palette(images, distinct), images)
    assert distortion.mean_squared_error == 0
    assert distortion.psnr_db is None
    assert distortion.colors_used == distinct


def test_too_few_colors_are_refused_with_a_size_that_works():
    greys = np.repeat(np.arange(17, dtype=np.uint8), 3).reshape(1, 1, 17, 3)
    message = "asked for 512 colors but these images have only 17; try --size 16"
    with pytest.raises(DataError, match=message):
        fit_palette(greys, 512)
    assert fit_palette(greys, 16).size == 16


def test_a_grey_palette_has_only_greys():
    palette = fit_palette(smooth_images(), 8, grey=True)
    np.testing.assert_array_equal(palette.colors, palette.colors[:, :1].repeat(3, axis=1))
    assert len(np.unique(palette.colors)) == 8


def test_grey_levels_are_counted_after_the_colors_are_gone():
    images = np.array([[[[255, 0, 0], [0, 130, 0], [0, 0, 255]]]], np.uint8)
    with pytest.raises(DataError, match="have only 2; try --size 2"):
        fit_palette(images, 3, grey=True)  # red and this green are both 76


def test_stopping_early_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_palette(smooth_images(), 32, iterations=1)


def test_distortion_is_worked_out_by_hand():
    palette = Palette(np.array([[-1, -1, -1], [1, 1, 1], [0, 0, 0]], np.float32))
    images = np.array([[[[3, 0, 0], [0, 0, 0]], [[255, 255, 251], [255, 255, 255]]]], np.uint8)
    distortion = measure_distortion(palette, images)
    assert distortion.mean_squared_error == (9 + 16) / 12
    assert distortion.psnr_db == pytest.approx(10 * math.log10(65025 * 12 / 25))
    assert distortion.colors_used == 2


def test_a_picture_shows_each_image_above_its_palette_version():
    palette, images = Palette(np.float32([[-1, -1, -1], [1, 1, 1]])), smooth_images(3, size=64)
    cells = distortion_cells(palette, images, columns=2)
    assert cells.shape == (4, 2, 64, 64, 3)
    np.testing.assert_array_equal(cells[0, 1], images[1])
    np.testing.assert_array_equal(cells[3, 0], palette.decode(palette.encode(images[2])))
    assert (cells[2:, 1] == 255).all()
