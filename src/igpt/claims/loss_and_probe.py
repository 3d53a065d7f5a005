"""Figure 3: better generative models have better features, along training and across sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import spearmanr

from igpt.claims.claim import Claim, Part, growth
from igpt.claims.controls import past_plateau
from igpt.claims.display import PROBE, nats, percent
from igpt.claims.laboratory import Laboratory
from igpt.runs.along import Along, Snapshot


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Networks of several sizes, each at its own best rate."""

    along: dict[str, Along]
    """By the network's size, from the smallest to the largest."""
    under_plateau: float | None
    """Of the one that came least below it."""


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    names = {size: laboratory.at_best_rate(size) for size in laboratory.scale.sizes}
    under = [laboratory.under_plateau(name, seed) for name in names.values()]
    return Measured(
        along={size: laboratory.along(name, seed) for size, name in names.items()},
        under_plateau=min((nats for nats in under if nats is not None), default=None),
    )


def _curve(along: Along) -> np.ndarray:
    """Return losses and accuracies, (2, snapshot)."""
    return np.array([[row.nats_per_pixel, row.test_accuracy] for row in along.snapshots]).T


def _along(measured: Measured) -> float | None:
    curves = [_curve(along) for along in measured.along.values()]
    if any(len(np.unique(values)) < 2 for curve in curves for values in curve):
        return None  # nothing changes, so nothing goes with anything
    return -fmean(spearmanr(*curve).statistic for curve in curves)


def _equal_loss(measured: Measured) -> float | None:
    smallest, *_, largest = measured.along.values()
    end = smallest.snapshots[-1]
    losses, accuracies = _curve(largest)
    if not losses.min() <= end.nats_per_pixel <= losses.max():
        return None  # the largest network was never there, or before its first snapshot
    order = np.argsort(losses)
    there = np.interp(end.nats_per_pixel, losses[order], accuracies[order])
    return float(there) - end.test_accuracy


def _growth(measured: Measured, quantity: Callable[[Snapshot], float]) -> float:
    return growth(lambda along: quantity(along.snapshots[-1]))(measured.along)


def _draw(axes: Axes, seeds: list[Measured]) -> None:
    for name in seeds[0].along:
        curves = np.array(
            [_curve(measured.along[name]) for measured in seeds]
        )  # (seed, 2, snapshot)
        losses, accuracies = curves.mean(axis=0)
        line = axes.plot(losses, 100 * accuracies, "o-", label=name)[0]
        for losses, accuracies in curves:
            axes.plot(losses, 100 * accuracies, color=line.get_color(), alpha=0.25, lw=0.8)
    axes.invert_xaxis()
    axes.set_ylabel(PROBE)
    axes.legend(frameon=False)


CLAIM = Claim[Measured](
    name="loss-and-probe",
    title="Better generative models have better features",
    source="figure 3, section 4.2",
    paper="As the validation loss falls along training, probe accuracy rises, for every size; "
    "larger networks end with a lower loss and better features, and have better features at the "
    "same loss.",
    networks=lambda scale: scale.sizes,
    at_best_rates=True,
    measure=_measure,
    parts=(
        Part(
            name="along",
            statement="a lower loss goes with a better probe along training",
            paper="positive slope for S, M and L",
            quantity="minus Spearman's correlation of loss and accuracy, mean over the sizes",
            unit="",
            margin=0.2,
            value=_along,
        ),
        Part(
            name="size-loss",
            statement="the larger network ends with a lower loss",
            paper="S 2.0895, L 2.0466 nats (released weights, test)",
            quantity="loss of the smallest network minus that of the largest",
            unit="nats",
            margin=0.002,
            value=lambda measured: _growth(measured, lambda end: -end.nats_per_pixel),
        ),
        Part(
            name="size-probe",
            statement="and with better features",
            paper="larger is better at the end of training",
            quantity="accuracy of the largest network minus that of the smallest",
            value=lambda measured: _growth(measured, lambda end: end.test_accuracy),
        ),
        Part(
            name="equal-loss",
            statement="at the same loss, the larger network's features are better",
            paper="larger is better at equal loss",
            quantity="accuracy of the largest at the smallest's final loss, between snapshots, "
            "minus the smallest's",
            value=_equal_loss,
        ),
    ),
    controls=(past_plateau(lambda measured: measured.under_plateau),),
    rows=lambda measured: {
        f"{name}, {row.step:,}": row
        for name, along in measured.along.items()
        for row in along.snapshots
    },
    head="network, steps",
    columns={
        "nats per pixel": lambda seeds: nats([row.nats_per_pixel for row in seeds]),
        "test accuracy": lambda seeds: percent([row.test_accuracy for row in seeds]),
    },
    draw=_draw,
    below="validation loss (nats per pixel), falling to the right, as in the paper",
)
