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


def test_bert_and_no_samples_are_refused(pretrained, tiny_palette):
    with pytest.raises(ConfigError, match="samples must be at least 1, got 0"):
        complete_images(pretrained, records().images, rows=2, samples=0)
    bert = Pretrained(
        model=random_model(dataclasses.replace(TINY, causal=False)),
        tokenizer=ImageTokenizer(tiny_palette, 4),
    )
    with pytest.raises(ConfigError, match="only an autoregressive network predicts"):
        complete_images(bert, records().images, rows=2)
