"""A picture of an isoFLOP study: losses by size at each budget, and how the best size grows.

figure = scaling_figure(points, fit, ahead=1e18)
figure.savefig(path)
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.isoflop import IsoflopFit, Point, fit_parabolas
from igpt.runs.plots import INK, plain_style, run_colors


def scaling_figure(points: Sequence[Point], fit: IsoflopFit, *, ahead: float) -> Figure:
    """Return the picture.

    Args:
        points: That were fitted.
        fit: To them.
        ahead: Operations of a larger budget, up to which the line is drawn.
    """
    with plain_style():
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        by_size, by_flops = figure.subplots(1, 2)
        _draw_losses(by_size, points, fit)
        _draw_growth(by_flops, fit, ahead)
    return figure


def _draw_losses(axes: Axes, points: Sequence[Point], fit: IsoflopFit) -> None:
    groups = [[point for point in points if point.flops == best.flops] for best in fit.optima]
    all_sizes = [np.array([point.weights for point in group]) for group in groups]
    all_losses = [np.array([point.loss for point in group]) for group in groups]
    parabolas = fit_parabolas([np.log(sizes) for sizes in all_sizes], all_losses)
    colors = run_colors(len(groups))
    for best, sizes, losses, parabola, color in zip(
        fit.optima, all_sizes, all_losses, parabolas, colors, strict=True
    ):
        along = np.geomspace(sizes.min(), sizes.max(), 100)
        axes.plot(along, np.polyval(parabola, np.log(along)), color=color, lw=1.1)
        axes.plot(sizes, losses, "o", color=color, ms=4, label=f"{best.flops:.2g}")
        axes.plot(best.weights.value, best.loss.value, "o", color=color, ms=9, mfc="none")
    axes.set(xscale="log", xlabel="weights", ylabel="nats per pixel")
    axes.legend(title="operations", frameon=False, fontsize=8, title_fontsize=8)


def _draw_growth(axes: Axes, fit: IsoflopFit, ahead: float) -> None:
    (color,) = run_colors(1)
    budgets = np.geomspace(fit.optima[0].flops, ahead, 50)
    slopes, offsets = np.array(fit.lines)[:, :2].T
    along = np.exp(slopes[:, None] * np.log(budgets) + offsets[:, None])  # (fit, budget)
    axes.plot(budgets, along[0], color=color, lw=1.1)
    low, high = np.percentile(along[1:], [2.5, 97.5], axis=0)
    axes.fill_between(budgets, low, high, color=color, alpha=0.15, lw=0)
    for best in fit.optima:
        low, value, high = best.weights.low, best.weights.value, best.weights.high
        axes.vlines(best.flops, low, high, color=color, lw=1.1)
        axes.plot(best.flops, value, "o", color=color, ms=4)
    axes.axvline(ahead, color=INK, lw=1.1, ls=(0, (5, 3)))
    axes.annotate(
        "one GPU-hour ", (ahead, 0.02), xycoords=("data", "axes fraction"), ha="right", color=INK,
        fontsize=8,
    )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="operations", ylabel="best weights")
