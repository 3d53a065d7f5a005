"""The diffusion objective is a bound on -log p(x), and its masks are what it needs."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from tests.conftest import random_model

from igpt.model.config import ModelConfig
from igpt.objectives.diffusion import (
    any_share_mask,
    diffusion,
    hidden_counts,
    image_any_share_masks,
)

WORLD = ModelConfig(image_size=2, colors=3, layers=1, width=8, heads=2, causal=False)
"""Images of 4 pixels and 3 colors: everything can be counted."""
IMAGES = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 0], [2, 2, 1, 1], [1, 0, 1, 2]])


def costs(model, tokens, hidden):
    """Each pixel's -log p, by the definition, in float64."""
    with torch.no_grad():
        logits = model(tokens[None], torch.tensor([hidden]))[0].double().numpy()
    return [-math.log(math.exp(row[color]) / np.exp(row).sum())
            for row, color in zip(logits, tokens.tolist(), strict=True)]  # fmt: skip


def order_losses(model, tokens):
    """-log p(x) by each of the 24 orders in which the pixels can be drawn."""
    losses = []
    for order in itertools.permutations(range(4)):
        hidden, loss = [True] * 4, 0.0
        for position in order:
            loss += costs(model, tokens, hidden)[position]
            hidden[position] = False
        losses.append(loss)
    return np.array(losses)


def bound_by_masks(model, tokens):
    """The objective's mean over all masks, in nats: 1/k of each loss, sets of k pixels alike."""
    bound = 0.0
    for mask in itertools.product([False, True], repeat=4):
        if count := sum(mask):
            loss = sum(np.array(costs(model, tokens, list(mask)))[list(mask)])
            bound += loss / count / math.comb(4, count)
    return bound


def bound_by_times(model, tokens):
    """Equation 5 of Shi et al. with the linear schedule, over t and all masks, in nats."""
    bound = 0.0
    for mask in itertools.product([False, True], repeat=4):
        if count := sum(mask):
            loss = sum(np.array(costs(model, tokens, list(mask)))[list(mask)])
            bound += loss * quad(lambda t, k=count: t ** (k - 1) * (1 - t) ** (4 - k), 0, 1)[0]
    return bound


def test_the_bound_is_the_mean_over_all_orders_and_no_less_than_the_exact_likelihood():
    model = random_model(WORLD)
    for tokens in IMAGES:
        orders = order_losses(model, tokens)
        exact = -math.log(np.exp(-orders).mean())
        assert bound_by_masks(model, tokens) == pytest.approx(orders.mean(), rel=1e-6)
        assert bound_by_times(model, tokens) == pytest.approx(orders.mean(), rel=1e-6)
        assert exact < orders.mean()


def test_the_objective_s_mean_over_seeds_is_the_bound_a_pixel():
    model = random_model(WORLD)
    wanted = np.mean([bound_by_masks(model, tokens) for tokens in IMAGES]) / 4
    with torch.no_grad():
        found = [
            diffusion(model, IMAGES, None, torch.Generator().manual_seed(seed))["loss"].item()
            for seed in range(300)
        ]
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(wanted, abs=4 * error)
    assert error < 0.03 * wanted


def test_every_number_of_hidden_pixels_is_as_likely_for_every_image():
    counts = torch.stack([
        any_share_mask(torch.zeros(5, 6).long(), torch.Generator().manual_seed(seed)).sum(dim=1)
        for seed in range(1000)
    ])  # fmt: skip
    for image in counts.T:
        shares = torch.bincount(image, minlength=7) / 1000
        assert shares[0] == 0
        torch.testing.assert_close(shares[1:], torch.full((6,), 1 / 6), atol=0.05, rtol=0)


def test_over_a_batch_the_numbers_spread_evenly():
    for seed in range(50):
        hidden = any_share_mask(torch.zeros(8, 16).long(), torch.Generator().manual_seed(seed))
        counts = sorted(hidden.sum(dim=1).tolist())
        assert [(count - 1) // 2 for count in counts] == list(range(8))


def test_every_pixel_is_hidden_as_often():
    hidden = any_share_mask(torch.zeros(20_000, 9).long(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        hidden.float().mean(dim=0), torch.full((9,), 5 / 9), atol=0.02, rtol=0
    )


def test_masks_of_images_are_a_function_of_seed_number_and_draw_alone():
    tokens = torch.zeros(6, 16).long()
    whole = image_any_share_masks(tokens, 3, range(6), draw=1, draws=4)
    assert torch.equal(image_any_share_masks(tokens[:2], 3, [2, 3], draw=1, draws=4), whole[2:4])
    assert not torch.equal(image_any_share_masks(tokens, 3, range(6), draw=2, draws=4), whole)
    assert not torch.equal(image_any_share_masks(tokens, 4, range(6), draw=1, draws=4), whole)


def test_draws_of_an_image_and_images_of_a_draw_spread_evenly_over_the_numbers():
    tokens = torch.zeros(1, 16).long()
    counts = [
        int(image_any_share_masks(tokens, 0, [7], draw=draw, draws=8).sum()) for draw in range(8)
    ]
    assert [(count - 1) // 2 for count in sorted(counts)] == list(range(8))
    many = image_any_share_masks(torch.zeros(200, 10).long(), 0, range(200)).sum(dim=1)
    assert (torch.bincount(many, minlength=11)[1:] - 20).abs().max() <= 2


@pytest.mark.parametrize("positions", [1, 4, 7, 121])
@pytest.mark.parametrize("passes", [1, 2, 3, 7, 121, 200])
def test_in_few_passes_as_many_are_hidden_as_are_left_before_each(positions, passes):
    shares = (torch.arange(positions, dtype=torch.float64) + 0.5) / positions
    counts = hidden_counts(shares, positions)
    assert counts.tolist() == list(range(1, positions + 1))
    left = sorted({positions * (passes - done) // passes for done in range(passes)} - {0})
    wanted = [min(level for level in left if level >= count) for count in counts.tolist()]
    assert hidden_counts(shares, positions, passes).tolist() == wanted


def test_a_share_of_almost_one_hides_all_and_no_more():
    assert hidden_counts(torch.tensor([1 - 2**-53], dtype=torch.float64), 3).tolist() == [3]
