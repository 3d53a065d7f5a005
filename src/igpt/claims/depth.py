"""Figure 2: the best features lie in the middle of the network."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Measured, lines, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.verdict import Part


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    probe = laboratory.probe("base", seed)
    return {
        "best_layer": probe.best_layer,
        "accuracies": [row.test_accuracy for row in probe.layers],
    }


def _values(measured: Measured) -> dict[str, float]:
    accuracies, best = measured["accuracies"], measured["best_layer"]
    middle = accuracies[1:-1]
    return {
        "rises": accuracies[best] - accuracies[0],
        "falls": accuracies[best] - accuracies[-1],
        "middle": float(np.mean(middle)) - (accuracies[0] + accuracies[-1]) / 2,
    }


def _table(seeds: Sequence[Measured]) -> list[dict[str, str]]:
    curves = zip(*(measured["accuracies"] for measured in seeds), strict=True)
    return [
        {"layer": str(layer), "test accuracy": percent(list(values))}
        for layer, values in enumerate(curves)
    ]


def _draw(axes: Axes, seeds: Sequence[Measured]) -> None:
    curves = [measured["accuracies"] for measured in seeds]
    lines(axes, range(len(curves[0])), curves, "ours")
    axes.set_xlabel("layer (paper: 0 to 48, best around the middle, the last 2.4 points lower)")
    axes.set_ylabel("linear probe, test accuracy (%)")


CLAIM = Claim(
    name="depth",
    title="The best features lie in the middle of the network",
    source="figure 2, section 4.1",
    paper="Probe accuracy first rises with depth, then falls from the middle on: of iGPT-L on "
    "CIFAR-10 the last layer is 2.4 points below the best one.",
    parts=(
        Part(
            name="rises",
            statement="features get better from the first layer on",
            paper="rising up to the middle",
            quantity="accuracy of the best layer (by validation) minus that of layer 0",
        ),
        Part(
            name="falls",
            statement="they get worse again towards the last layer",
            paper="+2.4",
            quantity="accuracy of the best layer (by validation) minus that of the last",
        ),
        Part(
            name="middle",
            statement="the inner layers are better than the two ends",
            paper="strongly unimodal",
            quantity="mean accuracy of the inner layers minus the mean of the first and the last",
        ),
    ),
    variants=lambda _: ["base"],
    measure=_measure,
    values=_values,
    table=_table,
    draw=_draw,
)
