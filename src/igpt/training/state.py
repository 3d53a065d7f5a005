"""What a run needs to go on exactly where it stopped.

    state/
    └── step-000200/             as after 200 updates
        ├── model.safetensors
        ├── optimizer.safetensors   by the weights' names: exp_avg, exp_avg_sq, step
        └── state.json              what the run remembers, and the two files' checksums

Order of the data, augmentation, masks, dropout and learning rate are functions of the step and the
seed (`igpt.randomness`), so they are not here: from the same weights and moments a run repeats what
it would have done, bit for bit on a CPU. A state is written aside and renamed: whenever a run is
killed, its newest state is whole. One of other settings than the run's, by their fingerprint, is
refused. The metrics of steps after the state are dropped when the run goes on.
"""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from igpt.errors import CheckpointError, IgptError
from igpt.files import digest, read_json, write_json, written_aside
from igpt.model.weights import read_tensors, require_matching, write_tensors
from igpt.values import from_dict, to_dict

_FILES = ("model.safetensors", "optimizer.safetensors")


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

    def with_score(self, score: float, updates: int) -> "Memory":
        """Return the memory after another measurement."""
        if self.best_score is None or score > self.best_score:
            return replace(self, best_score=score, best_updates=updates, without_gain=0)
        return replace(self, without_gain=self.without_gain + 1)


@dataclass(frozen=True, kw_only=True)
class _State:
    """What `state.json` holds."""

    fingerprint: str
    memory: Memory
    sha256: dict[str, str]


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

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, memory: Memory) -> None:
        """Write the state after `memory.updates`, then remove the oldest beyond `keep`."""
        with written_aside(self.path(memory.updates)) as aside:
            aside.mkdir()
            write_tensors(aside / _FILES[0], dict(model.state_dict()))
            write_tensors(aside / _FILES[1], _optimizer_tensors(model, optimizer))
            sha256 = {name: digest(aside / name) for name in _FILES}
            state = _State(fingerprint=self.fingerprint, memory=memory, sha256=sha256)
            write_json(aside / "state.json", to_dict(state))
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old))

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Memory:
        """Load the newest state into both and return what was remembered.

        Returns:
            A new memory, having touched nothing, if there is no state yet.

        Raises:
            CheckpointError: The newest state is cut off, changed, or of another configuration.
        """
        if not self.steps():
            return Memory()
        folder = self.path(self.steps()[-1])
        try:
            state = from_dict(_State, read_json(folder / "state.json"))
        except IgptError as error:
            raise self._broken(folder, "its state.json cannot be read") from error
        if state.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"{folder} was saved under another configuration than the run's recipe.json tells; "
                "put the recipe back as it was, or start a new run"
            )
        for name in _FILES:
            if not (folder / name).is_file() or digest(folder / name) != state.sha256.get(name):
                raise self._broken(folder, f"{name} is missing, cut off or changed")
        weights = read_tensors(folder / _FILES[0])
        require_matching(folder / _FILES[0], weights, dict(model.state_dict()))
        model.load_state_dict(weights)
        _restore_optimizer(model, optimizer, read_tensors(folder / _FILES[1]))
        return state.memory

    def _broken(self, folder: Path, reason: str) -> CheckpointError:
        older = self.steps()[:-1]
        advice = f"go on from step {older[-1]}" if older else "start again from step 0"
        return CheckpointError(f"{folder} is damaged: {reason}; delete it to {advice}")


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def _restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for name, value in tensors.items():
        parameter_name, key = name.rsplit("/", 1)
        parameter = parameters[parameter_name]
        optimizer.state[parameter][key] = value.to(parameter.device)
