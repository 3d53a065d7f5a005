"""Section 4.4: features get better with the size of the network."""

from dataclasses import dataclass

from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Part, growth
from igpt.claims.display import curve, nats, percent
from igpt.claims.laboratory import Laboratory


@dataclass(frozen=True, kw_only=True)
class Network:
    """One size of network."""

    weights: int
    test_accuracy: float
    """Of the best layer's probe."""
    nats_per_pixel: float
    """On test images."""


Measured = dict[str, Network]
"""By the network's name, from the smallest to the largest."""


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    return {
        name: Network(
            weights=laboratory.scale.recipe_of(name).model.parameters,
            test_accuracy=laboratory.probe(name, seed).test_accuracy,
            nats_per_pixel=laboratory.loss(name, seed),
        )
        for name in laboratory.scale.sizes
    }


def _draw(axes: Axes, seeds: list[Measured]) -> None:
    curve(axes, [{row.weights: row.test_accuracy for row in seed.values()} for seed in seeds])
    axes.set_xscale("log")


CLAIM = Claim[Measured](
    name="size",
    title="Larger networks, better features",
    source="sections 4.2 and 4.4",
    paper="On ImageNet at 32x32 the best layer reaches 41.9 % for iGPT-S, 54.5 % for M and 60.3 % "
    "for L; their released weights have 2.0895, 2.0614 and 2.0466 nats per pixel on test.",
    networks=lambda scale: scale.sizes,
    measure=_measure,
    parts=(
        Part(
            name="probe",
            statement="probe accuracy grows with the network",
            paper="+18.4 from S to L",
            quantity="accuracy of the largest network minus that of the smallest",
            value=growth(lambda network: network.test_accuracy),
        ),
        Part(
            name="loss",
            statement="and the loss falls",
            paper="0.043 from S to L",
            quantity="loss on test of the smallest network minus that of the largest",
            unit="nats",
            value=growth(lambda network: -network.nats_per_pixel),
        ),
    ),
    rows=dict,
    head="network",
    columns={
        "weights": lambda seeds: f"{seeds[0].weights:,}",
        "test accuracy": lambda seeds: percent([seed.test_accuracy for seed in seeds]),
        "nats per pixel": lambda seeds: nats([seed.nats_per_pixel for seed in seeds]),
    },
    draw=_draw,
    below="weights (paper, ImageNet: 76M 41.9, 455M 54.5, 1362M 60.3)",
)
