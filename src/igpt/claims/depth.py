"""Figure 2: the best features lie in the middle of the network."""

from statistics import fmean

from igpt.claims.claim import Claim, Part
from igpt.claims.display import curve
from igpt.evaluation.probe import LayerProbes


def _accuracies(probe: LayerProbes) -> dict[int, float]:
    return {row.layer: row.test_accuracy for row in probe.layers}


def _middle(probe: LayerProbes) -> float | None:
    first, *inner, last = _accuracies(probe).values()
    return fmean(inner) - (first + last) / 2 if inner else None


CLAIM = Claim[LayerProbes](
    name="depth",
    title="The best features lie in the middle of the network",
    source="figure 2, section 4.1",
    paper="Probe accuracy first rises with depth, then falls from the middle on: of iGPT-L on "
    "CIFAR-10 the last layer is 2.4 points below the best one.",
    measure=lambda laboratory, seed: laboratory.probe("base", seed),
    parts=(
        Part(
            name="rises",
            statement="features get better from the first layer on",
            paper="rising up to the middle",
            quantity="accuracy of the best layer (by validation) minus that of layer 0",
            value=lambda probe: probe.test_accuracy - probe.layers[0].test_accuracy,
        ),
        Part(
            name="falls",
            statement="they get worse again towards the last layer",
            paper="+2.4",
            quantity="accuracy of the best layer (by validation) minus that of the last",
            value=lambda probe: probe.test_accuracy - probe.layers[-1].test_accuracy,
        ),
        Part(
            name="middle",
            statement="the inner layers are better than the two ends",
            paper="strongly unimodal",
            quantity="mean accuracy of the inner layers minus the mean of the first and the last",
            value=_middle,
        ),
    ),
    rows=_accuracies,
    head="layer",
    draw=lambda axes, seeds: curve(axes, [_accuracies(probe) for probe in seeds]),
    below="layer (paper: 0 to 48, best around the middle, the last 2.4 points lower)",
)
