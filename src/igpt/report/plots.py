"""What the report draws itself: curves and levels as SVG, the colors of a palette as PNG.

    plots = draw_plots(runs)
    plots.loss  # markup to stand in a page, or None if there is nothing to draw

Text in a plot stays text, in the page's own font. No name or description of a run comes into one,
for nothing here is escaped; a run is known by its color. The same runs give the same bytes.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from igpt.evaluation.probe import LayerProbes
from igpt.evaluation.proportions import Share
from igpt.pixels.images import GREY_WEIGHTS, image_grid
from igpt.pixels.palette import Palette
from igpt.report.figures import accuracies
from igpt.report.read import ReportedRun
from igpt.report.verdicts import chance
from igpt.runs.plots import GRID, INK, losses_figure, new_plot, plain_style

_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g}%" if share < 1.0001 else "")
_POINTS = 1000  # of a curve that are drawn; a long run has a million
_LINES = 4  # of a plot of probes, up to which each of their points has its interval drawn
_OF_PAGE = {INK: "currentColor", GRID: "currentColor", "#ffffff": "var(--paper)"}
"""Colors of a plot that are the page's, by day and by night."""

_GAP = 225  # grey between swatches, so that white can be seen


@dataclass(frozen=True, kw_only=True)
class Plots:
    """The report's plots as SVG; None where no run has anything to draw."""

    results: Markup | None
    """All test accuracies of which the counts are known, with their intervals."""
    outliers: dict[str, Markup | None]
    """How losses are spread, by the run's label."""
    loss: Markup | None
    """Of pretraining."""
    probe: Markup | None
    class_loss: Markup | None
    """Of fine-tuning."""
    accuracy: Markup | None
    """Of fine-tuning, on validation images."""


def draw_plots(runs: Sequence[ReportedRun]) -> Plots:
    """Return the plots of some runs, each run in its color."""
    pretrained = [run for run in runs if run.pretrains]
    tuned = [run for run in runs if not run.pretrains]
    with plain_style():
        return Plots(
            results=_results_plot(accuracies(runs)),
            outliers={run.label: _outliers_plot(run) for run in runs if run.outliers},
            loss=_loss_plot(pretrained),
            probe=_probe_plot(pretrained),
            class_loss=_class_loss_plot(tuned),
            accuracy=_accuracy_plot(tuned),
        )


def swatches(palette: Palette) -> bytes:
    """Return a PNG of all colors of a palette, dark to light."""
    order = np.argsort(palette.rgb.astype(np.int64) @ np.array(GREY_WEIGHTS), kind="stable")
    columns = min(palette.size, 32 if palette.size <= 1024 else 128)
    cells = np.full((math.ceil(palette.size / columns) * columns, 3), _GAP, dtype=np.uint8)
    cells[: palette.size] = palette.rgb[order]
    scale = 20 if columns <= 32 else 5
    grid = image_grid(cells.reshape(-1, columns, 1, 1, 3), scale=scale, background=_GAP)
    png = io.BytesIO()
    Image.fromarray(grid).save(png, format="PNG")
    return png.getvalue()


def _results_plot(found: list[tuple[ReportedRun, str, Share]]) -> Markup | None:
    if not found:
        return None
    figure, axes = new_plot("test accuracy", "", height=0.6 + 0.3 * len(found))
    for row, (run, _, share) in enumerate(found):
        low, high = share.interval
        axes.plot([low, high], [-row, -row], color=run.color, lw=3, alpha=0.45)
        axes.plot(share.value, -row, "o", color=run.color, ms=6)
    axes.set_yticks([-row for row in range(len(found))], [name for _, name, _ in found])
    axes.set_ylim(0.6 - len(found), 0.6)
    axes.set_xlim(0, min(1.0, 1.1 * max(share.interval[1] for _, _, share in found)))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(_PERCENT)
    axes.grid(visible=False, axis="y")
    guesses = {chance(run.probe.confusion) for run, *_ in found if run.probe}
    guesses |= {chance(run.finetune.confusion) for run, *_ in found if run.finetune}
    for guess in filter(None, guesses):
        axes.axvline(guess, color=INK, lw=1.1, ls=(0, (5, 3)), zorder=1)
    return _svg(figure, "Test accuracies, each with its interval at 95 %")


def _outliers_plot(run: ReportedRun) -> Markup | None:
    assert run.outliers is not None
    if run.outliers.spread is None:
        return None
    figure = losses_figure(run.outliers)
    return _svg(figure, "How the losses of each set of images are spread")


def _loss_plot(runs: list[ReportedRun]) -> Markup | None:
    figure, axes = new_plot("steps", "nats per pixel")
    lowest = []
    for run in runs:
        if len(smooth := _draw_smoothed(axes, run, "loss")):
            lowest.append(smooth.min())
        steps, nats = run.curve("validation_nats_per_pixel")
        axes.plot(steps, nats, "o", color=run.color, mec="white", mew=1, ms=6.5, zorder=4)
        lowest.extend(nats)
    if not lowest:
        return None
    starts = sorted({run.model.colors for run in runs})
    top, bottom = math.log(starts[-1]), float(min(lowest))
    height = max(top - bottom, 0.1)
    axes.set_ylim(bottom - 0.1 * height, top + 0.15 * height)
    for colors in starts:
        text = f"before training: log {colors} = {math.log(colors):.2f}"
        _draw_level(axes, math.log(colors), text, INK)
    return _svg(figure, "Training and validation loss over steps")


def _probe_plot(runs: list[ReportedRun]) -> Markup | None:
    probed = [(run, run.probe) for run in runs if run.probe]
    if not probed:
        return None
    figure, axes = new_plot("layer", "test accuracy")
    lines = [(run, probe) for run in runs for probe in (run.untrained, run.probe) if probe]
    for run, trained in probed:
        for probe, style, fill in ((run.untrained, "o:", "white"), (trained, "o-", run.color)):
            rows = sorted(probe.layers if probe else (), key=lambda row: row.layer)
            points = np.array([(row.layer, row.test_accuracy) for row in rows]).reshape(-1, 2)
            loose = points[[not row.converged for row in rows]]
            axes.plot(*points.T, style, color=run.color, mfc=fill, ms=4, lw=1.6)
            if probe is not None:
                _draw_intervals(axes, points, probe, run.color, len(lines))
            axes.plot(*loose.T, "x", color=INK, ms=7, mew=1.6, zorder=5)
        _draw_ring(axes, trained.best_layer, trained.test_accuracy, run.color)
    _from_zero(axes)
    raw = {probe.raw_pixels.test_accuracy: run for run, probe in probed if probe.raw_pixels}
    for accuracy, run in raw.items():
        alone = len(raw) == 1
        text = f"raw pixels {accuracy:.1%}" if alone else ""  # several would overlap
        _draw_level(axes, accuracy, text, INK if alone else run.color)
    axes.yaxis.set_major_formatter(_PERCENT)
    return _svg(figure, "Accuracy of a linear classifier on the features of each layer")


def _class_loss_plot(runs: list[ReportedRun]) -> Markup | None:
    figure, axes = new_plot("steps", "class loss, nats per image")
    drawn = [len(_draw_smoothed(axes, run, "class_loss")) for run in runs]
    return _svg(figure, "Class loss over steps of fine-tuning") if any(drawn) else None


def _accuracy_plot(runs: list[ReportedRun]) -> Markup | None:
    figure, axes = new_plot("steps", "validation accuracy")
    drawn = False
    for run in runs:
        steps, accuracy = run.curve("validation_accuracy")
        axes.plot(steps, accuracy, "o-", color=run.color, lw=1.6, ms=4)
        drawn = drawn or len(steps) > 0
        if run.finetune and run.finetune.validation_accuracy is not None:
            best = run.finetune.best_step, run.finetune.validation_accuracy
            _draw_ring(axes, *best, run.color)
    axes.yaxis.set_major_formatter(_PERCENT)
    if not drawn:
        return None
    _from_zero(axes)
    return _svg(figure, "Validation accuracy over steps of fine-tuning")


def _draw_smoothed(axes: Axes, run: ReportedRun, name: str) -> Float64[np.ndarray, " point"]:
    """Draw a measure of every step, faintly, and its running mean; return the mean."""
    steps, values = run.curve(name)
    index = np.arange(len(values))
    reach = np.minimum(index, len(values) // 80)  # less at the start, where the loss falls fast
    first, end = index - reach, np.minimum(index + reach + 1, len(values))
    sums = np.concatenate([[0], np.cumsum(values)])
    smooth = (sums[end] - sums[first]) / (end - first)
    every = slice(None, None, max(1, math.ceil(len(values) / _POINTS)))
    axes.plot(steps[every], values[every], color=run.color, lw=0.7, alpha=0.3)
    axes.plot(steps[every], smooth[every], color=run.color, lw=1.8)
    return smooth


def _draw_level(axes: Axes, y: float, text: str, color: str) -> None:
    axes.axhline(y, color=color, lw=1.1, ls=(0, (5, 3)), zorder=1)
    axes.annotate(
        text, (1, y), (0, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="right", va="bottom", color=color, fontsize=8.5, zorder=6,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
    )  # fmt: skip


def _draw_intervals(
    axes: Axes,
    points: Float64[np.ndarray, "point 2"],
    probe: LayerProbes,
    color: str,
    lines: int,
) -> None:
    """Draw the interval of each accuracy; of many lines, that of the best layer alone."""
    images = probe.records.get("test")
    if not images:
        return
    for layer, accuracy in points.tolist():
        if lines <= _LINES or layer == probe.best_layer:
            low, high = Share.of(accuracy, images).interval
            axes.plot([layer, layer], [low, high], "-", color=color, lw=1.2, alpha=0.6, zorder=2)


def _from_zero(axes: Axes) -> None:
    """Have an axis of accuracies begin at 0, and end above what is drawn, at 1 at most."""
    axes.set_ylim(0, min(1.04, 1.12 * axes.dataLim.y1))


def _draw_ring(axes: Axes, x: int, y: float, color: str) -> None:
    axes.plot(x, y, "o", mfc="none", mec=color, mew=1.6, ms=11, zorder=5)


def _svg(figure: Figure, title: str) -> Markup:
    """Return the figure to stand in a page: no header, and no identifiers to meet another's."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    drawn = text.getvalue().partition("<svg ")[2]
    drawn = re.sub(r' id="[\w.]+_\d+"', "", drawn)  # groups that nothing refers to
    for color, of_page in _OF_PAGE.items():
        drawn = drawn.replace(color, of_page)
    return Markup(f'<svg role="img" aria-label="{title}" {drawn}')
