"""What the folders of runs say: settings, curves, results, palettes, pictures.

    first, second = read_runs([Path("runs/a"), Path("runs/a-finetuned")])
    first.probe.test_accuracy

All but the pictures is read at once, each file as the type that it was written from, so a damaged
one is refused before anything is drawn. What was made before a run's model became what it now is,
is left out and named in `outdated`, and in `elsewhere` probes of other images. A run also gets the
label and the color that stand for it on the whole page; all else about its looks is for
`igpt.report.plots` and `page.jinja` to decide.
"""

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from igpt.errors import CheckpointError, DataError
from igpt.evaluation.few_labels import FewLabelsResult
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.outliers import OutliersResult
from igpt.evaluation.probe import LayerProbes
from igpt.model.config import ModelConfig, ObjectiveName
from igpt.model.description import model_identity
from igpt.pixels.images import read_whole_png
from igpt.pixels.palette import Palette
from igpt.places import run_of
from igpt.report.verdicts import Beside
from igpt.runs.finetune import FinetuneResult
from igpt.runs.kept import ALL, MadeFrom, Result, outdated
from igpt.runs.measure import Evaluation
from igpt.runs.plots import run_colors
from igpt.runs.provenance import Provenance
from igpt.runs.run import FinetuneSettings, PretrainSettings, RunFolder, Settings
from igpt.runs.sheets import Legend, Sheet, read_sheet
from igpt.training.config import TrainingConfig
from igpt.training.fit import STATE
from igpt.training.metrics import read_metrics, require_lines
from igpt.training.state import Checkpoints, StateDamaged

_OTHER_SOLVERS = ("ridge", "neighbors", "sgd")
_DRAWN = ("completions.png", "surprise.png")
_STRIP = 6  # pictures that show how the samples changed


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """All that a run's folder says; None or empty for what is not there."""

    folder: RunFolder
    label: str
    """The folder's name; its path where two runs have one name."""
    color: str
    settings: Settings
    palette: Palette | None
    metrics: list[dict[str, int | float]]
    """A line a step."""
    evaluation: dict[str, LikelihoodResult]
    """By split."""
    probe: LayerProbes | None
    untrained: LayerProbes | None
    other_probes: tuple[LayerProbes, ...]
    """By other solvers than L-BFGS."""
    few_labels: FewLabelsResult | None
    masks: MasksResult | None
    outliers: OutliersResult | None
    finetune: FinetuneResult | None
    provenance: Provenance | None
    stores: dict[str, str] = field(default_factory=dict)
    """Identity of the record store that each of its files was measured on, where it says so."""
    outdated: tuple[str, ...] = ()
    """What is left out, since the run's model is another by now than the one it was made of."""
    elsewhere: tuple[str, ...] = ()
    """Probes left out, since they are of other images than the one they would stand beside."""

    @property
    def pretrains(self) -> bool:
        """Whether this is a pretraining run, not a fine-tuning one."""
        return isinstance(self.settings, PretrainSettings)

    @property
    def model(self) -> ModelConfig:
        """The network, without a class head."""
        settings = self.settings
        if isinstance(settings, PretrainSettings):
            return settings.recipe.model
        return settings.model

    @property
    def objective(self) -> ObjectiveName:
        """What the network is, or of a fine-tuned one was, pretrained by, as far as it says."""
        settings = self.settings
        if isinstance(settings, PretrainSettings):
            return settings.recipe.learned_by
        return settings.model.objective()

    @property
    def training(self) -> TrainingConfig:
        """How it is trained."""
        settings = self.settings
        if isinstance(settings, PretrainSettings):
            return settings.recipe.training
        return settings.config.training

    @property
    def steps(self) -> int:
        """Updates done so far."""
        return int(self.metrics[-1]["step"]) + 1 if self.metrics else 0

    @property
    def finished(self) -> bool:
        """Whether training is over."""
        return bool(self.finetune) or (self.pretrains and self.steps >= self.training.steps)

    @property
    def seconds(self) -> float | None:
        """What training took so far."""
        return self.metrics[-1].get("seconds") if self.metrics else None

    @property
    def blind_nats(self) -> float:
        """What a pixel costs a network that knows nothing."""
        return math.log(self.model.colors)

    @property
    def date(self) -> str | None:
        """When training began, as `2026-11-26`."""
        return self.provenance.started.partition("T")[0] if self.provenance else None

    def beside(self, others: Sequence["ReportedRun"], name: str = "probe.json") -> Beside:
        """Return what a result can be compared with: what is of the same network and images.

        Args:
            others: Runs, among them that which a fine-tuning began from, if it is to be compared.
            name: The result's file; of a fine-tuning, its images are those that it learned from.
        """
        run, images = self, self.stores.get(name)
        if isinstance(self.settings, FinetuneSettings):
            source, images = _place(Path(self.settings.source)), self.settings.data.sha256
            sources = (run for run in others if _place(run.folder.path) == source)
            run = next(sources, self)

        def of_same(probe: LayerProbes | None, name: str) -> LayerProbes | None:
            return probe if run.stores.get(name, images) == images else None

        return Beside(
            probe=of_same(run.probe, "probe.json"),
            untrained=of_same(run.untrained, "probe-untrained.json"),
        )

    @property
    def speed(self) -> float | None:
        """Tokens a second, in the middle of what was measured."""
        speeds = self.curve("tokens_per_second")[1]
        return float(np.median(speeds)) if len(speeds) else None

    def curve(self, name: str) -> Float64[np.ndarray, "2 point"]:
        """Return the updates done at each finite measurement of `name`, and what was measured."""
        points = [(line["step"] + 1, line[name]) for line in self.metrics if name in line]
        points = [point for point in points if math.isfinite(point[1])]
        return np.array(points, dtype=np.float64).reshape(-1, 2).T

    def picture(self, name: str) -> bytes | None:
        """Return one of the run's PNG files, once it is known to be whole.

        None if there is none, or if an earlier model drew it.

        Raises:
            DataError: It is damaged.
        """
        file = self.folder.path / name
        return read_whole_png(file) if name not in self.outdated and file.is_file() else None

    def sheet(self, name: str) -> Sheet | None:
        """Return one of the run's pictures with its legend; None if there is none with one.

        Raises:
            DataError: It is damaged.
        """
        png = self.picture(name)
        return None if png is None else read_sheet(png, name=str(self.folder.path / name))

    def samples(self) -> list[tuple[int, bytes]]:
        """Return the pictures drawn during training, by step: a few, first and newest included.

        Raises:
            DataError: One of them is damaged.
        """
        files = (self.folder.path / "samples").glob("step-*.png")
        steps = sorted((int(file.stem[5:]), file) for file in files if file.stem[5:].isdecimal())
        shown = np.linspace(0, len(steps) - 1, min(_STRIP, len(steps)))
        chosen = [steps[round(index)] for index in shown]
        return [(step, read_whole_png(file)) for step, file in chosen]

    def progress(self) -> Sheet | None:
        """Return how the completions of some images became better, a column a step.

        None where the pictures drawn during training, of an earlier igpt, do not say of what.

        Raises:
            DataError: One of them is damaged.
        """
        samples = self.samples()
        sheets = [read_sheet(png, name=f"the picture of step {step}") for step, png in samples]
        known = [sheet for sheet in sheets if sheet is not None and len(sheet.legend.columns) > 2]
        if len(known) < max(1, len(sheets)):
            return None
        newest = known[-1]
        steps = [f"step {step:,}" for step, _ in samples]
        columns = ("given", *steps, "original")
        cells = tuple(
            (row[0], *(sheet.cells[number][1] for sheet in known), row[-1])
            for number, row in enumerate(newest.cells)
        )
        names = tuple((row[0],) * len(columns) for row in newest.legend.names)
        return Sheet(legend=Legend(columns=columns, names=names), cells=cells)


def read_runs(paths: Sequence[Path]) -> list[ReportedRun]:
    """Return what the folders of some runs say; of one that is given twice, once.

    Raises:
        CheckpointError: A folder holds no run, or one of its files is damaged.
        DataError: A palette is damaged.
    """
    unique: dict[Path, Path] = {}
    for path in paths:
        unique.setdefault(_place(path), path)
    names = [resolved.name for resolved in unique]
    return [
        _read_run(path, label=name if names.count(name) == 1 else str(path), color=color)
        for path, name, color in zip(unique.values(), names, run_colors(len(unique)), strict=True)
    ]


def _place(path: Path) -> Path:
    """Return where a run really is, also that of a search; the search itself while it has none."""
    with contextlib.suppress(CheckpointError):
        path = run_of(path)
    return Path(os.path.realpath(path))


class _Current:
    """The results of a run that were made of its model as it is now, or do not say of which."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        there = (folder.model / "config.json").is_file()
        self.model = model_identity(folder.model) if there else None
        self.outdated: list[str] = []
        self.elsewhere: list[str] = []
        self.stores: dict[str, str] = {}

    def read(self, name: str, kind: type[Result]) -> Result | None:
        """Return the result in a file; None if there is none, or if all of it is outdated."""
        result, made_from = self.folder.kept(name, kind)
        old = self.outdated_parts(made_from)
        if old and len(old) == len(made_from):
            self.outdated.append(name)
            return None
        self.outdated += [f"{name}: {part}" for part in old]
        if ALL in made_from:
            self.stores[name] = made_from[ALL].store
        return result

    def read_beside(self, name: str) -> LayerProbes | None:
        """Return a probe that is to stand beside that of `probe.json`, which has been read."""
        probe, images = self.read(name, LayerProbes), self.stores.get("probe.json")
        if probe is None or images is None or self.stores.get(name, images) == images:
            return probe
        self.elsewhere.append(name)
        return None

    def look_at(self, picture: str) -> None:
        """See which model drew a picture; a damaged one is refused where it would be shown."""
        file = self.folder.path / picture
        with contextlib.suppress(DataError):
            sheet = read_sheet(read_whole_png(file), name=picture) if file.is_file() else None
            if sheet and sheet.model and self.model not in (None, sheet.model):
                self.outdated.append(picture)

    def outdated_parts(self, made_from: dict[str, MadeFrom]) -> list[str]:
        """Return which of a file's results are of another model."""
        return [] if self.model is None else outdated(made_from, self.model)

    def evaluation(self) -> dict[str, LikelihoodResult]:
        """Return what is known of each split."""
        splits = (self.read("evaluation.json", Evaluation) or Evaluation()).splits
        old = self.outdated_parts(self.folder.kept("evaluation.json", Evaluation)[1])
        return {name: result for name, result in splits.items() if name not in old}


def _read_run(path: Path, *, label: str, color: str) -> ReportedRun:
    folder = RunFolder.open(path)
    current = _Current(folder)
    probe = current.read("probe.json", LayerProbes)
    others = [current.read_beside(f"probe-{solver}.json") for solver in _OTHER_SOLVERS]
    for picture in _DRAWN:
        current.look_at(picture)
    return ReportedRun(
        folder=folder,
        label=label,
        color=color,
        settings=folder.settings,
        palette=folder.palette if (folder.path / "palette.npy").is_file() else None,
        metrics=_read_metrics(folder),
        evaluation=current.evaluation(),
        probe=probe,
        untrained=current.read_beside("probe-untrained.json"),
        other_probes=tuple(probe for probe in others if probe),
        few_labels=current.read("few-labels.json", FewLabelsResult),
        masks=current.read("masks.json", MasksResult),
        outliers=current.read("outliers.json", OutliersResult),
        finetune=folder.read("finetune.json", FinetuneResult),
        provenance=folder.read("provenance.json", Provenance),
        stores=current.stores,
        outdated=tuple(sorted(current.outdated)),
        elsewhere=tuple(current.elsewhere),
    )


def _read_metrics(folder: RunFolder) -> list[dict[str, int | float]]:
    """Return a run's lines, held against what its newest readable state tells of them."""
    states = Checkpoints(folder.path / STATE)
    for step in reversed(states.steps()):
        with contextlib.suppress(StateDamaged):
            memory = states.remembered(step)
            require_lines(folder.metrics, memory.lines, memory.metrics_sha256)
            break
    return read_metrics(folder.metrics)
