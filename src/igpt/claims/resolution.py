"""Section 4.4: features get better with the input resolution."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Measured, lines, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.verdict import Part


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    return {
        str(side): laboratory.probe(f"resolution-{side}", seed).test_accuracy
        for side in laboratory.scale.resolutions
    }


def _values(measured: Measured) -> dict[str, float]:
    lowest, *_, highest = measured.values()
    return {"grows": highest - lowest}


def _table(seeds: Sequence[Measured]) -> list[dict[str, str]]:
    return [
        {
            "pixels": f"{side}x{side}",
            "test accuracy": percent([measured[side] for measured in seeds]),
        }
        for side in seeds[0]
    ]


def _draw(axes: Axes, seeds: Sequence[Measured]) -> None:
    sides = list(seeds[0])
    curves = [[measured[side] for side in sides] for measured in seeds]
    lines(axes, [int(side) for side in sides], curves, "ours")
    axes.set_xticks([int(side) for side in sides])
    axes.set_xlabel("input resolution (paper, ImageNet: L at 32 60.3, L at 48 65.2, XL at 64 68.7)")
    axes.set_ylabel("best layer's probe, test accuracy (%)")


CLAIM = Claim(
    name="resolution",
    title="More pixels, better features",
    source="section 4.4, table 2",
    paper="On ImageNet iGPT-L's best layer reaches 60.3 % at 32x32 and 65.2 % at 48x48, and "
    "iGPT-XL's 68.7 % at 64x64.",
    parts=(
        Part(
            name="grows",
            statement="probe accuracy grows with the input resolution",
            paper="+4.9 from 32 to 48",
            quantity="accuracy at the highest resolution minus at the lowest",
        ),
    ),
    variants=lambda scale: [f"resolution-{side}" for side in scale.resolutions],
    measure=_measure,
    values=_values,
    table=_table,
    draw=_draw,
)
