"""Section 3.2: a few hundred colors stand for all, at a third of the length."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Measured, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.verdict import Part
from igpt.errors import DataError

_FAITHFUL = 30.0  # dB, usually taken for a fair compression of 8-bit images


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    scale = laboratory.scale
    if not laboratory.colorful:
        raise DataError(
            f"the claim 'palette' is about colors, and the images of {laboratory.data} are grey; "
            "give a record store of color images with --data, and an --out of its own"
        )
    return {
        "distortions": {
            kind: {
                str(size): laboratory.distortion(size, grey=grey, seed=seed)
                for size in scale.distortions
                if not grey or size <= 256
            }
            for kind, grey in (("colors", False), ("greys", True))
        },
        "probes": {
            name: laboratory.probe(f"palette-{name}", seed).test_accuracy for name in scale.palettes
        },
    }


def _values(measured: Measured) -> dict[str, float]:
    psnr = measured["distortions"]["colors"]
    probes = measured["probes"]
    colors = [name for name in probes if not name.endswith("-greys")]
    greys = next(name for name in probes if name.endswith("-greys"))
    return {
        "faithful": psnr["512"] - _FAITHFUL,
        "more-colors": float(min(np.diff(list(psnr.values())))),
        "probe": probes[colors[-1]] - probes[colors[0]],
        "color": probes[greys.removesuffix("-greys")] - probes[greys],
    }


def _table(seeds: Sequence[Measured]) -> list[dict[str, str]]:
    rows = []
    for kind, found in seeds[0]["distortions"].items():
        for size in found:
            name = size if kind == "colors" else f"{size}-greys"
            probes = [measured["probes"].get(name) for measured in seeds]
            values = [measured["distortions"][kind][size] for measured in seeds]
            rows.append(
                {
                    "palette": f"{size} {kind}",
                    "PSNR": f"{np.mean(values):.2f} dB",
                    "test accuracy": "" if None in probes else percent(probes),
                }
            )
    trained = {row["palette"] for row in rows if row["test accuracy"]}
    for name in seeds[0]["probes"]:
        size, _, grey = name.partition("-")
        label = f"{size} {grey or 'colors'}"
        if label not in trained:
            accuracy = percent([measured["probes"][name] for measured in seeds])
            rows.append({"palette": label, "PSNR": "", "test accuracy": accuracy})
    return rows


def _draw(axes: Axes, seeds: Sequence[Measured]) -> None:
    for kind in ("colors", "greys"):
        sizes = list(seeds[0]["distortions"][kind])
        curves = [[found["distortions"][kind][size] for size in sizes] for found in seeds]
        axes.plot([int(size) for size in sizes], np.mean(curves, axis=0), "o-", label=kind)
    axes.axhline(_FAITHFUL, color="#7b8794", lw=0.8, ls="--")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("palette (paper: 512 colors)")
    axes.set_ylabel("PSNR on held-out images (dB)")
    for name in seeds[0]["probes"]:
        size, _, grey = name.partition("-")
        accuracy = percent([found["probes"][name] for found in seeds])
        axes.plot([], [], " ", label=f"probe with {size} {grey or 'colors'}: {accuracy}")
    axes.legend(frameon=False, fontsize=8)


CLAIM = Claim(
    name="palette",
    title="A few hundred colors stand for all",
    source="section 3.2",
    paper="512 colors found by k-means keep an image's colors faithfully, and make sequences a "
    "third as long as three bytes a pixel.",
    parts=(
        Part(
            name="faithful",
            statement="512 colors are faithful",
            paper="faithful, no figure given",
            quantity=f"PSNR of 512 colors on held-out images minus {_FAITHFUL:g} dB",
            unit="dB",
        ),
        Part(
            name="more-colors",
            statement="more colors lose less",
            paper="no figure given",
            quantity="the smallest gain in PSNR from one size to the next",
            unit="dB",
        ),
        Part(
            name="probe",
            statement="and make better features",
            paper="no figure given",
            quantity="probe accuracy with the largest palette minus with the smallest",
        ),
        Part(
            name="color",
            statement="colors make better features than as many greys",
            paper="no figure given",
            quantity="probe accuracy with colors minus with greys",
        ),
    ),
    variants=lambda scale: [f"palette-{name}" for name in scale.palettes],
    measure=_measure,
    values=_values,
    table=_table,
    draw=_draw,
)
