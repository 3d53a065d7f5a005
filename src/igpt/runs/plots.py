"""Plots, all in one style, for pages and for files, on light paper and on dark.

    with plain_style():
        figure, axes = new_plot("steps", "nats per pixel")
        axes.plot(steps, nats, color=run_color(0, 1))
        figure.savefig(path, transparent=True)

A plot has no paper of its own, and all its colors can be read on white and on nearly black. Text
and lines are of one grey, `INK`, which a page may exchange for its own.
"""

import colorsys
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from igpt.evaluation.outliers import OWN, OutliersResult

INK = "#767d85"
"""Of text, axes and levels."""
GRID = "#8c8c8c"
"""Of the lines of the grid, which are faint."""

_COLORS = ("#2b6ca3", "#c8642b", "#3d8c5f", "#8f5aa8", "#a5851f", "#c2487a", "#3492a0", "#857360")
_LIGHTNESS = 0.2  # luminance of further colors, between that of white, 1, and of dark paper, 0.01

_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's own font
    "svg.hashsalt": "igpt",  # the same plot gets the same identifiers
    "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.facecolor": "none", "figure.facecolor": "none", "axes.linewidth": 0.6,
    "axes.grid": True, "grid.color": GRID, "grid.alpha": 0.25, "grid.linewidth": 0.6,
    "xtick.color": INK, "ytick.color": INK, "xtick.major.size": 0, "ytick.major.size": 0,
    "errorbar.capsize": 2.5,
}  # fmt: skip


@contextmanager
def plain_style() -> Iterator[None]:
    """Draw in igpt's style; the reader's own matplotlib settings decide nothing."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_plot(x: str, y: str, *, height: float = 2.9) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, of these names."""
    figure = Figure(figsize=(5.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    return figure, axes


def run_colors(count: int) -> list[str]:
    """Return so many colors that differ, each of which can be read on light and on dark paper."""
    if count <= len(_COLORS):
        return list(_COLORS[:count])
    return [_hue(number / count) for number in range(count)]


def _hue(hue: float) -> str:
    """Return the color of a hue whose luminance is `_LIGHTNESS`."""
    light = np.array(colorsys.hsv_to_rgb(hue, 1, 1)) ** 2.2
    luminance = light @ (0.2126, 0.7152, 0.0722)
    if luminance > _LIGHTNESS:
        light *= _LIGHTNESS / luminance
    else:
        light += (1 - light) * (_LIGHTNESS - luminance) / (1 - luminance)
    return matplotlib.colors.to_hex((light ** (1 / 2.2)).tolist())


def losses_figure(result: OutliersResult) -> Figure:
    """Return how the losses of own and foreign images are spread, a row each over one axis."""
    assert result.spread is not None
    counts, edges = result.spread.counts, np.array(result.spread.edges)
    figure, axes = new_plot("nats per pixel", "", height=0.7 + 0.45 * len(counts))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    own, foreign = run_colors(2)
    for row, (name, count) in enumerate(counts.items()):
        heights = 0.8 * np.array(count) / max(1, *count)
        axes.stairs(
            heights - row, edges, baseline=-row, fill=True, color=own if name == OWN else foreign
        )
    axes.axvline(result.typical_nats_per_pixel, color=INK, lw=1.1, ls=(0, (5, 3)), zorder=3)
    axes.set_ylim(0.15 - len(counts), 1)
    axes.spines.left.set_visible(False)
    axes.grid(visible=False, axis="y")
    names = [name if len(name) <= 24 else f"…{name[-23:]}" for name in counts]
    axes.set_yticks([0.25 - row for row in range(len(counts))], names)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)  # a folder's name may hold dollars
    return figure
