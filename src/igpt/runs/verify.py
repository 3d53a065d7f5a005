"""Whether the files of a run, store, model or palette are those that igpt wrote, one by one.

    verified = verify(Path("runs/a"))
    verified.whole                      # False if any file was changed or is missing
    [file for file in verified.files if file.state != "ok"]

Everything is read in full and held against the checksums that lie beside it. Opening a store or
loading a model checks most of this too, and refuses at the first fault; here every file gets a
line. A file is "unknown" where nothing tells what it held: it is not igpt's, or of igpt 0.1, which
kept fewer checksums. That is no fault, nor is a result that was measured of an earlier model.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from igpt.data.description import read_description
from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, ConfigError, DataError, IgptError, printable
from igpt.evaluation.few_labels import FewLabelsResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.outliers import OutliersResult
from igpt.evaluation.probe import LayerProbes
from igpt.files import digest, read_json
from igpt.model.description import MODEL_FILES, model_identity, model_sha256
from igpt.model.kept_probe import PROBE, KeptProbe
from igpt.model.pretrained import load_folder
from igpt.model.weights import read_sealed
from igpt.paths import AnyPath
from igpt.pixels.images import read_whole_png
from igpt.pixels.palette import Palette
from igpt.places import Kind, kind_of, located
from igpt.runs.along import Along
from igpt.runs.finetune import HEAD, FinetuneResult
from igpt.runs.kept import ALL, outdated
from igpt.runs.measure import Evaluation
from igpt.runs.palette import read_report
from igpt.runs.provenance import Provenance
from igpt.runs.run import (
    LONGER,
    DataIdentity,
    FinetuneSettings,
    PretrainSettings,
    RunFolder,
    Settings,
)
from igpt.training.fit import SNAPSHOTS, STATE
from igpt.training.metrics import read_metrics, require_lines
from igpt.training.state import Checkpoints, Memory

State = Literal["ok", "changed", "missing", "unknown"]

RESULTS: dict[str, type] = {
    "evaluation.json": Evaluation,
    **{
        f"probe{untrained}{solver}.json": LayerProbes
        for untrained in ("", "-untrained")
        for solver in ("", "-ridge", "-neighbors", "-sgd")
    },
    "few-labels.json": FewLabelsResult,
    "masks.json": MasksResult,
    "outliers.json": OutliersResult,
    "along.json": Along,
    "finetune.json": FinetuneResult,
    "provenance.json": Provenance,
}
"""The results that a run may keep."""

_NO_CHECKSUM = "readable, but without a checksum, as igpt 0.1 wrote it"
_EARLIER = "measured of a model that the run no longer has"
_NOT_HELD = "readable, but nothing is left to hold it against"


@dataclass(frozen=True, kw_only=True)
class VerifiedFile:
    """What is known of one file."""

    name: str
    """Its path within what is verified; of the store of a run, the store's own."""
    state: State
    note: str = ""
    """What is wrong, or why nothing is known."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What is known of every file."""

    path: str
    kind: Kind
    files: tuple[VerifiedFile, ...]

    @property
    def whole(self) -> bool:
        """Whether no file was changed and none is missing."""
        return all(file.state in ("ok", "unknown") for file in self.files)

    def table(self) -> str:
        """Return a line for each file, and one for all."""
        rows = [
            f"  {file.state:8} {printable(file.name)}" + (f": {file.note}" if file.note else "")
            for file in self.files
        ]
        return "\n".join([*rows, self.count()])

    def count(self) -> str:
        """Return the line for all files."""
        counts = {
            state: sum(file.state == state for file in self.files)
            for state in ("ok", "changed", "missing", "unknown")
        }
        said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        return f"{printable(self.path)}, a {self.kind}: {said}"

    def require_whole(self) -> None:
        """See that no file was changed and none is missing.

        Raises:
            DataError: Some were; the message names the first of them.
        """
        faults = [file for file in self.files if file.state not in ("ok", "unknown")]
        if faults:
            first, more = faults[0], len(faults) - 1
            raise DataError(
                f"{self.path}: {first.name} {'was' if first.state == 'changed' else 'is'} "
                f"{first.state}"
                + (f" ({first.note})" if first.note else "")
                + (f", and so are {more} more" if more else "")
                + "; restore it, or prepare the store again"
            )


def verify(path: AnyPath) -> Verification:
    """Read all of a run, a search, a store, a model folder or a palette file and check it.

    Raises:
        ConfigError: `path` is none of these.
    """
    path = located(Path(path))
    checks: dict[Kind, Callable[[Path], Iterator[VerifiedFile]]] = {
        "search": _search, "run": _run, "store": _store, "model": _model, "palette": _palette,
    }  # fmt: skip
    if kind := kind_of(path):
        return Verification(path=str(path), kind=kind, files=tuple(checks[kind](path)))
    raise ConfigError(
        f"{path} is no run, store, model folder of igpt's own or palette file; give one of these "
        "(a model of another kind has no checksums until igpt convert made it igpt's)"
    )


def _file(name: str, path: Path, check: Callable[[], str | None]) -> VerifiedFile:
    """Return what a check makes of a file: it raises, or says why nothing is known, or neither."""
    if not path.exists():
        return VerifiedFile(name=name, state="missing")
    try:
        unknown = check()
    except IgptError as error:
        return VerifiedFile(name=name, state="changed", note=str(error))
    return VerifiedFile(name=name, state="unknown" if unknown else "ok", note=unknown or "")


def _within(name: str, files: Iterable[VerifiedFile]) -> Iterator[VerifiedFile]:
    """Yield the files of a folder by their names in the folder around it."""
    return (dataclasses.replace(file, name=f"{name}/{file.name}") for file in files)


def _others(folder: Path, known: Iterable[VerifiedFile]) -> Iterator[VerifiedFile]:
    """Yield what is in a folder and not known yet."""
    names = tuple(file.name for file in known)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)  # of processes at work
        seen = name.as_posix() in names or name.as_posix().startswith(
            tuple(f"{known}/" for known in names)
        )
        if path.is_file() and not hidden and not seen:
            yield _file(name.as_posix(), path, partial(_other, path))


def _read(read: Callable[[], object]) -> None:
    read()


def _other(path: Path) -> str | None:
    if path.suffix != ".png":
        return "nothing tells what it held"
    read_whole_png(path)  # which has checksums of its own
    return None


def _json(path: Path, read: Callable[[], object]) -> VerifiedFile:
    """Return what is known of a JSON file, which `read` checks."""

    def check() -> str | None:
        read()
        return None if "checksum" in read_json(path) else _NO_CHECKSUM

    return _file(path.name, path, check)


def _same(path: Path, sha256: str | None) -> str | None:
    if sha256 is not None and digest(path) != sha256:
        raise DataError("its checksum differs")
    return None if sha256 else _NO_CHECKSUM


def _all_fit(known: list[VerifiedFile], check: Callable[[], object]) -> list[VerifiedFile]:
    """Return the same files; if none has a fault, then with that which a check finds in all."""
    if all(file.state in ("ok", "unknown") for file in known):
        try:
            check()
        except IgptError as error:
            first = dataclasses.replace(known[0], state="changed", note=str(error))
            return [first, *known[1:]]
    return known


# Stores, models and palettes


def _store(path: Path) -> Iterator[VerifiedFile]:
    known = [_json(path / "store.json", lambda: read_description(path))]
    if known[0].state != "changed":
        for name, split in read_description(path)[0].splits.items():
            for piece, shard in split.pieces():
                for file in (path / name / piece / part for part in split.files):
                    same = partial(_same, file, shard.sha256.get(file.name))
                    known.append(_file(file.relative_to(path).as_posix(), file, same))
    yield from _all_fit(known, lambda: _open_all(path))
    yield from _others(path, known)


def _open_all(path: Path) -> None:
    store = RecordStore.open(path)
    for name in store.splits:
        store.split(name)  # which checks the pixels of igpt 0.1, too


def _model(path: Path) -> Iterator[VerifiedFile]:
    known = [_json(path / "config.json", lambda: model_sha256(path))]
    sha256 = model_sha256(path) if known[0].state in ("ok", "unknown") else {}
    for name in MODEL_FILES:
        known.append(_file(name, path / name, partial(_same, path / name, sha256.get(name))))
    with warnings.catch_warnings(action="ignore"):  # a network without a head is whole
        known = _all_fit(known, lambda: load_folder(path))
    known += _probe(path / PROBE, path)
    yield from known
    yield from _others(path, known)


def _probe(folder: Path, model: Path) -> Iterator[VerifiedFile]:
    """Yield what is known of a kept probe: of that model, or of an earlier one."""
    if not folder.is_dir():
        return
    try:
        known = KeptProbe.load(folder)
    except IgptError as error:
        yield VerifiedFile(name=PROBE, state="changed", note=str(error))
        return
    try:
        stale = known.model != model_identity(model)
    except CheckpointError:  # the model is damaged or gone, which is said of it
        stale = False
    yield VerifiedFile(name=PROBE, state="ok", note=_EARLIER if stale else "")


def _palette(path: Path) -> Iterator[VerifiedFile]:
    report, picture = (path.with_suffix(ending) for ending in (".json", ".png"))

    def check() -> str | None:
        Palette.load(path)
        if not report.is_file():
            return _NOT_HELD
        return None if read_report(path).fingerprint else _NO_CHECKSUM

    yield _file(path.name, path, check)
    if report.is_file():
        yield _json(report, lambda: read_report(path))
    if picture.is_file():
        yield _file(picture.name, picture, lambda: _other(picture))


# Runs and searches


def _search(path: Path) -> Iterator[VerifiedFile]:
    file = path / "search.json"
    yield _file(file.name, file, lambda: _NOT_HELD if read_json(file) else None)
    for run in sorted(path.iterdir()):
        if (run / "recipe.json").is_file():
            yield from _within(run.name, _run(run))


def _run(path: Path) -> Iterator[VerifiedFile]:
    run = RunFolder(path)
    known = [_json(path / "recipe.json", lambda: run.settings)]
    settings = run.settings if known[0].state != "changed" else None
    if (path / LONGER).is_file():
        known.append(_json(path / LONGER, lambda: run.longer))
    if settings is not None:
        known.append(
            _file("palette.npy", path / "palette.npy", partial(_read, lambda: run.palette))
        )
    states, memory = _states(run)
    known += states
    if isinstance(settings, FinetuneSettings) and settings.config.head == "probe":
        head = path / HEAD
        if memory is not None or head.exists():
            known.append(_file(head.name, head, partial(_read, lambda: read_sealed(head))))
    if run.metrics.exists() or memory is not None:
        known.append(_file(run.metrics.name, run.metrics, lambda: _metrics(run, memory)))
    for folder in _models(run, settings, memory):
        known += _within(folder.relative_to(path).as_posix(), _model(folder))
    known += _probe(run.probe, run.model)
    known += [_result(run, name, kind) for name, kind in RESULTS.items() if (path / name).is_file()]
    yield from known
    yield from _others(path, known)
    if settings is not None:
        yield from _store_of(settings.data)


def _states(run: RunFolder) -> tuple[list[VerifiedFile], Memory | None]:
    """Return what is known of a run's states, and what the newest whole one remembers."""
    states = Checkpoints(run.path / STATE, fingerprint=run.fingerprint)
    known, memory = [], None
    for step in states.steps():
        name = states.path(step).relative_to(run.path).as_posix()
        try:
            memory = states.check(step)
        except CheckpointError as error:
            known.append(VerifiedFile(name=name, state="changed", note=str(error)))
        else:
            known.append(VerifiedFile(name=name, state="ok"))
    return known, memory


def _metrics(run: RunFolder, memory: Memory | None) -> str | None:
    read_metrics(run.metrics)
    if memory is None or not memory.metrics_sha256:
        return _NOT_HELD
    require_lines(run.metrics, memory.lines, memory.metrics_sha256)
    return None


def _models(run: RunFolder, settings: Settings | None, memory: Memory | None) -> Iterator[Path]:
    """Yield the model folders that a run has, or should have by now."""
    updates = 0 if memory is None else memory.updates
    if updates or run.model.exists():
        yield run.model
    if isinstance(settings, FinetuneSettings) and not settings.config.from_scratch:
        yield run.path / "pretrained"
    wanted = []
    if isinstance(settings, PretrainSettings):
        wanted = [run.snapshot(step) for step in settings.recipe.snapshot_steps if step <= updates]
    there = [path for path in (run.path / SNAPSHOTS).glob("step-*") if path.is_dir()]
    yield from sorted({*wanted, *there})


def _result(run: RunFolder, name: str, kind: type) -> VerifiedFile:
    file = _json(run.path / name, lambda: run.read(name, kind))
    if file.state == "changed" or not (run.model / "config.json").is_file():
        return file
    if name == "along.json":  # of snapshots, each of which is held against when it is used again
        return file
    try:
        old = outdated(run.kept(name, kind)[1], model_identity(run.model))
    except CheckpointError:  # the model is damaged, which is said of it
        return file
    parts = "" if old == [ALL] else f" ({', '.join(old)})"
    note = f"{_EARLIER}{parts}" if old else file.note
    return dataclasses.replace(file, note=note)


def _store_of(data: DataIdentity) -> Iterator[VerifiedFile]:
    """Yield what is known of the store that a run was given, in a line if it is whole."""
    if not (Path(data.path) / "store.json").is_file():
        yield VerifiedFile(name=data.path, state="unknown", note="the run's store is not there")
        return
    faults = [file for file in _store(Path(data.path)) if file.state in ("changed", "missing")]
    yield from _within(data.path, faults)
    if not faults:
        yield _file(data.path, Path(data.path), partial(_read, data.reopen))
