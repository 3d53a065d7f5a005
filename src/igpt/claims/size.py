"""Section 4.4: features get better with the size of the network."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Measured, lines, nats, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.verdict import Part


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    found = {}
    for name in laboratory.scale.sizes:
        run = laboratory.pretrained(f"size-{name}", seed)
        found[name] = {
            "weights": run.pretraining.recipe.model.parameters,
            "test_accuracy": laboratory.probe(f"size-{name}", seed).test_accuracy,
            "nats_per_pixel": laboratory.loss(f"size-{name}", seed),
        }
    return found


def _values(measured: Measured) -> dict[str, float]:
    smallest, *_, largest = measured.values()
    return {
        "loss": smallest["nats_per_pixel"] - largest["nats_per_pixel"],
        "probe": largest["test_accuracy"] - smallest["test_accuracy"],
    }


def _table(seeds: Sequence[Measured]) -> list[dict[str, str]]:
    return [
        {
            "network": name,
            "weights": f"{first['weights']:,}",
            "test accuracy": percent([measured[name]["test_accuracy"] for measured in seeds]),
            "nats per pixel": nats([measured[name]["nats_per_pixel"] for measured in seeds]),
        }
        for name, first in seeds[0].items()
    ]


def _draw(axes: Axes, seeds: Sequence[Measured]) -> None:
    weights = [found["weights"] for found in seeds[0].values()]
    curves = [[found["test_accuracy"] for found in measured.values()] for measured in seeds]
    lines(axes, weights, curves, "ours")
    axes.set_xscale("log")
    axes.set_xlabel("weights (paper, ImageNet: 76M 41.9, 455M 54.5, 1362M 60.3)")
    axes.set_ylabel("best layer's probe, test accuracy (%)")


CLAIM = Claim(
    name="size",
    title="Larger networks, better features",
    source="sections 4.2 and 4.4",
    paper="On ImageNet at 32x32 the best layer reaches 41.9 % for iGPT-S, 54.5 % for M and 60.3 % "
    "for L; their released weights have 2.0895, 2.0614 and 2.0466 nats per pixel on test.",
    parts=(
        Part(
            name="probe",
            statement="probe accuracy grows with the network",
            paper="+18.4 from S to L",
            quantity="accuracy of the largest network minus that of the smallest",
        ),
        Part(
            name="loss",
            statement="and the loss falls",
            paper="0.043 from S to L",
            quantity="loss on test of the smallest network minus that of the largest",
            unit="nats",
        ),
    ),
    variants=lambda scale: [f"size-{name}" for name in scale.sizes],
    measure=_measure,
    values=_values,
    table=_table,
    draw=_draw,
)
