"""Section 4.4: features get better with the size of the network, each at its own best rate."""

from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Part, growth
from igpt.claims.controls import all_past_plateau, inner_penalties
from igpt.claims.display import curve, nats, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.networks import Network

Measured = dict[str, Network]
"""By the network's name, from the smallest to the largest."""


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    return {
        size: laboratory.network(laboratory.at_best_rate(size), seed)
        for size in laboratory.scale.sizes
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
    at_best_rates=True,
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
            margin=0.002,
            value=growth(lambda network: -network.nats_per_pixel),
        ),
    ),
    controls=(
        all_past_plateau(lambda networks: list(networks.values())),
        inner_penalties(lambda networks: sum(row.edge for row in networks.values())),
    ),
    rows=dict,
    head="network",
    columns={
        "weights": lambda seeds: f"{seeds[0].weights:,}",
        "learning rate": lambda seeds: f"{seeds[0].learning_rate:g}",
        "test accuracy": lambda seeds: percent([seed.test_accuracy for seed in seeds]),
        "nats per pixel": lambda seeds: nats([seed.nats_per_pixel for seed in seeds]),
    },
    draw=_draw,
    below="weights (paper, ImageNet: 76M 41.9, 455M 54.5, 1362M 60.3)",
)
