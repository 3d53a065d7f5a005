"""What a run needs to go on exactly where it stopped.

    state/
    └── step-000200/             as after 200 updates
        ├── model.safetensors
        ├── optimizer.safetensors   by the weights' names: exp_avg, exp_avg_sq, step
        └── state.json              step, what the run remembers, the two files' checksums

Order of the data, learning rate and random numbers are functions of the step, so they are not here.
A state is written aside and renamed: whenever a run is killed, its newest state is whole.
"""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from igpt.errors import CheckpointError
from igpt.files import write_json, written_aside
from igpt.model.weights import read_tensors, require_matching, write_tensors

_FILES = ("model.safetensors", "optimizer.safetensors")


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

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        memory: dict[str, Any] | None = None,
    ) -> None:
        """Write the state after `step` updates, then remove the oldest beyond `keep`.

        Args:
            step: Updates done.
            model: Network being trained.
            optimizer: Its optimizer.
            memory: What else the run must remember, as plain JSON values.
        """
        with written_aside(self.path(step)) as aside:
            aside.mkdir()
            write_tensors(aside / _FILES[0], dict(model.state_dict()))
            write_tensors(aside / _FILES[1], _optimizer_tensors(model, optimizer))
            write_json(
                aside / "state.json",
                {
                    "step": step,
                    "fingerprint": self.fingerprint,
                    "memory": memory or {},
                    "sha256": {name: _digest(aside / name) for name in _FILES},
                },
            )
        for old in self.steps()[: -self.keep]:
            shutil.rmtree(self.path(old))

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> tuple[int, dict[str, Any]]:
        """Load the newest state into both and return its step and what was remembered.

        Returns:
            `(0, {})`, having touched nothing, if there is no state yet.

        Raises:
            CheckpointError: The newest state is cut off, changed, or of another configuration.
        """
        if not self.steps():
            return 0, {}
        folder = self.path(self.steps()[-1])
        try:
            state = json.loads((folder / "state.json").read_text())
            step, memory, digests = int(state["step"]), dict(state["memory"]), state["sha256"]
            fingerprint = state["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._broken(folder, "its state.json cannot be read") from error
        if fingerprint != self.fingerprint:
            raise CheckpointError(
                f"{folder} was saved under another configuration than the run's recipe.json tells; "
                "put the recipe back as it was, or start a new run"
            )
        for name in _FILES:
            if not (folder / name).is_file() or _digest(folder / name) != digests.get(name):
                raise self._broken(folder, f"{name} is missing, cut off or changed")
        weights = read_tensors(folder / _FILES[0])
        require_matching(folder / _FILES[0], weights, dict(model.state_dict()))
        model.load_state_dict(weights)
        _restore_optimizer(model, optimizer, read_tensors(folder / _FILES[1]))
        return step, memory

    def _broken(self, folder: Path, reason: str) -> CheckpointError:
        older = self.steps()[:-1]
        advice = f"go on from step {older[-1]}" if older else "start again from step 0"
        return CheckpointError(f"{folder} is damaged: {reason}; delete it to {advice}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
