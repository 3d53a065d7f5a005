"""What a run needs to go on exactly where it stopped.

    state/
    ├── step-000000/             before the first update: `state.json` alone
    └── step-000200/             as after 200 updates
        ├── model.safetensors
        ├── optimizer.safetensors   by the weights' names: exp_avg, exp_avg_sq, step
        └── state.json              what the run remembers, and checksums, of itself too

Order of the data, augmentation, masks, dropout and learning rate are functions of the step and the
seed (`igpt.randomness`), so they are not here: from the same weights and moments a run repeats what
it would have done, bit for bit on a CPU. Nor are the weights before the first update, which follow
from the settings; that state is there to say that the metrics beside it are this run's to repeat.

Where processes have shares of the weights (`igpt.training.parallel`), each writes its own, of both
files, as `shard-00001-model-00001-of-00001.safetensors` and so on, and any number of processes, or
one, can read them. Like the others they are no pickles.

A state is written aside and renamed: whenever a run is killed, its newest state is whole. One that
was damaged since is told from a whole one by its checksums; one of other settings than the run's,
by their fingerprint. What follows from either is decided in `igpt.training.fit`.
"""

import hashlib
import itertools
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from igpt import processes
from igpt.errors import CheckpointError, IgptError
from igpt.files import digest, read_json, refusals_told, write_json, written_aside
from igpt.model.weights import read_tensors, require_matching, write_tensors
from igpt.training.parallel import is_sharded, read_shares, shares_in, write_shares
from igpt.training.precision import LossScale
from igpt.values import from_dict, to_dict

_FILES = ("model.safetensors", "optimizer.safetensors")
_SHARE = re.compile(r"shard-\d+-model-\d+-of-\d+\.safetensors")


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a run remembers beside its weights."""

    updates: int = 0
    seconds: float = 0.0
    """Spent training, over all sittings."""
    finished: bool = False
    best_score: float | None = None
    """The highest so far, where the best weights are kept (`igpt.training.fit.EarlyStop`)."""
    best_updates: int | None = None
    """Updates done when it was measured."""
    without_gain: int = 0
    """Measurements since."""
    pending: dict[str, float] | None = None
    """Measures of the last step, if it was still to be validated and told; None if all is done."""
    metrics_sha256: str = ""
    """Of the metrics' lines there were; empty in a state that is older than this field."""
    loss_scale: LossScale | None = None
    """That the next step begins with, in float16."""

    @property
    def lines(self) -> int:
        """How many lines of metrics there were: one a step, but for one that is pending."""
        return self.updates - (self.pending is not None)

    def with_score(self, score: float, updates: int) -> "Memory":
        """Return the memory after another measurement."""
        if self.best_score is None or score > self.best_score:
            return replace(self, best_score=score, best_updates=updates, without_gain=0)
        return replace(self, without_gain=self.without_gain + 1)


class StateDamaged(CheckpointError):
    """A saved state that is cut off or was changed."""


@dataclass(frozen=True, kw_only=True)
class _State:
    """What `state.json` holds, beside the checksum of all this."""

    fingerprint: str
    memory: Memory
    sha256: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """What a state holds of this process: nothing, unless it is the first or has a share."""

    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    """The optimizer's, by the weights' names."""
    in_shares: bool

    @classmethod
    def of(
        cls, model: nn.Module, optimizer: torch.optim.Optimizer, *, copied: bool = False
    ) -> "Tensors":
        """Return them as they are now, or copied to the processor's memory, as they then stay."""
        weights, moments, in_shares = {}, {}, is_sharded(model)
        if in_shares or processes.first():
            weights, moments = dict(model.state_dict()), _optimizer_tensors(model, optimizer)
        if copied:
            weights, moments = (
                {name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}
                for tensors in (weights, moments)
            )
        return cls(weights=weights, moments=moments, in_shares=in_shares)


@dataclass
class Checkpoints:
    """The saved states of one run."""

    folder: Path
    keep: int = 2
    fingerprint: str = ""
    """Says which configuration the states belong to; one of another is refused."""

    def steps(self) -> list[int]:
        """Return the steps of the states there are, oldest first."""
        if not self.folder.is_dir():
            return []
        names = (re.fullmatch(r"step-(\d+)", path.name) for path in self.folder.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        """Return the folder of the state after `step` updates."""
        return self.folder / f"step-{step:06d}"

    def begin(self) -> None:
        """Write the state before the first update, which holds no weights.

        Raises:
            DataError: The disk is full, or the place cannot be written to.
        """
        with written_aside(self.path(0)) as aside:
            aside.mkdir()
            self._write(aside, Memory(), {})

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, memory: Memory) -> None:
        """Write the state after `memory.updates`, then remove the oldest beyond `keep`.

        Raises:
            DataError: The disk is full, or the place cannot be written to.
        """
        self.write(Tensors.of(model, optimizer), memory)

    def write(self, tensors: Tensors, memory: Memory, group: processes.Group | None = None) -> None:
        """Do the same with tensors that may have been copied since, in a thread of its own.

        Args:
            tensors: Weights and moments after `memory.updates`.
            memory: What the run remembers.
            group: That the processes speak in, if they have shares.

        Raises:
            DataError: The disk is full, or the place cannot be written to.
        """
        folder = self.path(memory.updates)
        if tensors.in_shares:
            with processes.written_aside_by_all(folder, group) as aside:
                sha256 = write_shares(aside, {**tensors.weights, **tensors.moments}, group)
                if processes.first():
                    self._write(aside, memory, sha256)
        elif processes.first():
            with written_aside(folder) as aside:
                aside.mkdir()
                write_tensors(aside / _FILES[0], tensors.weights)
                write_tensors(aside / _FILES[1], tensors.moments)
                self._write(aside, memory, {name: digest(aside / name) for name in _FILES})
        if processes.first():
            self.remove_old()

    def remove_old(self) -> None:
        """Remove the oldest states beyond `keep`, or what a killed process left of one.

        Raises:
            DataError: One cannot be removed.
        """
        for step in self.steps()[: -self.keep]:
            with refusals_told(self.path(step)):
                shutil.rmtree(self.path(step))

    def settle(self, memory: Memory) -> None:
        """Have the state after `memory.updates`, which was saved, remember this from now on.

        Raises:
            StateDamaged: It has been damaged since.
            DataError: The disk is full, or the place cannot be written to.
        """
        folder = self.path(memory.updates)
        self._write(folder, memory, self._read(folder).sha256)

    def newest(self) -> tuple[Memory | None, dict[int, StateDamaged]]:
        """Return what the newest whole state remembers, and the faults of newer ones, by step.

        Returns:
            None for the first if there is no whole state.

        Raises:
            CheckpointError: A state is of another configuration.
        """
        damaged: dict[int, StateDamaged] = {}
        for step in reversed(self.steps()):
            try:
                return self.check(step), damaged
            except StateDamaged as error:
                damaged[step] = error
        return None, damaged

    def remembered(self, step: int) -> Memory:
        """Return what the state after `step` updates remembers; its weights are not looked at.

        Raises:
            StateDamaged: Its state.json is missing or was changed.
        """
        return self._read(self.path(step)).memory

    def check(self, step: int) -> Memory:
        """Read the state after `step` updates in full, and return what it remembers.

        Raises:
            StateDamaged: It is cut off or was changed.
            CheckpointError: It is of another configuration.
        """
        folder = self.path(step)
        state = self._read(folder)
        if state.memory.updates != step:
            raise StateDamaged(
                f"{folder} is damaged: its state.json is that of step {state.memory.updates}"
            )
        if state.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"{folder} was saved under another configuration than the run's recipe.json tells; "
                "put the recipe back as it was, or start a new run"
            )
        there = {file.name for file in folder.glob("*.safetensors")}
        shared_out = bool(state.sha256) and all(map(_SHARE.fullmatch, state.sha256))
        known = set(state.sha256 if shared_out else _FILES) if step else set()
        for name in sorted(known | (there if shared_out else set())):
            if name not in there or digest(folder / name) != state.sha256.get(name):
                raise StateDamaged(f"{folder} is damaged: {name} is missing, cut off or changed")
        return state.memory

    def load(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        """Load the state after `step` updates, which was checked, into both.

        Before the first update nothing is loaded: the run builds those weights itself.
        """
        if step == 0:
            return
        folder = self.path(step)
        weights = dict(model.state_dict())
        if is_sharded(model) or not (folder / _FILES[0]).is_file():
            moments = {} if optimizer is None else _room_for_moments(model, shares_in(folder))
            read_shares(folder, {**weights, **moments})  # the weights in place
        else:
            read = read_tensors(folder / _FILES[0])
            require_matching(folder / _FILES[0], read, weights)
            model.load_state_dict(read)
            moments = {} if optimizer is None else read_tensors(folder / _FILES[1])
        if optimizer is not None:
            _restore_optimizer(model, optimizer, moments)

    def set_aside(self, step: int) -> Path:
        """Rename a damaged state, so that it is none any more, and return where it is kept.

        Raises:
            DataError: The place cannot be written to.
        """
        name = f"damaged-{self.path(step).name}"
        numbered = (self.folder / f"{name}-{number}" for number in itertools.count(2))
        free = (path for path in itertools.chain([self.folder / name], numbered))
        aside = next(path for path in free if not path.exists())
        with refusals_told(aside):
            return self.path(step).rename(aside)

    def _write(self, folder: Path, memory: Memory, sha256: dict[str, str]) -> None:
        state = _State(fingerprint=self.fingerprint, memory=memory, sha256=sha256)
        values = to_dict(state)
        write_json(folder / "state.json", {**values, "checksum": _checksum(values)})

    def _read(self, folder: Path) -> _State:
        try:
            values = read_json(folder / "state.json")
            checksum = values.pop("checksum", None)  # older states have none
            state = from_dict(_State, values)
        except IgptError as error:
            raise StateDamaged(f"{folder} is damaged: its state.json cannot be read") from error
        if checksum not in (None, _checksum(values)):
            raise StateDamaged(f"{folder} is damaged: its state.json was changed")
        return state


def _checksum(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def _room_for_moments(model: nn.Module, sizes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Return tensors to read what an optimizer keeps of the weights into, by their names."""
    parameters = dict(model.named_parameters())
    room = {}
    for name, size in sizes.items():
        parameter = parameters.get(name.rpartition("/")[0])
        if parameter is not None:  # or else it is itself a weight
            shared_out = size == parameter.shape
            room[name] = (
                torch.zeros_like(parameter, requires_grad=False)
                if shared_out
                else torch.zeros(size, device=parameter.device)
            )
    return room


def _restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        optimizer.state[parameter][key] = value.to(parameter.device)
