"""What a run, search, store, model or palette is, what was done with it, and what of it can go.

    found = info(Path("runs/a"))
    print(found.table())

Only what files say is read: no weights, no pixels. Whether they are whole is for `igpt verify`.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from igpt.amounts import size_text, spoken
from igpt.data.description import read_description
from igpt.errors import CheckpointError, ConfigError, IgptError, printable
from igpt.evaluation.probe import LayerProbes
from igpt.files import read_json
from igpt.model.config import OBJECTIVE_WORDS, AskedObjective, ModelConfig
from igpt.model.description import model_identity
from igpt.model.kept_probe import PROBE
from igpt.paths import AnyPath
from igpt.pixels.orders import RASTER
from igpt.pixels.palette import Palette
from igpt.places import SEARCH, kind_of, located, run_of
from igpt.runs.finetune import FinetuneResult
from igpt.runs.kept import ALL, outdated
from igpt.runs.measure import Evaluation
from igpt.runs.palette import read_report
from igpt.runs.provenance import Provenance
from igpt.runs.rates import SearchResult
from igpt.runs.run import PretrainSettings, RunFolder, training_of
from igpt.runs.verify import RESULTS
from igpt.training.fit import MODEL, SNAPSHOTS, STATE
from igpt.training.metrics import read_metrics
from igpt.values import from_dict


@dataclass(frozen=True, kw_only=True)
class Part:
    """Files that belong together, and whether they can go."""

    name: str
    bytes: int
    can_go: bool = False
    note: str = ""
    """What they are for, or what is lost without them."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """What is known of what lies at a path."""

    path: str
    kind: str
    said: tuple[str, ...]
    """What it is and what was done with it, in lines."""
    results: tuple[str, ...] = ()
    """What was measured and is kept, by file."""
    parts: tuple[Part, ...] = ()

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return sum(part.bytes for part in self.parts)

    @property
    def removable(self) -> int:
        """What of that can go."""
        return sum(part.bytes for part in self.parts if part.can_go)

    def table(self) -> str:
        """Return all of it as lines."""
        lines = [f"{printable(self.path)}: {self.said[0]}"]
        lines += [f"  {printable(line)}" for line in self.said[1:]]
        lines += [f"  kept: {printable(line)}" for line in self.results]
        width = max((len(part.name) for part in self.parts), default=0)
        for part in self.parts:
            mark = "can go: " if part.can_go else ""
            text = f"  {size_text(part.bytes):>8}  {part.name:{width}}  {mark}{part.note}"
            lines.append(text.rstrip())
        can_go = f", of which {size_text(self.removable)} can go" if self.removable else ""
        lines.append(f"  {size_text(self.bytes):>8}  in all{can_go}")
        return "\n".join(lines)


def info(path: AnyPath) -> Info:
    """Return what is known of what lies at `path`.

    Raises:
        CheckpointError: A run's recipe is damaged.
        ConfigError: There is nothing of igpt's.
        DataError: A store or palette is damaged.
    """
    path = located(Path(path))
    described: dict[str, Callable[[Path], Info]] = {
        "run": _run, "search": _search, "store": _store, "model": _model, "palette": _palette,
    }  # fmt: skip
    kind = kind_of(path)
    if kind is not None:
        return described[kind](path)
    inside = [child for child in sorted(path.iterdir()) if kind_of(child)] if path.is_dir() else []
    if not inside:
        raise ConfigError(
            f"{path} is no run, search, store, model folder of igpt's own or palette file, nor a "
            "folder with some in it; give one of these"
        )
    return Info(
        path=str(path),
        kind="folder",
        said=("a folder of igpt's", *(_line(child) for child in inside)),
        parts=tuple(Part(name=child.name, bytes=_bytes(child)) for child in sorted(path.iterdir())),
    )


def _line(path: Path) -> str:
    try:
        found = info(path)
    except IgptError as error:
        return f"{path.name}: {error}"
    more = [line for line in found.said[1:] if line.startswith("trained:")]
    return f"{path.name}: " + "; ".join([found.said[0], *more])


def _bytes(*paths: Path) -> int:
    files = (file for path in paths for file in (path, *path.rglob("*")))
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _network(model: ModelConfig, objective: AskedObjective = "auto") -> str:
    kind = OBJECTIVE_WORDS[model.objective(objective)]
    order = "" if model.order == RASTER else f", read in the order {model.order}"
    return (
        f"network: {model.layers} layers of width {model.width}, {model.parameters:,} weights, "
        f"{model.image_size}x{model.image_size} pixels in {model.colors} colors, {kind}{order}"
    )


def _run(path: Path) -> Info:
    run = RunFolder.open(path)
    settings, lines = run.settings, []
    with contextlib.suppress(CheckpointError):  # damaged metrics are for igpt verify
        lines = read_metrics(run.metrics)
    steps = len(lines)
    training = training_of(settings)
    if isinstance(settings, PretrainSettings):
        finished = steps >= training.steps
        name = f" by the recipe {settings.name}" if settings.name else ""
        what = f"a pretraining run{name}"
        network = _network(settings.recipe.model, settings.recipe.objective)
    else:
        finished = (path / "finetune.json").is_file()
        what, network = f"a fine-tuning run, from {settings.source}", _network(settings.model)
    seconds = lines[-1].get("seconds", 0.0) if steps else 0.0
    trained = f"trained: {steps:,} of {training.steps:,} steps in {spoken(seconds)}"
    trained += ", finished" if finished else f"; go on with {run.resuming}"
    there = "" if Path(settings.data.path).exists() else " (not there now)"
    said = [
        what,
        network,
        trained,
        *(f"given {change.steps:,} steps instead of {change.before:,}, after {change.after:,}"
          for change in run.longer),
        f"images: {settings.data.path}{there}, {settings.split}",
    ]  # fmt: skip
    with contextlib.suppress(CheckpointError):
        made = run.read("provenance.json", Provenance)
        if made is not None:
            said.append(f"begun: {made.started} with igpt {made.igpt} on {made.device}")
            said.append(f"command: {made.command}")
    return Info(
        path=str(path), kind="run", said=tuple(said), results=tuple(_results(run)),
        parts=tuple(_parts_of_run(path, finished)),
    )  # fmt: skip


def _results(run: RunFolder) -> Iterator[str]:
    """Yield what the run keeps of each measure, and which are of a model that it has no more."""
    whole = (run.model / "config.json").is_file()
    model = model_identity(run.model) if whole else None
    for name, kind in RESULTS.items():
        if name == "provenance.json" or not (run.path / name).is_file():
            continue
        try:
            result, made_from = run.kept(name, kind)
        except CheckpointError as error:
            yield str(error)
            continue
        old = [] if model is None or name == "along.json" else outdated(made_from, model)
        parts = "" if old == [ALL] else f" ({', '.join(old)})"
        yield f"{name}{_figures(result)}" + (f", of an earlier model{parts}" if old else "")


def _figures(result: object) -> str:
    """Return what stands out in a result."""
    if isinstance(result, Evaluation):
        splits = result.splits.items()
        return ": " + ", ".join(f"{split} {row.nats_per_pixel:.4f} nats" for split, row in splits)
    if isinstance(result, LayerProbes):
        return f": best layer {result.best_layer}, test {result.test_accuracy:.1%}"
    if isinstance(result, FinetuneResult) and result.test_accuracy is not None:
        return f": test {result.test_accuracy:.1%}"
    return ""


def _parts_of_run(path: Path, finished: bool) -> Iterator[Part]:
    known = {
        MODEL: (False, "what others load"),
        STATE: (
            finished,
            "without it the run cannot be trained further" if finished else "to go on from",
        ),
        SNAPSHOTS: (False, "the model on the way, for igpt along"),
        "pretrained": (False, "what it began from, to go on with"),
        PROBE: (False, "the best layer's probe, for igpt classify"),
        "samples": (True, "pictures drawn as it went; the report shows them"),
    }
    pictures = sorted(path.glob("*.png"))
    for name, (can_go, note) in known.items():
        if (path / name).exists():
            yield Part(name=f"{name}/", bytes=_bytes(path / name), can_go=can_go, note=note)
    if pictures:
        yield Part(name="*.png", bytes=_bytes(*pictures), can_go=True, note="pictures, likewise")
    rest = [child for child in path.iterdir() if child.name not in known and child not in pictures]
    yield Part(name="the rest", bytes=_bytes(*rest), note="settings, metrics, results, palette")


def _search(path: Path) -> Info:
    try:
        found = from_dict(SearchResult, read_json(path / SEARCH), name="it")
    except ConfigError as error:
        raise CheckpointError(f"{path / SEARCH} is damaged: {error}; restore it") from error
    rates = ", ".join(f"{row.learning_rate:g}" for row in found.tries) or "none yet"
    said = ["a search of learning rates", f"tried: {rates}"]
    outcome = None
    if found.run:
        outcome = run_of(path)
        said.append(f"outcome: {outcome}, which {path} stands for")
        said += info(outcome).said[1:3]
    else:
        said.append("not finished; the command that began it goes on")
    tried = {f"rate-{row.learning_rate}" for row in found.tries}
    parts = []
    for child in sorted(path.iterdir()):
        spare = outcome is not None and child != outcome and child.name in tried
        note = "its score stays in search.json" if spare else ""
        if child == outcome:
            note = "the outcome"
        parts.append(Part(name=child.name, bytes=_bytes(child), can_go=spare, note=note))
    return Info(path=str(path), kind="search", said=tuple(said), parts=tuple(parts))


def _store(path: Path) -> Info:
    description, identity = read_description(path)
    size, names = description.config.image_size, description.class_names
    counts = ", ".join(f"{part.records:,} {name}" for name, part in description.splits.items())
    labels = f"{len(names)} classes: {', '.join(names[:12])}" if names else "no labels"
    more = ", ..." if names and len(names) > 12 else ""
    said = (
        f"a record store, {counts} images of {size}x{size} pixels",
        labels + more,
        f"made from {description.source} with igpt {description.made_with.get('igpt', '?')}",
        f"read {description.account.read:,} images, skipped {description.account.images_skipped:,}",
        f"identity: {identity}",
    )
    parts = [Part(name=f"{name}/", bytes=_bytes(path / name)) for name in description.splits]
    parts.append(Part(name="store.json", bytes=_bytes(path / "store.json")))
    note = "runs need it to go on, and to be measured; it can be prepared again from its source"
    parts[0] = dataclasses.replace(parts[0], note=note)
    return Info(path=str(path), kind="store", said=said, parts=tuple(parts))


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """What `config.json` of a model folder says of its network."""

    model: ModelConfig
    objective: AskedObjective = "auto"

    def __post_init__(self) -> None:
        """Reject an objective that this network cannot learn by."""
        self.model.objective(self.objective)


def _model(path: Path) -> Info:
    values = read_json(path / "config.json")
    said = ["a model folder"]
    with contextlib.suppress(ConfigError):
        known = {name: values[name] for name in ("model", "objective") if name in values}
        shape = from_dict(_Shape, known, name="a model")
        said.append(_network(shape.model, shape.objective))
    names = values.get("class_names")
    said.append(f"classes: {', '.join(map(str, names))}" if names else "no class head")
    parts = tuple(Part(name=file.name, bytes=_bytes(file)) for file in sorted(path.iterdir()))
    return Info(path=str(path), kind="model", said=tuple(said), parts=parts)


def _palette(path: Path) -> Info:
    palette = Palette.load(path)
    said = [f"a palette of {palette.size} colors", f"fingerprint: {palette.fingerprint}"]
    with contextlib.suppress(IgptError):
        report = read_report(path)
        said.append(
            f"fitted to images of {report.image_size}x{report.image_size} pixels; mean squared "
            f"error {report.mean_squared_error:.2f} on {report.images:,} of {report.split}"
        )
    beside = [path.with_suffix(ending) for ending in (".json", ".png")]
    files = [path, *(file for file in beside if file.is_file())]
    notes = {".json": "how it was fitted", ".png": "originals above quantized"}
    return Info(
        path=str(path), kind="palette", said=tuple(said),
        parts=tuple(
            Part(name=file.name, bytes=_bytes(file), note=notes.get(file.suffix, ""))
            for file in files
        ),
    )  # fmt: skip
