"""The fit of losses at equal operations finds what made-up losses were made with."""

import dataclasses

import numpy as np
import pytest
from benchmarks.isoflop import Point, fit_isoflops
from benchmarks.race import BASE
from benchmarks.scaling import BUDGETS as STUDIED
from benchmarks.scaling import Study, described, losses_table
from benchmarks.scaling_plot import scaling_figure
from benchmarks.trials import Trials

from igpt.errors import ConfigError
from igpt.pixels.palette import Palette
from igpt.runs.recipes import find_recipe
from igpt.settings import with_settings

BUDGETS = (1e12, 4e12, 1.6e13, 6.4e13)


def made_up(loss, *, best, spread=1.2, sizes=5, noise=0.0, seed=0):
    """Return points around the best size of each budget, with 6 operations a weight and token."""
    generator, points = np.random.default_rng(seed), []
    for flops in BUDGETS:
        for weights in np.exp(np.log(best(flops)) + np.linspace(-spread, spread, sizes)):
            weights = round(weights)
            tokens = flops / (6 * weights)
            error = noise * generator.normal()
            points.append(
                Point(
                    flops=flops, weights=weights, tokens=tokens, loss=loss(weights, tokens) + error
                )
            )
    return points


def parabolas(weights, tokens):
    flops = 6 * weights * tokens
    best = 0.05 * flops**0.5
    return 2 + 30 * flops**-0.1 + 0.03 * np.log(weights / best) ** 2


def test_what_parabolas_were_made_with_is_found():
    fit = fit_isoflops(made_up(parabolas, best=lambda flops: 0.05 * flops**0.5), draws=20)
    assert fit.exponent.value == pytest.approx(0.5, abs=1e-3)
    assert [best.weights.value for best in fit.optima] == pytest.approx(
        [0.05 * flops**0.5 for flops in BUDGETS], rel=1e-3
    )
    assert fit.optima[0].tokens_per_weight.value == pytest.approx(1 / (6 * 0.05**2), rel=1e-3)
    further = fit.at(1e15)
    assert further.weights.value == pytest.approx(0.05 * 1e15**0.5, rel=0.01)
    assert further.loss.value == pytest.approx(2 + 30 * 1e15**-0.1, abs=2e-3)
    assert fit.residual < 1e-4


def test_a_law_in_weights_and_tokens_has_the_exponent_that_follows_from_it():
    """Loss = E + A / N^a + B / D^b is least at N growing as C^(b / (a + b))."""
    a, b, big_a, big_b = 0.34, 0.28, 400.0, 410.0

    def best(flops):
        return (a * big_a / (b * big_b)) ** (1 / (a + b)) * (flops / 6) ** (b / (a + b))

    points = made_up(lambda n, d: 1.7 + big_a / n**a + big_b / d**b, best=best, spread=0.8)
    fit = fit_isoflops(points, draws=20)
    assert fit.exponent.value == pytest.approx(b / (a + b), abs=0.01)


def test_the_interval_has_the_truth_about_as_often_as_it_says():
    inside = 0
    for seed in range(20):
        points = made_up(parabolas, best=lambda flops: 0.05 * flops**0.5, noise=0.003, seed=seed)
        exponent = fit_isoflops(points, draws=100, seed=seed).exponent
        inside += exponent.low <= 0.5 <= exponent.high
    assert inside >= 16


def test_what_cannot_be_fitted_is_refused():
    points = made_up(parabolas, best=lambda flops: 0.05 * flops**0.5)
    with pytest.raises(ConfigError, match=r"got \[5\] sizes"):
        fit_isoflops(points[:5])
    with pytest.raises(ConfigError, match="have no lowest point"):
        fit_isoflops(made_up(lambda n, d: -(np.log(n) ** 2), best=lambda flops: 1e5))
    with pytest.raises(ConfigError, match="leave out what diverged"):
        fit_isoflops([*points, dataclasses.replace(points[0], loss=np.inf)])


@dataclasses.dataclass(frozen=True, kw_only=True)
class MadeUp(Study):
    """A study of networks whose losses follow a law; the smallest one diverges."""

    of_tokens: float

    def loss(self, flops, size, *, train):
        point = self.point(flops, size, np.inf)
        if size == 0:
            return point.loss
        return 1.5 + 20 * point.weights**-0.35 + self.of_tokens * point.tokens**-0.35


@pytest.mark.parametrize(("of_tokens", "tokens_a_weight"), [(70.0, 30), (100.0, 80)])
def test_a_study_s_sizes_find_what_is_best_wherever_that_lies(tmp_path, of_tokens, tokens_a_weight):
    """By this law the best size grows as the operations to the power one half.

    Its parabolas get flatter, which those that are fitted do not: hence the 0.05.
    """
    colors = np.random.default_rng(0).uniform(-1, 1, (512, 3)).astype(np.float32)
    Palette(colors).save(tmp_path / "palette.npy")
    study = MadeUp(
        trials=Trials(data=tmp_path, palette=tmp_path / "palette.npy", out=tmp_path),
        base=with_settings(find_recipe("cifar10-tiny"), [*BASE]), budgets=STUDIED,
        of_tokens=of_tokens,
    )  # fmt: skip
    fit = fit_isoflops(study.points(), draws=20)
    assert all(best.inside for best in fit.optima)
    assert fit.exponent.value == pytest.approx(0.5, abs=0.05)
    for best in fit.optima:
        assert best.tokens_per_weight.value == pytest.approx(tokens_a_weight, rel=0.25)


def test_a_size_is_added_where_the_best_is_at_an_edge(tmp_path):
    study = Study(
        trials=Trials(data=tmp_path, palette=tmp_path, out=tmp_path),
        base=find_recipe("cifar10-tiny"), budgets=(1e12, 4e12), sizes=3,
    )  # fmt: skip
    assert [study.next_size(flops, {}) for flops in (1e12, 4e12)] == [0, 1]
    losses = {1: 3.0, 2: 2.0, 3: 2.5}
    assert study.next_size(4e12, losses) is None
    assert study.next_size(4e12, losses | {3: 1.5}) == 4
    assert study.next_size(4e12, losses | {1: 1.5}) == 0
    assert study.next_size(4e12, losses | {0: 1.0, 1: 1.5}) is None  # there is no smaller one


def test_the_tables_say_what_was_fitted():
    points = made_up(parabolas, best=lambda flops: 0.05 * flops**0.5, noise=0.001)
    assert losses_table(points).count("\n| ") == 1 + 20  # the first line has none before it
    text = described(fit_isoflops(points, draws=50), images=100)
    assert text.count("\n| ") == 1 + 4 + 1
    assert "to the power 0.5" in text
    assert "(one GPU-hour)" in text


def test_the_picture_has_each_budget_s_sizes_and_the_line_up_to_what_lies_ahead():
    points = made_up(parabolas, best=lambda flops: 0.05 * flops**0.5)
    figure = scaling_figure(points, fit_isoflops(points, draws=20), ahead=1e18)
    by_size, by_flops = figure.axes
    drawn = [
        line.get_xdata()
        for line in by_size.lines
        if line.get_label() in {f"{flops:.2g}" for flops in BUDGETS}
    ]
    assert [len(sizes) for sizes in drawn] == [5] * len(BUDGETS)
    flops, weights = by_flops.lines[0].get_data()
    assert flops[-1] == pytest.approx(1e18)
    assert weights[-1] == pytest.approx(0.05 * 1e18**0.5, rel=0.01)
