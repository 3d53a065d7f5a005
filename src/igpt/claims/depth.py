"""Figure 2: the best features lie in the middle of the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from igpt.claims.claim import Claim, Part
from igpt.claims.controls import inner_penalties, past_plateau
from igpt.claims.display import curve
from igpt.claims.laboratory import Laboratory
from igpt.evaluation.probe import LayerProbe, LayerProbes


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The base network's probes, and how far it got."""

    probe: LayerProbes
    under_plateau: float | None


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    return Measured(
        probe=laboratory.probe("base", seed),
        under_plateau=laboratory.under_plateau("base", seed),
    )


def _accuracies(measured: Measured) -> dict[int, float]:
    return {row.layer: row.test_accuracy for row in measured.probe.layers}


def _best_inner(measured: Measured) -> LayerProbe | None:
    inner: Sequence[LayerProbe] = measured.probe.layers[1:-1]
    return max(inner, key=lambda row: row.validation_accuracy, default=None)


def _over_end(measured: Measured, end: int) -> float | None:
    best = _best_inner(measured)
    return None if best is None else best.test_accuracy - measured.probe.layers[end].test_accuracy


def _middle(measured: Measured) -> float | None:
    accuracies = list(_accuracies(measured).values())
    third = len(accuracies) // 3
    if not third:
        return None
    middle = accuracies[third : len(accuracies) - third]
    return fmean(middle) - fmean(accuracies[-third:])


CLAIM = Claim[Measured](
    name="depth",
    title="The best features lie in the middle of the network",
    source="figure 2, section 4.1",
    paper="Probe accuracy first rises with depth, then falls from the middle on: of iGPT-L on "
    "CIFAR-10 the last layer is 2.4 points below the best one.",
    measure=_measure,
    parts=(
        Part(
            name="rises",
            statement="features get better from the first layer on",
            paper="rising up to the middle",
            quantity="accuracy of the best inner layer (by validation) minus that of layer 0",
            value=lambda measured: _over_end(measured, 0),
        ),
        Part(
            name="falls",
            statement="they get worse again towards the last layer",
            paper="+2.4",
            quantity="accuracy of the best inner layer (by validation) minus that of the last",
            value=lambda measured: _over_end(measured, -1),
        ),
        Part(
            name="middle",
            statement="the middle of the network is better than its end",
            paper="strongly unimodal",
            quantity="mean accuracy of the middle third of the layers minus that of the last third",
            value=_middle,
        ),
    ),
    controls=(
        past_plateau(lambda measured: measured.under_plateau),
        inner_penalties(lambda measured: sum(bool(row.at_edge) for row in measured.probe.layers)),
    ),
    rows=_accuracies,
    head="layer",
    draw=lambda axes, seeds: curve(axes, [_accuracies(measured) for measured in seeds]),
    below="layer (paper: 0 to 48, best around the middle, the last 2.4 points lower)",
)
