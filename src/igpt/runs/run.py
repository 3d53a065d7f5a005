"""A run's folder: what was asked for, where it came from, and what came out.

runs/a/
├── recipe.json       every setting, and the data and palette it was given
├── provenance.json   versions, commit, command, machine
├── palette.npy       the palette, so that the run can go on by itself
├── metrics.jsonl     a line a step
├── longer.json       other numbers of steps it was given later, if it was (igpt resume --steps)
├── log.txt           what was printed
├── samples/          pictures drawn as it went
├── state/            what resuming needs (igpt.training.state)
├── model/            what others load (igpt.model.pretrained)
├── probe/            the best layer's probe, which names classes (igpt.model.kept_probe)
├── snapshots/        the model as it was on the way, if the recipe asks for it
└── evaluation.json, probe.json, finetune.json ...   results, each by its command
"""

import contextlib
import dataclasses
import hashlib
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from igpt import locks, processes
from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, ConfigError
from igpt.files import read_json, write_json, written_aside
from igpt.model.config import ModelConfig
from igpt.model.kept_probe import PROBE
from igpt.model.pretrained import Pretrained
from igpt.paths import AnyPath
from igpt.pixels.palette import Palette
from igpt.places import RECIPE, require_room, require_run, resuming, run_of
from igpt.runs.kept import MadeFrom, Result, read_kept, write_kept
from igpt.runs.provenance import Provenance, provenance
from igpt.runs.recipes import FinetuneConfig, Recipe
from igpt.seals import sealed, unsealed
from igpt.training.config import TrainingConfig
from igpt.training.fit import METRICS, MODEL, SNAPSHOTS, snapshot_name
from igpt.training.metrics import read_metrics
from igpt.training.schedule import Longer
from igpt.values import from_dict, to_dict

FORMAT = 2
"""Of `recipe.json`."""

LONGER = "longer.json"


@dataclass(frozen=True, kw_only=True)
class DataIdentity:
    """Which images a run was given."""

    path: str
    sha256: str
    """Tells them from others, wherever they are."""

    @classmethod
    def of(cls, store: RecordStore, location: Path) -> "DataIdentity":
        """Return the identity of the store at `location`."""
        return cls(path=str(location), sha256=store.identity)

    def reopen(self, location: Path | None = None) -> RecordStore:
        """Open the images, possibly moved to another location since.

        Raises:
            DataError: What is there is no store.
            CheckpointError: There is nothing, or other images than the run began with.
        """
        path = location or Path(self.path)
        if not path.exists():
            raise CheckpointError(
                f"the run's images were at {path}, where nothing is now, seen from this folder; "
                "give their path with --data"
            )
        store = RecordStore.open(path)
        if DataIdentity.of(store, path).sha256 != self.sha256:
            raise CheckpointError(
                f"{path} holds other images than this run began with; give the old ones with "
                "--data, or start a new run"
            )
        return store


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """What a pretraining run was asked for."""

    name: str
    """Of the recipe; may be empty."""
    recipe: Recipe
    data: DataIdentity
    split: str
    """That is learned from."""
    filter: str
    """How the stored images were resampled."""
    palette: str
    """Its fingerprint."""


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """What a fine-tuning run was asked for."""

    source: str
    """The run or model that it began from."""
    config: FinetuneConfig
    model: ModelConfig
    mask_probability: float
    data: DataIdentity
    split: str
    """That is learned from."""
    measure_test: bool
    palette: str
    """Its fingerprint."""


Settings = PretrainSettings | FinetuneSettings
_KINDS: dict[str, type[Settings]] = {"pretrain": PretrainSettings, "finetune": FinetuneSettings}


@dataclass(frozen=True, kw_only=True)
class Lengthened(Longer):
    """A number of steps that a run was given later, and by whom."""

    made: Provenance


@dataclass(frozen=True, kw_only=True)
class _Lengthenings:
    """What `longer.json` holds, beside the checksum of all this."""

    changes: tuple[Lengthened, ...]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        settings: Settings,
        palette: Palette,
        device: torch.device,
        pretrained: Pretrained | None = None,
    ) -> "RunFolder":
        """Make the folder with its settings and provenance, and the network it starts from if any.

        Raises:
            ConfigError: There is something at `path` already.
            DataError: That came meanwhile, or the place cannot be written to.
        """

        def write() -> None:
            require_room(path)
            with written_aside(path, exclusive=True) as aside:
                aside.mkdir()
                kind = next(kind for kind, cls in _KINDS.items() if isinstance(settings, cls))
                header = {"format": FORMAT, "kind": kind}
                write_json(aside / "recipe.json", sealed({**header, **to_dict(settings)}))
                if pretrained is not None:
                    pretrained.save(aside / "pretrained")
                write_kept(aside / "provenance.json", provenance(device), {})
                palette.save(aside / "palette.npy")

        processes.by_first(write)
        return cls(path)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the run's lock while in the block; of several processes the first does, for all.

        Raises:
            CheckpointError: It is held already.
        """
        with locks.held(self.path) if processes.first() else contextlib.nullcontext():
            processes.agree(0)  # the others begin once it is held
            yield

    @classmethod
    def open(cls, path: AnyPath) -> "RunFolder":
        """Return the run at `path`, or that which the search at `path` came out with.

        Raises:
            CheckpointError: There is none.
        """
        path = Path(path)
        require_run(path)
        return cls(run_of(path))

    @staticmethod
    def is_at(path: Path) -> bool:
        """Say whether there is a run at `path`."""
        return (path / RECIPE).is_file()

    def read(self, name: str, kind: type[Result]) -> Result | None:
        """Return the result of this kind in one of the folder's files; None if there is no file.

        Raises:
            CheckpointError: The file is damaged, or of an earlier igpt.
        """
        return self.kept(name, kind)[0]

    def kept(self, name: str, kind: type[Result]) -> tuple[Result | None, dict[str, MadeFrom]]:
        """Return what `read` does, and what it, or each part of it, was made from.

        Raises:
            CheckpointError: The file is damaged, or of an earlier igpt.
        """
        file = self.path / name
        return read_kept(file, kind) if file.is_file() else (None, {})

    def require(self, name: str, kind: type[Result]) -> Result:
        """Return a result that must be there by now."""
        result = self.read(name, kind)
        assert result is not None, f"{self.path / name} has not been written"
        return result

    def write(
        self, name: str, result: Any, made_from: Mapping[str, MadeFrom] | None = None
    ) -> None:
        """Write a result as one of the folder's JSON files; what for, see `igpt.runs.kept`."""
        write_kept(self.path / name, result, made_from or {})

    @property
    def settings(self) -> Settings:
        """What the run was asked for, with the steps it was given last.

        Raises:
            CheckpointError: `recipe.json` or `longer.json` is damaged, or of an earlier igpt.
        """
        settings, changes = self._begun_with, self.longer
        return with_training(settings, steps=changes[-1].steps) if changes else settings

    @property
    def _begun_with(self) -> Settings:
        file = self.path / "recipe.json"
        values = unsealed(read_json(file), file, error=CheckpointError)
        if values.pop("format", 1) != FORMAT:
            raise CheckpointError(
                f"{file} is of another format than the {FORMAT} that this igpt reads; go on with "
                "the igpt that began the run, or start it again (its model/ can be used as it is)"
            )
        kind = values.pop("kind", None)
        try:
            return from_dict(_KINDS[kind], values, name="it")
        except (KeyError, ConfigError) as error:
            raise CheckpointError(f"{file} is no run's recipe: {error}; restore it") from error

    @property
    def longer(self) -> tuple[Lengthened, ...]:
        """The numbers of steps that it was given after it had begun, first to last.

        Raises:
            CheckpointError: `longer.json` is damaged.
        """
        file = self.path / LONGER
        if not file.is_file():
            return ()
        values = unsealed(read_json(file), file, error=CheckpointError)
        try:
            return from_dict(_Lengthenings, values, name="it").changes
        except ConfigError as error:
            raise CheckpointError(f"{file} is damaged: {error}; restore it") from error

    def lengthen(self, longer: Longer, device: torch.device) -> None:
        """Give the run another number of steps, for good; it goes on with this device."""
        change = Lengthened(**vars(longer), made=provenance(device))
        known = _Lengthenings(changes=(*self.longer, change))
        write_json(self.path / LONGER, sealed(to_dict(known)))

    @property
    def pretraining(self) -> PretrainSettings:
        """The settings of a run that must be a pretraining run.

        Raises:
            CheckpointError: It is a fine-tuning run.
        """
        settings = self.settings
        if not isinstance(settings, PretrainSettings):
            raise CheckpointError(
                f"{self.path} is a fine-tuning run; give the pretraining run it began from, "
                f"{settings.source}"
            )
        return settings

    @property
    def palette(self) -> Palette:
        """The palette the run was given.

        Raises:
            CheckpointError: Another lies in its place.
        """
        palette = Palette.load(self.path / "palette.npy")
        if palette.fingerprint != self.settings.palette:
            raise CheckpointError(
                f"{self.path / 'palette.npy'} is not the palette this run began with; restore it"
            )
        return palette

    @property
    def metrics(self) -> Path:
        """The file with a line a step."""
        return self.path / METRICS

    @property
    def ended(self) -> bool:
        """Whether its training is over, as its metrics tell or, of fine-tuning, its result.

        Raises:
            CheckpointError: Settings or metrics are damaged.
        """
        if isinstance(settings := self.settings, FinetuneSettings):  # which may stop early
            return (self.path / "finetune.json").is_file()
        return len(read_metrics(self.metrics)) >= settings.recipe.training.steps

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.path / MODEL

    @property
    def probe(self) -> Path:
        """The folder of the kept probe."""
        return self.path / PROBE

    def snapshot(self, updates: int) -> Path:
        """The model folder as it was after so many updates."""
        return self.path / SNAPSHOTS / snapshot_name(updates)

    @property
    def fingerprint(self) -> str:
        """Tells whether a saved state belongs to these settings."""
        return hashlib.sha256((self.path / "recipe.json").read_bytes()).hexdigest()[:16]

    def require_in_place(self) -> None:
        """See that the folder is still there, before something is written that would make it anew.

        Raises:
            CheckpointError: It was removed or renamed meanwhile.
        """
        if not self.is_at(self.path):
            raise CheckpointError(
                f"{self.path} was removed or renamed while it was worked on; put it back, and go "
                "on with igpt resume"
            )

    @property
    def resuming(self) -> str:
        """The command that goes on with it, to paste into a shell."""
        return resuming(self.path)

    def say(self, text: str) -> None:
        """Print a line and keep it in `log.txt`, if that can be written; once for all processes."""
        if processes.first():
            print(text, file=sys.stderr, flush=True)
        self.note(text)

    def note(self, text: str) -> None:
        """Keep a line in `log.txt`, if that can be written; once for all processes."""
        if not processes.first():
            return
        with contextlib.suppress(OSError), (self.path / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")


def training_of(settings: Settings) -> TrainingConfig:
    """Return how a run is trained."""
    config = settings.recipe if isinstance(settings, PretrainSettings) else settings.config
    return config.training


def with_training(settings: Settings, **changes: Any) -> Settings:
    """Return the same settings with some of the training's changed."""
    training = dataclasses.replace(training_of(settings), **changes)
    if isinstance(settings, PretrainSettings):
        recipe = dataclasses.replace(settings.recipe, training=training)
        return dataclasses.replace(settings, recipe=recipe)
    config = dataclasses.replace(settings.config, training=training)
    return dataclasses.replace(settings, config=config)
