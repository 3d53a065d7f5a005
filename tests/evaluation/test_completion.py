import dataclasses

import numpy as np
import pytest
from tests.conftest import TINY, random_model
from tests.conftest import random_records as records

from igpt.errors import ConfigError
from igpt.evaluation.completion import complete_images, completion_rows, sample_images
from igpt.model.pretrained import Pretrained
from igpt.model.sampling import SamplingConfig
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


def test_given_rows_are_kept_as_the_palette_shows_them(pretrained):
    images = records(3).images
    shown = pretrained.tokenizer.decode(pretrained.tokenizer.encode(images))
    done = complete_images(pretrained, images, rows=3, samples=5)
    assert done.shape == (3, 5, 4, 4, 3)
    assert (done[:, :, :3] == shown[:, None, :3]).all()
    assert len({row.tobytes() for row in done[0, :, 3]}) > 1  # samples differ
    colors = {tuple(color) for color in pretrained.palette.rgb}
    assert {tuple(color) for color in done.reshape(-1, 3)} <= colors


def test_the_same_seed_draws_the_same_pixels(pretrained):
    draw = [sample_images(pretrained, 4, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])


def test_without_temperature_every_sample_is_the_likeliest(pretrained):
    done = complete_images(
        pretrained,
        records(2).images,
        rows=1,
        samples=3,
        sampling=SamplingConfig(temperature=0.0),
        batch_size=4,
    )
    assert (done == done[:, :1]).all()


def test_the_picture_is_given_then_completions_then_the_original(pretrained):
    images = records(2).images
    done = complete_images(pretrained, images, rows=2, samples=3)
    cells = completion_rows(pretrained, images, done, rows=2)
    assert cells.shape == (2, 5, 4, 4, 3)
    assert (cells[:, 0, 2:] == 128).all()
    assert np.array_equal(cells[:, 1:4], done)
    assert np.array_equal(cells[:, 4], images)


@pytest.mark.parametrize("rows", [-1, 4])
def test_rows_outside_the_image_are_refused(pretrained, rows):
    with pytest.raises(ConfigError, match=r"between 0 and 3 for 4x4 images, got .*half .* is 2"):
        complete_images(pretrained, records().images, rows=rows)


def test_no_samples_are_refused(pretrained):
    with pytest.raises(ConfigError, match="samples must be at least 1, got 0"):
        complete_images(pretrained, records().images, rows=2, samples=0)


def square_map(*ones):
    region = np.zeros((4, 4), bool)
    for row, column in ones:
        region[row, column] = True
    return region


MIDDLE = square_map((1, 1), (1, 2), (2, 1), (2, 2))


@pytest.fixture
def bert(tiny_palette):
    model = random_model(dataclasses.replace(TINY, causal=False))
    return Pretrained(model=model, tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.mark.parametrize("sampling", [{}, {"passes": 2}, {"most_certain_first": True}])
def test_a_network_of_hidden_pixels_draws_any_region_and_keeps_all_else(bert, sampling):
    images = records(3).images
    shown = bert.tokenizer.decode(bert.tokenizer.encode(images))
    draw = [
        complete_images(
            bert, images, region=MIDDLE, samples=6, seed=seed, sampling=SamplingConfig(**sampling)
        )
        for seed in (1, 1, 2)
    ]
    assert (draw[0][:, :, ~MIDDLE] == shown[:, None, ~MIDDLE]).all()
    assert len({sample[MIDDLE].tobytes() for sample in draw[0][0]}) > 1
    assert np.array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])
    cells = completion_rows(bert, images, draw[0], region=MIDDLE)
    assert ((cells[:, 0] == 128).all(axis=-1) == MIDDLE).all()


def test_a_network_of_hidden_pixels_completes_rows_and_draws_from_nothing(bert):
    images = records(2).images
    shown = bert.tokenizer.decode(bert.tokenizer.encode(images))
    done = complete_images(bert, images, rows=3, samples=2)
    assert (done[:, :, :3] == shown[:, None, :3]).all()
    assert sample_images(bert, 3).shape == (3, 4, 4, 3)


def test_an_autoregressive_network_draws_what_it_reads_last(pretrained):
    images = records(2).images
    last = square_map((2, 3), (3, 0), (3, 1), (3, 2), (3, 3))
    shown = pretrained.tokenizer.decode(pretrained.tokenizer.encode(images))
    done = complete_images(pretrained, images, region=last, samples=3)
    assert (done[:, :, ~last] == shown[:, None, ~last]).all()
    by_rows = np.arange(4)[:, None].repeat(4, axis=1) >= 2
    wanted = complete_images(pretrained, images, rows=2)
    assert np.array_equal(complete_images(pretrained, images, region=by_rows), wanted)
    assert np.array_equal(complete_images(pretrained, images), wanted)
    message = r"last in its reading order \(raster\), .* \(BERT or diffusion\), which draws any"
    with pytest.raises(ConfigError, match=message):
        complete_images(pretrained, images, region=MIDDLE)


@pytest.mark.parametrize("order", ["columns", "spiral", "hilbert", "random:3"])
def test_in_another_order_what_is_read_last_is_drawn(tiny_palette, order):
    pretrained = Pretrained(
        model=random_model(dataclasses.replace(TINY, order=order)),
        tokenizer=ImageTokenizer(tiny_palette, 4, order=order),
    )
    images, half = records(2).images, pretrained.tokenizer.second_half
    shown = pretrained.tokenizer.decode(pretrained.tokenizer.encode(images))
    done = complete_images(pretrained, images, samples=4)
    assert (done[:, :, ~half] == shown[:, None, ~half]).all()
    assert half.sum() == 8
    assert all(len(np.unique(done[0, :, row, column], axis=0)) > 1
               for row, column in np.argwhere(half)[:3])  # fmt: skip
    if order == "columns":
        assert half[:, 2:].all()
    with pytest.raises(ConfigError, match=f"reading order .{order}."):
        complete_images(pretrained, images, rows=2)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (np.ones((4, 4), bool), "hides every pixel, .* igpt sample draws"),
        (np.zeros((4, 4), bool), "hides no pixel"),
        (np.ones((4, 5), bool), "a map of 5x4 pixels, and the network's images have 4x4"),
    ],
)
def test_regions_of_all_of_nothing_and_of_other_images_are_refused(bert, region, message):
    with pytest.raises(ConfigError, match=message):
        complete_images(bert, records().images, region=region)
    with pytest.raises(ConfigError, match="either rows or a region"):
        complete_images(bert, records().images, region=region, rows=1)


def test_ways_of_drawing_that_a_network_has_not_are_refused(pretrained, bert):
    for changes in ({"passes": 3}, {"most_certain_first": True}):
        with pytest.raises(ConfigError, match="passes and most_certain_first are for networks"):
            sample_images(pretrained, 1, sampling=SamplingConfig(**changes))
    for changes in ({"compile": True}, {"one_at_a_time": True}):
        with pytest.raises(ConfigError, match="compile and one_at_a_time are for autoregressive"):
            sample_images(bert, 1, sampling=SamplingConfig(**changes))
    with pytest.raises(ConfigError, match="passes must be at least 1, got 0"):
        SamplingConfig(passes=0)
