"""Section 3.2: a few hundred colors stand for all, at a third of the length."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Part, growth
from igpt.claims.display import PAPER, mean_text, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.scale import Colors
from igpt.errors import DataError

_FAITHFUL = 30.0  # dB, usually taken for a fair compression of 8-bit images
_GREYS = 256  # there are no more


@dataclass(frozen=True, kw_only=True)
class PaletteRow:
    """One palette."""

    size: int
    grey: bool
    psnr_db: float | None
    """On held-out images; None where it was not looked at."""
    test_accuracy: float | None
    """Of the best layer's probe of a network trained with it; None where none was."""

    @property
    def name(self) -> str:
        """Such as `64 greys`."""
        return f"{self.size} {'greys' if self.grey else 'colors'}"


Measured = tuple[PaletteRow, ...]
"""Colors, then greys, each from the fewest on."""


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    scale = laboratory.scale
    if not laboratory.colorful:
        raise DataError(
            f"the claim 'palette' is about colors, and the images of {laboratory.data} are grey; "
            "give a record store of color images with --data, and an --out of its own"
        )
    looked_at = {Colors(size) for size in scale.distortions}
    looked_at |= {Colors(size, grey=True) for size in scale.distortions if size <= _GREYS}
    rows = []
    for colors in sorted(looked_at.union(scale.palettes), key=lambda c: (c.grey, c.size)):
        psnr = laboratory.distortion(colors, seed=seed) if colors in looked_at else None
        accuracy = None
        if colors in scale.palettes:
            accuracy = laboratory.probe(scale.with_palette(colors), seed).test_accuracy
        rows.append(
            PaletteRow(size=colors.size, grey=colors.grey, psnr_db=psnr, test_accuracy=accuracy)
        )
    return tuple(rows)


def _psnr(measured: Measured, *, grey: bool = False) -> dict[int, float]:
    """Return the distortions by size of palette."""
    kind = (row for row in measured if row.grey == grey)
    return {row.size: row.psnr_db for row in kind if row.psnr_db is not None}


def _trained(measured: Measured, *, grey: bool = False) -> dict[int, float]:
    """Return the accuracies by size of palette."""
    kind = (row for row in measured if row.grey == grey)
    return {row.size: row.test_accuracy for row in kind if row.test_accuracy is not None}


def _faithful(measured: Measured) -> float | None:
    psnr = _psnr(measured).get(512)
    return None if psnr is None else psnr - _FAITHFUL


def _more_colors(measured: Measured) -> float | None:
    gains = [more - fewer for fewer, more in pairwise(_psnr(measured).values())]
    return min(gains, default=None)


def _color(measured: Measured) -> float:
    ((size, greys),) = _trained(measured, grey=True).items()
    return _trained(measured)[size] - greys


def _draw(axes: Axes, seeds: list[Measured]) -> None:
    for grey, name in ((False, "colors"), (True, "greys")):
        curves = [_psnr(measured, grey=grey) for measured in seeds]
        means = np.mean([list(curve.values()) for curve in curves], axis=0)
        axes.plot(list(curves[0]), means, "o-", label=name)
    axes.axhline(_FAITHFUL, color=PAPER, lw=0.8, ls="--")
    axes.set_xscale("log", base=2)
    axes.set_ylabel("PSNR on held-out images (dB)")
    axes.legend(frameon=False)


CLAIM = Claim[Measured](
    name="palette",
    title="A few hundred colors stand for all",
    source="section 3.2",
    paper="512 colors found by k-means keep an image's colors faithfully, and make sequences a "
    "third as long as three bytes a pixel.",
    networks=lambda scale: [scale.with_palette(colors) for colors in scale.palettes],
    measure=_measure,
    parts=(
        Part(
            name="faithful",
            statement="512 colors are faithful",
            paper="faithful, no figure given",
            quantity=f"PSNR of 512 colors on held-out images minus {_FAITHFUL:g} dB",
            unit="dB",
            margin=0.5,
            value=_faithful,
        ),
        Part(
            name="more-colors",
            statement="more colors lose less",
            quantity="the smallest gain in PSNR from one size to the next",
            unit="dB",
            margin=0.5,
            value=_more_colors,
        ),
        Part(
            name="probe",
            statement="and make better features",
            quantity="probe accuracy with the largest palette minus with the smallest",
            value=lambda measured: growth(float)(_trained(measured)),
        ),
        Part(
            name="color",
            statement="colors make better features than as many greys",
            quantity="probe accuracy with colors minus with greys",
            value=_color,
        ),
    ),
    rows=lambda measured: {row.name: row for row in measured},
    head="palette",
    columns={
        "PSNR": lambda seeds: mean_text([row.psnr_db for row in seeds], 2, " dB"),
        "test accuracy": lambda seeds: percent([row.test_accuracy for row in seeds]),
    },
    draw=_draw,
    below="palette (paper: 512 colors)",
)
