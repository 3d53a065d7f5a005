"""A run's folder: what was asked for, where it came from, and what came out.

runs/a/
├── recipe.json       every setting, and the data and palette it was given
├── provenance.json   versions, commit, command, machine
├── palette.npy       the palette, so that the run can go on by itself
├── metrics.jsonl     a line a step
├── log.txt           what was printed
├── samples/          pictures drawn as it went
├── state/            what resuming needs (igpt.training.state)
├── model/            what others load (igpt.model.pretrained)
├── snapshots/        the model as it was on the way, if the recipe asks for it
└── evaluation.json, probe.json, finetune.json ...   results, each by its command
"""

import hashlib
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch

from igpt.data.records import RecordStore
from igpt.errors import CheckpointError, ConfigError, IgptError
from igpt.files import read_json, refusals_told, write_json, written_aside
from igpt.model.pretrained import Pretrained
from igpt.pixels.palette import Palette
from igpt.randomness import Stream, stream_seed
from igpt.values import from_dict, to_dict

Result = TypeVar("Result")


class Interrupted(IgptError):
    """Stopped by a signal, with everything saved; the message says how to go on."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        settings: dict[str, Any],
        palette: Palette,
        device: torch.device,
        pretrained: Pretrained | None = None,
    ) -> "RunFolder":
        """Make the folder with its settings and provenance, and the network it starts from if any.

        Raises:
            ConfigError: There is something at `path` already.
        """
        refuse_existing(path)
        with written_aside(path) as aside:
            aside.mkdir()
            write_json(aside / "recipe.json", {**settings, "palette": palette.fingerprint})
            if pretrained is not None:
                pretrained.save(aside / "pretrained")
            write_json(aside / "provenance.json", to_dict(provenance(device)))
            palette.save(aside / "palette.npy")
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Return the run at `path`.

        Raises:
            CheckpointError: There is none.
        """
        if (path / "search.json").is_file():
            raise CheckpointError(
                f"{path} is a search of several runs; give one of those in it, or to go on with "
                "the search, the command that began it once more"
            )
        if not (path / "recipe.json").is_file():
            raise CheckpointError(
                f"{path} holds no run (no recipe.json); give a folder that igpt pretrain or "
                "igpt finetune wrote"
            )
        return cls(path)

    def read(self, name: str, kind: type[Result]) -> Result | None:
        """Return the result of this kind in one of the folder's files; None if there is no file.

        Raises:
            CheckpointError: The file is damaged, or of an earlier igpt.
        """
        file = self.path / name
        if not file.is_file():
            return None
        try:
            return from_dict(kind, read_json(file), name="it")
        except ConfigError as error:
            raise CheckpointError(
                f"{file} is damaged or of an earlier igpt: {error}; measure it again"
            ) from error

    def write(self, name: str, result: Any) -> None:
        """Write a result as one of the folder's JSON files."""
        write_json(self.path / name, to_dict(result))

    @property
    def settings(self) -> dict[str, Any]:
        """What `recipe.json` holds."""
        settings = read_json(self.path / "recipe.json")
        if "kind" not in settings:
            raise CheckpointError(f"{self.path / 'recipe.json'} is no run's recipe; restore it")
        return settings

    @property
    def palette(self) -> Palette:
        """The palette the run was given.

        Raises:
            CheckpointError: Another lies in its place.
        """
        palette = Palette.load(self.path / "palette.npy")
        if palette.fingerprint != self.settings.get("palette"):
            raise CheckpointError(
                f"{self.path / 'palette.npy'} is not the palette this run began with; restore it"
            )
        return palette

    @property
    def metrics(self) -> Path:
        """The file with a line a step."""
        return self.path / "metrics.jsonl"

    @property
    def model(self) -> Path:
        """The model folder."""
        return self.path / "model"

    def snapshot(self, updates: int) -> Path:
        """The model folder as it was after so many updates."""
        return self.path / "snapshots" / f"step-{updates:06d}"

    @property
    def fingerprint(self) -> str:
        """Tells whether a saved state belongs to these settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    def say(self, text: str) -> None:
        """Print a line and keep it in `log.txt`."""
        print(text, file=sys.stderr, flush=True)
        log = self.path / "log.txt"
        with refusals_told(log), log.open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {text}\n")


def refuse_existing(path: Path) -> None:
    """Check that nothing would be overwritten.

    Raises:
        ConfigError: There is something at `path`.
    """
    if (path / "recipe.json").exists():
        raise ConfigError(
            f"{path} already holds a run; choose another --out, or go on with --resume {path}"
        )
    if path.exists() and (path.is_file() or any(path.iterdir())):
        raise ConfigError(f"{path} is there already and is not empty; choose another --out")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is needed to get a result again: versions, commit, command, machine."""

    igpt: str
    commit: str | None
    """Of the checkout this code runs from, marked if it has changes; None if it is in none."""
    command: str
    started: str
    python: str
    libraries: dict[str, str]
    """Versions by name."""
    system: str
    processor: str
    cores: int | None
    threads: int
    """That PyTorch computes with."""
    device: str


def provenance(device: torch.device) -> Provenance:
    """Return the provenance of what is computed here and now."""
    libraries = ("torch", "numpy", "pillow", "scikit-learn", "scipy", "datasets")
    return Provenance(
        igpt=version("igpt"),
        commit=_commit(),
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        python=platform.python_version(),
        libraries={name: version(name) for name in libraries},
        system=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    )


def _commit() -> str | None:
    """Return the commit of the checkout this code runs from, marked if it has changes."""
    git = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is the first GPU, or else the CPU.

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"no device {name!r} here; try --device cpu") from error
    return device


def seed_weights(seed: int) -> None:
    """Seed torch's global generator, from which fresh weights are drawn."""
    torch.manual_seed(stream_seed(Stream.WEIGHTS, seed))


def describe_data(store: RecordStore, location: Path) -> dict[str, Any]:
    """Return which images a run was given: the place, and what tells them from others."""
    text = (store.path / "store.json").read_text()
    return {"path": str(location), "sha256": hashlib.sha256(text.encode()).hexdigest()[:16]}


def reopen_data(described: dict[str, Any], location: Path | None) -> RecordStore:
    """Open the images a run was given, possibly moved to another place since.

    Raises:
        DataError: Nothing there.
        CheckpointError: Other images than the run began with.
    """
    place = location or Path(described["path"])
    if not place.exists():
        raise CheckpointError(
            f"the run's images were at {place}, where nothing is now, seen from this folder; tell "
            "their place with --data"
        )
    store = RecordStore.open(place)
    if describe_data(store, place)["sha256"] != described["sha256"]:
        raise CheckpointError(
            f"{place} holds other images than this run began with; give the old ones with --data, "
            "or start a new run"
        )
    return store


class StopSignals:
    """Whether someone asked to stop; the first time kindly, the second at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def _receive(self, number: int, _: object) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM note of while in the block; only the main thread can."""
        old = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                old[number] = signal.signal(number, self._receive)
            except ValueError:  # not in the main thread: leave signals to the caller
                break
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
