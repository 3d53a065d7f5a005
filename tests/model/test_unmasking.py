"""Hidden pixels are drawn from what the network says of them, and nothing else changes."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tests.conftest import TINY, random_model, random_tokens

from igpt.errors import ConfigError
from igpt.model.config import ModelConfig, SamplingConfig
from igpt.model.unmasking import draw_hidden, draw_in_passes, hidden_after

BERT = dataclasses.replace(TINY, causal=False)
WORLD = ModelConfig(image_size=2, colors=3, layers=1, width=8, heads=2, causal=False)
"""Images of 4 pixels and 3 colors, of which there are 81."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"passes": 3},
        {"passes": 99},
        {"most_certain_first": True},
        {"passes": 2, "most_certain_first": True, "top_k": 4},
    ],
)
def test_only_hidden_pixels_are_drawn_of_each_image_any_number(config):
    model, tokens = random_model(BERT), random_tokens(5)
    hidden = torch.rand(5, 16, generator=generator(2)) < 0.5
    hidden[3], hidden[4] = False, True
    before = tokens.clone()
    drawn = draw_hidden(model, tokens, hidden, SamplingConfig(**config), generator=generator())
    assert torch.equal(tokens, before)
    assert torch.equal(drawn[~hidden], tokens[~hidden])
    assert not torch.equal(drawn[hidden], tokens[hidden])
    other = torch.where(hidden, 0, tokens)  # what lies where pixels are hidden is not looked at
    again = draw_hidden(model, other, hidden, SamplingConfig(**config), generator=generator())
    assert torch.equal(again, drawn)


def test_what_is_drawn_can_be_watched_and_each_pixel_comes_once():
    model, tokens = random_model(BERT), random_tokens()
    hidden = torch.rand(tokens.shape, generator=generator(1)) < 0.5
    shown, come = tokens.clone(), torch.zeros_like(hidden)
    for now, chosen in draw_in_passes(model, tokens, hidden, generator=generator()):
        assert not (come & chosen).any()
        assert torch.equal(now[~chosen], shown[~chosen])
        shown, come = now.clone(), come | chosen
    assert torch.equal(come, hidden)
    assert torch.equal(shown, draw_hidden(model, tokens, hidden, generator=generator()))


def test_each_pass_draws_as_many_but_for_one():
    left = [int(hidden_after(torch.tensor(10), done, 4)) for done in range(5)]
    assert left == [10, 7, 5, 2, 0]
    assert hidden_after(torch.tensor([0, 1, 3]), 1, 2).tolist() == [0, 0, 1]


@pytest.mark.parametrize("passes", [1, 2, 5, 16])
def test_so_many_passes_read_the_image_so_often(passes):
    model, tokens = random_model(BERT), random_tokens(2)
    reads = []
    model.final_norm.register_forward_hook(lambda *_: reads.append(1))
    draw_hidden(model, tokens, torch.ones(2, 16).bool(), SamplingConfig(passes=passes))
    assert len(reads) == passes


def test_the_most_certain_pixel_is_drawn_first_from_what_was_known_then():
    model, tokens = random_model(BERT), random_tokens(1)
    hidden = torch.zeros(1, 16).bool()
    hidden[0, [2, 5, 11]] = True
    greedy = SamplingConfig(temperature=0.0, most_certain_first=True)
    found = draw_hidden(model, tokens, hidden, greedy)
    tokens, hidden = tokens.clone(), hidden.clone()
    for _ in range(3):
        with torch.no_grad():
            chances = model(tokens, hidden)[0].softmax(dim=-1)
        first = max(hidden[0].nonzero().flatten().tolist(), key=lambda i: chances[i].max().item())
        tokens[0, first], hidden[0, first] = chances[first].argmax(), False
    assert torch.equal(found, tokens)


def mixture(model):
    """The probability of each image when pixels are drawn one by one in each order as often."""
    chances = np.zeros(81)
    images = torch.tensor(list(itertools.product(range(3), repeat=4)))
    for order in itertools.permutations(range(4)):
        hidden, product = torch.ones(81, 4).bool(), np.ones(81)
        for position in order:
            with torch.no_grad():
                rows = model(images, hidden)[:, position].double().softmax(dim=-1)
            product *= rows[range(81), images[:, position]].numpy()
            hidden[:, position] = False
        chances += product / 24
    return chances


def test_one_pixel_a_pass_draws_from_the_mixture_over_all_orders():
    model = random_model(WORLD)
    chances = mixture(model)
    assert chances.sum() == pytest.approx(1, abs=1e-6)
    hidden = torch.ones(20_000, 4).bool()
    drawn = draw_hidden(model, hidden.long(), hidden, generator=generator(5))
    numbers = (drawn * torch.tensor([27, 9, 3, 1])).sum(dim=1)
    counts = np.bincount(numbers.numpy(), minlength=81)
    assert chisquare(counts, chances / chances.sum() * 20_000).pvalue > 0.001
    at_once = draw_hidden(
        model, hidden.long(), hidden, SamplingConfig(passes=1), generator=generator(5)
    )
    numbers = (at_once * torch.tensor([27, 9, 3, 1])).sum(dim=1)
    counts = np.bincount(numbers.numpy(), minlength=81)
    assert chisquare(counts, chances / chances.sum() * 20_000).pvalue < 1e-9


def test_an_autoregressive_network_draws_no_hidden_pixels():
    with pytest.raises(ConfigError, match="this one is autoregressive"):
        draw_hidden(random_model(), random_tokens(), torch.ones(2, 16).bool())


def test_nothing_hidden_is_nothing_drawn():
    model, tokens = random_model(BERT), random_tokens(2)
    assert torch.equal(draw_hidden(model, tokens, torch.zeros(2, 16).bool()), tokens)
    assert draw_hidden(model, tokens[:0], torch.zeros(0, 16).bool()).shape == (0, 16)
