"""The bound of a network of hidden pixels, as it is estimated."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from tests.conftest import TINY, random_model
from tests.conftest import random_records as records

from igpt.errors import ConfigError
from igpt.evaluation.bound import image_bounds, passes_curve
from igpt.evaluation.likelihood import evaluate
from igpt.model.config import ModelConfig
from igpt.model.pretrained import Pretrained
from igpt.objectives.diffusion import image_any_share_masks
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture
def bert(tiny_palette):
    model = random_model(dataclasses.replace(TINY, causal=False))
    return Pretrained(model=model, tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.fixture
def pretrained(bert):
    return dataclasses.replace(bert, objective="diffusion")


def test_a_draw_s_bound_is_the_mean_loss_of_the_pixels_it_hides(pretrained):
    tokens = pretrained.tokenizer.encode(records().images)
    for batch_size in (2, 64):
        bounds = image_bounds(pretrained, records(), draws=3, seed=5, batch_size=batch_size)
        assert bounds.shape == (3, 7)
        for draw in range(3):
            hidden = image_any_share_masks(tokens, 5, range(7), draw=draw, draws=3)
            with torch.no_grad():
                chances = pretrained.model(tokens, hidden).double().log_softmax(dim=-1)
            for image in range(7):
                positions = hidden[image].nonzero().flatten().tolist()
                losses = [-chances[image, i, tokens[image, i]].item() for i in positions]
                assert bounds[draw, image] == pytest.approx(np.mean(losses), rel=1e-5)


def test_evaluating_a_diffusion_network_is_the_mean_of_the_bounds_with_its_spread(pretrained):
    bounds = image_bounds(pretrained, records(), draws=4, seed=2)
    result = evaluate(pretrained, records(), draws=4, seed=2)
    assert (result.objective, result.images, result.draws) == ("diffusion", 7, 4)
    assert result.nats_per_pixel == pytest.approx(bounds.mean())
    assert result.bits_per_pixel == pytest.approx(bounds.mean() / math.log(2))
    assert result.draw_spread == pytest.approx(np.std(bounds.mean(axis=1), ddof=1))
    error = np.std(bounds.mean(axis=0), ddof=1) / math.sqrt(7)
    assert result.standard_error == pytest.approx(error)
    assert evaluate(pretrained, records()).draws == 8
    assert evaluate(pretrained, records(), draws=1).draw_spread is None
    assert evaluate(pretrained, records(), images=2).images == 2


WORLD = ModelConfig(image_size=2, colors=3, layers=1, width=8, heads=2, causal=False)


@pytest.fixture
def world():
    colors = np.array([[-1, -1, -1], [0, 0, 0], [1, 1, 1]], np.float32)
    return Pretrained(
        model=random_model(WORLD), tokenizer=ImageTokenizer(Palette(colors), 2),
        objective="diffusion",
    )  # fmt: skip


def drawn_in(passes, model, tokens):
    """The mean of -log p(x) over all ways to draw 4 pixels in so many passes, a pixel of it."""
    sizes = {1: [4], 2: [2, 2], 3: [2, 1, 1], 4: [1, 1, 1, 1]}[passes]
    losses = []
    for order in itertools.permutations(range(4)):
        hidden, loss, first = torch.ones(1, 4).bool(), 0.0, 0
        for size in sizes:
            with torch.no_grad():
                chances = model(tokens[None], hidden)[0].double().log_softmax(dim=-1)
            for position in order[first : first + size]:
                loss -= chances[position, tokens[position]].item()
                hidden[0, position] = False
            first += size
        losses.append(loss)
    return np.mean(losses) / 4


@pytest.mark.parametrize("passes", [1, 2, 3, 4])
def test_drawing_in_few_passes_costs_what_all_ways_to_do_so_cost_on_average(world, passes):
    image = records(1, size=2).images
    tokens = world.tokenizer.encode(image)[0]
    wanted = drawn_in(passes, world.model, tokens)
    same = dataclasses.replace(records(1, size=2), images=image.repeat(400, axis=0))
    bounds = image_bounds(world, same, draws=4, passes=passes, batch_size=400)
    error = bounds.std() / math.sqrt(bounds.size)  # more than it is: masks are spread evenly
    assert bounds.mean() == pytest.approx(wanted, abs=max(3 * error, 1e-6))
    assert error < 0.02


def test_a_curve_has_a_bound_for_each_number_of_passes_and_for_one_pixel_at_a_time(pretrained):
    curve = passes_curve(pretrained, records(), passes=(8, 2, 99, 16), draws=3, seed=1)
    assert [row.passes for row in curve.rows] == [2, 8, 16]
    assert (curve.images, curve.draws, curve.pixels) == (7, 3, 16)
    for row in curve.rows:
        bounds = image_bounds(pretrained, records(), draws=3, passes=row.passes, seed=1)
        assert row.nats_per_pixel == pytest.approx(bounds.mean())
    assert curve.rows[-1].nats_per_pixel == pytest.approx(
        evaluate(pretrained, records(), draws=3, seed=1).nats_per_pixel
    )


def test_bert_networks_have_a_bound_as_well_and_autoregressive_ones_none(bert, tiny_palette):
    assert image_bounds(bert, records(), draws=1).shape == (1, 7)
    causal = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    with pytest.raises(ConfigError, match="this one is autoregressive"):
        passes_curve(causal, records())
    for settings in ({"draws": 0}, {"passes": 0}):
        with pytest.raises(ConfigError, match="must be at least 1, got 0"):
            image_bounds(bert, records(), **settings)
