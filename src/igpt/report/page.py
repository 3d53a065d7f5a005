"""The report: one page that tells what runs did, for someone who was not there.

Headline figures, curves, probes, pictures and where all of it came from, out of the run folders
alone. The page is a single file without scripts that loads nothing, so it can be mailed, printed
or shown ten years later; drawn twice from the same folders it is the same byte for byte.

    write_report([Path("runs/a"), Path("runs/a-finetuned")], Path("report.html"))

What a run has not measured yet has no section; the page's end names the commands that would, of
what a quickstart measures. This module reads, checks and draws; words and layout are in
`page.jinja`. Names and descriptions from a run appear in the page only, escaped, and never
in a plot that is drawn here.
"""

import base64
import functools
import io
import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from jaxtyping import Float64
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, StrMethodFormatter
from PIL import Image

from igpt.errors import ConfigError
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.files import written_aside
from igpt.pixels.images import GREY_WEIGHTS, image_grid, read_image
from igpt.pixels.palette import Palette
from igpt.runs.evaluate import Evaluation, MasksResult
from igpt.runs.few_labels import FewLabelsResult
from igpt.runs.finetune import FinetuneResult
from igpt.runs.outliers import OutliersResult
from igpt.runs.probe import LayerProbes
from igpt.runs.provenance import Provenance
from igpt.runs.recipes import Recipe
from igpt.runs.run import PretrainSettings, RunFolder, Settings
from igpt.training.config import TrainingConfig
from igpt.training.metrics import read_metrics
from igpt.values import to_dict

_COLORS = ("#2b6ca3", "#c8642b", "#3d8c5f", "#8f5aa8", "#b8962a", "#c2487a", "#3a9aa8", "#7a6a58")
_INK, _MUTED = "#1f2933", "#7b8794"
_PERCENT = FuncFormatter(lambda share, _: f"{100 * share:.4g}%")
_POINTS = 1000  # of a curve that are drawn; a long run has a million
_GAP = 225  # grey between swatches, so that white can be seen
_STRIP = 6  # pictures that show how the samples changed

_OTHER_PROBES = {"ridge": "ridge regression", "neighbors": "nearest neighbors", "sgd": "SGD"}

_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's own font
    "svg.hashsalt": "igpt",  # the same plot gets the same identifiers
    "font.size": 9, "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": "#cbd2d9",
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.grid": True, "grid.color": "#eceff2",
    "xtick.color": _MUTED, "ytick.color": _MUTED, "xtick.major.size": 0, "ytick.major.size": 0,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Run:
    """All that a run's folder tells, checked; empty for what is not there."""

    folder: RunFolder
    label: str
    color: str
    settings: Settings
    recipe: Recipe
    metrics: list[dict[str, Any]]
    evaluation: dict[str, LikelihoodResult]
    probe: LayerProbes | None
    untrained: LayerProbes | None
    other_probes: list[tuple[str, LayerProbes]]
    few_labels: FewLabelsResult | None
    masks: MasksResult | None
    outliers: OutliersResult | None
    finetune: FinetuneResult | None
    provenance: Provenance | None

    @property
    def pretrains(self) -> bool:
        return isinstance(self.settings, PretrainSettings)

    @property
    def training(self) -> TrainingConfig:
        return self.recipe.training if self.pretrains else self.recipe.finetune.training

    @property
    def steps(self) -> int:
        """Updates done so far."""
        return self.metrics[-1]["step"] + 1 if self.metrics else 0

    @property
    def finished(self) -> bool:
        return bool(self.finetune) or (self.pretrains and self.steps >= self.training.steps)

    @property
    def speed(self) -> float | None:
        """Tokens a second, in the middle of what was measured."""
        speeds = self.curve("tokens_per_second")[1]
        return float(np.median(speeds)) if len(speeds) else None

    def curve(self, name: str) -> Float64[np.ndarray, "2 point"]:
        """Return the updates done at each measurement of `name`, and what was measured."""
        points = [(line["step"] + 1, line[name]) for line in self.metrics if name in line]
        points = [point for point in points if math.isfinite(point[1])]
        return np.array(points, dtype=np.float64).reshape(-1, 2).T

    def picture(self, name: str) -> str | None:
        """Return one of the run's PNGs as a `data:` address, once it is known to be whole."""
        file = self.folder.path / name
        if not file.is_file():
            return None
        read_image(file)
        return _png_address(file.read_bytes())

    def samples(self) -> list[tuple[int, str]]:
        """Return the pictures drawn during training, by step: a few, first and newest included."""
        files = [file.name for file in (self.folder.path / "samples").glob("step-*.png")]
        steps = sorted((int(name[5:-4]), name) for name in files if name[5:-4].isdecimal())
        chosen = np.linspace(0, len(steps) - 1, min(_STRIP, len(steps)))
        found = [steps[round(place)] for place in chosen]
        return [(step, self.picture(f"samples/{name}") or "") for step, name in found]


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Write one page about runs, pretraining and fine-tuning in any mixture.

    Args:
        runs: Folders of the runs; one given twice is told of once.
        out: The HTML file.

    Raises:
        CheckpointError: A folder holds no run, or one of its files is damaged.
        ConfigError: There are no runs, or `out` is a folder.
        DataError: A palette or picture is damaged, or `out` cannot be written.
    """
    if not runs:
        raise ConfigError("a report wants at least one run; give the folder that a training wrote")
    if out.is_dir():
        raise ConfigError(f"a report is one file, but {out} is a folder; try {out / 'report.html'}")
    told = _read_runs(runs)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        percent=_percent, count="{:,}".format, duration=_duration, quote=shlex.quote,
        json=functools.partial(json.dumps, indent=2), plain=lambda value: to_dict(value) or {},
    )  # fmt: skip
    template = environment.from_string(Path(__file__).with_name("page.jinja").read_text())
    with matplotlib.rc_context():  # the reader's own matplotlib settings decide nothing
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        plots = {
            "loss": _loss_plot([run for run in told if run.pretrains]),
            "class_loss": _class_loss_plot([run for run in told if not run.pretrains]),
            "accuracy": _accuracy_plot([run for run in told if not run.pretrains]),
            "probe": _probe_plot([run for run in told if run.pretrains and run.probe]),
        }
    page = template.render(
        runs=told, plots=plots, palettes=_palettes(told), best_tuned=_best_tuned(told), log=math.log
    )
    with written_aside(out) as aside:
        aside.write_text(page, encoding="utf-8")


def _best_tuned(runs: list[_Run]) -> _Run | None:
    """Return the fine-tuning whose test accuracy stands for all; one is best on validation.

    One that learned from the validation images, too, came after such a choice, and is its outcome.
    """

    def rank(run: _Run) -> tuple[bool, float]:
        validation = run.finetune.validation_accuracy if run.finetune else None
        return validation is None, validation or 0.0

    tested = [run for run in runs if run.finetune and run.finetune.test_accuracy is not None]
    return max(tested, key=rank, default=None)


def _read_runs(paths: Sequence[Path]) -> list[_Run]:
    unique: dict[Path, Path] = {}
    for path in paths:
        unique.setdefault(path.resolve(), path)
    names = [resolved.name for resolved in unique]
    colors = list(_COLORS)
    if len(unique) > len(colors):
        rainbow = matplotlib.colormaps["nipy_spectral"](np.linspace(0.05, 0.9, len(unique)))
        colors = [matplotlib.colors.to_hex(color) for color in rainbow]
    return [
        _read_run(path, label=name if names.count(name) == 1 else str(path), color=color)
        for path, name, color in zip(unique.values(), names, colors, strict=False)
    ]


def _read_run(path: Path, *, label: str, color: str) -> _Run:
    folder = RunFolder.open(path)
    settings = folder.settings
    if isinstance(settings, PretrainSettings):
        recipe = settings.recipe
    else:
        recipe = Recipe(model=settings.model, finetune=settings.config)
    metrics = read_metrics(folder.metrics)
    evaluation = folder.read("evaluation.json", Evaluation) or Evaluation()
    return _Run(
        folder=folder, label=label, color=color, settings=settings, recipe=recipe,
        metrics=metrics, evaluation=evaluation.splits,
        probe=folder.read("probe.json", LayerProbes),
        untrained=folder.read("probe-untrained.json", LayerProbes),
        other_probes=[
            (name, probe)
            for solver, name in _OTHER_PROBES.items()
            if (probe := folder.read(f"probe-{solver}.json", LayerProbes))
        ],
        few_labels=folder.read("few-labels.json", FewLabelsResult),
        masks=folder.read("masks.json", MasksResult),
        outliers=folder.read("outliers.json", OutliersResult),
        finetune=folder.read("finetune.json", FinetuneResult),
        provenance=folder.read("provenance.json", Provenance),
    )  # fmt: skip


def _palettes(runs: list[_Run]) -> list[dict[str, Any]]:
    """Return each palette once: its runs, its swatches and a picture of what it does."""
    palettes: dict[str, dict[str, Any]] = {}
    for run in runs:
        if not (run.folder.path / "palette.npy").is_file():
            continue
        palette = run.folder.palette
        known = palettes.setdefault(
            palette.fingerprint,
            {"size": palette.size, "swatches": _swatches(palette), "runs": [], "picture": None},
        )
        known["runs"].append(run)
        known["picture"] = known["picture"] or run.picture("palette.png")
    return list(palettes.values())


def _swatches(palette: Palette) -> str:
    """Return all colors, dark to light, as a `data:` address."""
    order = np.argsort(palette.rgb.astype(np.int64) @ np.array(GREY_WEIGHTS), kind="stable")
    columns = min(palette.size, 32 if palette.size <= 1024 else 128)
    cells = np.full((math.ceil(palette.size / columns) * columns, 3), _GAP, dtype=np.uint8)
    cells[: palette.size] = palette.rgb[order]
    scale = 20 if columns <= 32 else 5
    grid = image_grid(cells.reshape(-1, columns, 1, 1, 3), scale=scale, background=_GAP)
    png = io.BytesIO()
    Image.fromarray(grid).save(png, format="PNG")
    return _png_address(png.getvalue())


def _loss_plot(runs: list[_Run]) -> Markup | None:
    figure, axes = _plot("steps", "nats per pixel")
    lowest = []
    for run in runs:
        if len(smooth := _draw_smoothed(axes, run, "loss")):
            lowest.append(smooth.min())
        steps, nats = run.curve("validation_nats_per_pixel")
        axes.plot(steps, nats, "o", color=run.color, mec="white", mew=1, ms=6.5, zorder=4)
        lowest.extend(nats)
    if not lowest:
        return None
    starts = sorted({run.recipe.model.colors for run in runs})
    top, bottom = math.log(starts[-1]), float(min(lowest))
    room = max(top - bottom, 0.1)
    axes.set_ylim(bottom - 0.1 * room, top + 0.15 * room)
    for colors in starts:
        text = f"before training: log {colors} = {math.log(colors):.2f}"
        _draw_level(axes, math.log(colors), text, _MUTED)
    return _svg(figure, "Training and validation loss over steps")


def _class_loss_plot(runs: list[_Run]) -> Markup | None:
    figure, axes = _plot("steps", "class loss, nats per image")
    drawn = [len(_draw_smoothed(axes, run, "class_loss")) for run in runs]
    return _svg(figure, "Class loss over steps of fine-tuning") if any(drawn) else None


def _accuracy_plot(runs: list[_Run]) -> Markup | None:
    figure, axes = _plot("steps", "validation accuracy")
    drawn = False
    for run in runs:
        steps, accuracy = run.curve("validation_accuracy")
        axes.plot(steps, accuracy, "o-", color=run.color, lw=1.6, ms=4)
        drawn = drawn or len(steps) > 0
        if run.finetune and run.finetune.validation_accuracy is not None:
            _draw_ring(axes, run.finetune.best_step, run.finetune.validation_accuracy, run)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.margins(y=0.12)
    return _svg(figure, "Validation accuracy over steps of fine-tuning") if drawn else None


def _probe_plot(runs: list[_Run]) -> Markup | None:
    if not runs:
        return None
    figure, axes = _plot("layer", "test accuracy")
    raw = {
        run.probe.raw_pixels.test_accuracy: run
        for run in runs
        if run.probe and run.probe.raw_pixels
    }
    for run in runs:
        assert run.probe is not None
        for probe, style, fill in ((run.untrained, "o:", "white"), (run.probe, "o-", run.color)):
            rows = sorted(probe.layers if probe else (), key=lambda row: row.layer)
            points = np.array([(row.layer, row.test_accuracy) for row in rows]).reshape(-1, 2)
            loose = points[[not row.converged for row in rows]]
            axes.plot(*points.T, style, color=run.color, mfc=fill, ms=4, lw=1.6)
            axes.plot(*loose.T, "x", color=_INK, ms=7, mew=1.6, zorder=5)
        _draw_ring(axes, run.probe.best_layer, run.probe.test_accuracy, run)
    axes.margins(y=0.12)
    for accuracy, run in raw.items():
        alone = len(raw) == 1
        text = f"raw pixels {accuracy:.1%}" if alone else ""  # several would overlap
        _draw_level(axes, accuracy, text, _MUTED if alone else run.color)
    axes.yaxis.set_major_formatter(_PERCENT)
    return _svg(figure, "Accuracy of a linear classifier on the features of each layer")


def _plot(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    return figure, axes


def _draw_smoothed(axes: Axes, run: _Run, name: str) -> Float64[np.ndarray, " point"]:
    """Draw a measure of every step, faintly, and its running mean; return the mean."""
    steps, values = run.curve(name)
    place = np.arange(len(values))
    reach = np.minimum(place, len(values) // 80)  # less at the start, where the loss falls fast
    first, end = place - reach, np.minimum(place + reach + 1, len(values))
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


def _draw_ring(axes: Axes, x: int, y: float, run: _Run) -> None:
    axes.plot(x, y, "o", mfc="none", mec=run.color, mew=1.6, ms=11, zorder=5)


def _svg(figure: Figure, title: str) -> Markup:
    """Return the figure to stand in a page: no header, and no identifiers to meet another's."""
    text = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(text, format="svg", metadata=nothing)
    drawn = text.getvalue().partition("<svg ")[2]
    drawn = re.sub(r' id="[\w.]+_\d+"', "", drawn)  # groups that nothing refers to
    return Markup(f'<svg role="img" aria-label="{title}" {drawn}')


def _png_address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _percent(share: float | None) -> str:
    return "\N{EN DASH}" if share is None else f"{share:.1%}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
