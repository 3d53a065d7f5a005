"""Figure 3: better generative models have better features, along training and across sizes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import spearmanr

from igpt.claims.claim import Claim, Measured, nats, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.verdict import Part


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    return {
        name: [
            {
                key: getattr(row, key)
                for key in ("step", "nats_per_pixel", "best_layer", "test_accuracy")
            }
            for row in laboratory.along(f"size-{name}", seed).snapshots
        ]
        for name in laboratory.scale.sizes
    }


def _curve(rows: Sequence[Measured]) -> tuple[np.ndarray, np.ndarray]:
    losses = np.array([row["nats_per_pixel"] for row in rows])
    return losses, np.array([row["test_accuracy"] for row in rows])


def _values(measured: Measured) -> dict[str, float]:
    correlations = [spearmanr(*_curve(rows)).statistic for rows in measured.values()]
    ends = [_curve(rows) for rows in measured.values()]
    (first_loss, first), (last_loss, last) = ends[0], ends[-1]
    found = {
        "along": -float(np.mean(correlations)),
        "size-loss": float(first_loss[-1] - last_loss[-1]),
        "size-probe": float(last[-1] - first[-1]),
    }
    if last_loss.min() <= first_loss[-1] <= last_loss.max():
        order = np.argsort(last_loss)
        found["equal-loss"] = float(
            np.interp(first_loss[-1], last_loss[order], last[order]) - first[-1]
        )
    return found


def _table(seeds: Sequence[Measured]) -> list[dict[str, str]]:
    rows = []
    for size in seeds[0]:
        for place, first in enumerate(seeds[0][size]):
            points = [measured[size][place] for measured in seeds]
            rows.append(
                {
                    "network": size,
                    "steps": f"{first['step']:,}",
                    "nats per pixel": nats([point["nats_per_pixel"] for point in points]),
                    "test accuracy": percent([point["test_accuracy"] for point in points]),
                }
            )
    return rows


def _draw(axes: Axes, seeds: Sequence[Measured]) -> None:
    for size in seeds[0]:
        curves = np.array([_curve(measured[size]) for measured in seeds])  # (seed, 2, snapshot)
        losses, accuracies = curves.mean(axis=0)
        line = axes.plot(losses, 100 * accuracies, "o-", label=size)[0]
        for curve in curves:
            axes.plot(curve[0], 100 * curve[1], color=line.get_color(), alpha=0.25, lw=0.8)
    axes.invert_xaxis()
    axes.set_xlabel("validation loss (nats per pixel), falling to the right, as in the paper")
    axes.set_ylabel("best layer's probe, test accuracy (%)")
    axes.legend(frameon=False)


CLAIM = Claim(
    name="loss-and-probe",
    title="Better generative models have better features",
    source="figure 3, section 4.2",
    paper="As the validation loss falls along training, probe accuracy rises, for every size; "
    "larger networks end with a lower loss and better features, and have better features at the "
    "same loss.",
    parts=(
        Part(
            name="along",
            statement="a lower loss goes with a better probe along training",
            paper="positive slope for S, M and L",
            quantity="minus Spearman's correlation of loss and accuracy, mean over the sizes",
            unit="",
        ),
        Part(
            name="size-loss",
            statement="the larger network ends with a lower loss",
            paper="S 2.0895, L 2.0466 nats (released weights, test)",
            quantity="loss of the smallest network minus that of the largest",
            unit="nats",
        ),
        Part(
            name="size-probe",
            statement="and with better features",
            paper="larger is better at the end of training",
            quantity="accuracy of the largest network minus that of the smallest",
        ),
        Part(
            name="equal-loss",
            statement="at the same loss, the larger network's features are better",
            paper="larger is better at equal loss",
            quantity="accuracy of the largest at the smallest's final loss, between snapshots, "
            "minus the smallest's",
        ),
    ),
    variants=lambda scale: [f"size-{name}" for name in scale.sizes],
    measure=_measure,
    values=_values,
    table=_table,
    draw=_draw,
)
