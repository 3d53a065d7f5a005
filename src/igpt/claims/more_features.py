"""Table 2: several layers together are better features than the best one alone."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Measured, bars, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.verdict import Part


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    probe = laboratory.probe("base", seed)
    assert probe.concatenated is not None
    return {
        "best_layer": probe.best_layer,
        "alone": probe.test_accuracy,
        "layers": list(probe.concatenated.layers),
        "together": probe.concatenated.test_accuracy,
    }


def _table(seeds: Sequence[Measured]) -> list[dict[str, str]]:
    count = len(seeds[0]["layers"])
    return [
        {"what": "best layer", "test accuracy": percent([seed["alone"] for seed in seeds])},
        {
            "what": f"{count} layers around it",
            "test accuracy": percent([seed["together"] for seed in seeds]),
        },
    ]


def _draw(axes: Axes, seeds: Sequence[Measured]) -> None:
    names = ["best layer", f"{len(seeds[0]['layers'])} layers together"]
    shares = [[seed["alone"] for seed in seeds], [seed["together"] for seed in seeds]]
    bars(axes, names, shares, "linear probe, test accuracy (%)")
    axes.set_xlabel("paper, iGPT-XL on ImageNet: 68.7 and 72.0 (5 layers)")


CLAIM = Claim(
    name="more-features",
    title="Several layers together beat the best one",
    source="table 2, section 4.4",
    paper="Five layers of iGPT-XL, centered on the best one, as one feature: 72.0 % against 68.7 % "
    "on ImageNet.",
    parts=(
        Part(
            name="together",
            statement="layers around the best one, taken together, are better features",
            paper="+3.3",
            quantity="accuracy of the layers together minus that of the best layer",
        ),
    ),
    variants=lambda _: ["base"],
    measure=_measure,
    values=lambda measured: {"together": measured["together"] - measured["alone"]},
    table=_table,
    draw=_draw,
)
