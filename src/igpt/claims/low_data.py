"""Table 4: a handful of labels a class."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Measured, lines, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.verdict import Part


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    found = laboratory.few_labels(seed)
    return {
        "layer": found.layer,
        "rows": [
            {
                "labels_per_class": row.labels_per_class,
                "probe": row.mean,
                "probe_deviation": row.standard_deviation,
                "fine_tuned": row.fine_tuned and row.fine_tuned.mean,
                "fine_tuned_deviation": row.fine_tuned and row.fine_tuned.standard_deviation,
            }
            for row in found.rows
        ],
    }


def _values(measured: Measured) -> dict[str, float]:
    probes = [row["probe"] for row in measured["rows"]]
    fewest = measured["rows"][0]
    deviations = [row["probe_deviation"] for row in measured["rows"]]
    return {
        "more-labels": float(min(np.diff(probes))),
        "steadier": deviations[0] - deviations[-1],
        "probe-wins": fewest["probe"] - fewest["fine_tuned"],
    }


def _table(seeds: Sequence[Measured]) -> list[dict[str, str]]:
    rows = []
    for place, first in enumerate(seeds[0]["rows"]):
        found = [measured["rows"][place] for measured in seeds]
        deviation = np.mean([row["probe_deviation"] for row in found])
        rows.append(
            {
                "labels a class": str(first["labels_per_class"]),
                "probe": percent([row["probe"] for row in found]),
                "deviation over subsets": f"{100 * deviation:.2f}",
                "fine-tuned": percent([row["fine_tuned"] for row in found]),
            }
        )
    return rows


def _draw(axes: Axes, seeds: Sequence[Measured]) -> None:
    counts = [row["labels_per_class"] for row in seeds[0]["rows"]]
    for name, label in (("probe", "probe"), ("fine_tuned", "fine-tuned on the same labels")):
        curves = [[row[name] for row in measured["rows"]] for measured in seeds]
        lines(axes, counts, curves, label)
    axes.plot(
        [4, 25, 400], [73.2, 87.6, 94.3], "s--", color="#7b8794", label="paper, CIFAR-10, probe"
    )
    axes.plot([4], [42.1], "x", color="#7b8794", label="paper, fine-tuned")
    axes.set_xscale("log")
    axes.set_xlabel("labels a class")
    axes.set_ylabel("test accuracy (%)")
    axes.legend(frameon=False)


CLAIM = Claim(
    name="low-data",
    title="A handful of labels a class is enough for good features",
    source="table 4, section 4.7",
    paper="Probes on iGPT-L's features of CIFAR-10, 5 random subsets: 73.2 ± 1.5 % with 4 labels a "
    "class, 87.6 ± 0.6 % with 25, 94.3 ± 0.1 % with 400; fine-tuning everything on 4 a class "
    "reaches 42.1 % only.",
    parts=(
        Part(
            name="more-labels",
            statement="accuracy rises with the labels",
            paper="73.2, 87.6, 94.3 %",
            quantity="the smallest gain from one number of labels to the next",
        ),
        Part(
            name="steadier",
            statement="and depends less on which labels they are",
            paper="deviations 1.5, 0.6, 0.1",
            quantity="standard deviation over subsets, fewest labels minus most",
        ),
        Part(
            name="probe-wins",
            statement="with the fewest labels, probing beats fine-tuning",
            paper="73.2 against 42.1 %",
            quantity="accuracy of the probe minus fine-tuned, fewest labels",
        ),
    ),
    variants=lambda _: ["base"],
    finetuning_steps=lambda scale: (
        len(scale.labels_per_class) * scale.subsets * scale.few_label_steps
    ),
    measure=_measure,
    values=_values,
    table=_table,
    draw=_draw,
)
