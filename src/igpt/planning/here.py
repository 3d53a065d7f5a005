"""The devices of this machine, as a plan wants them, and what cannot fit them refused.

    with memory_watched(model, training, device):
        ...  # train

Here torch is asked; what is reckoned of it is in `igpt.planning.plan`.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from igpt import processes
from igpt.errors import ConfigError
from igpt.hardware import Hardware, recognize
from igpt.model.config import ModelConfig
from igpt.planning.memory import Step
from igpt.planning.plan import Workload, remedies, training_step
from igpt.training.config import TrainingConfig
from igpt.training.estimate import multiplication_speed
from igpt.training.precision import choose_precision

_SURE, _SURE_COMPILED = 0.9, 0.7
"""A training is refused if even so much of what is reckoned is not there: that is how far the
reckoning may be off. Compiled blocks took 10 to 20 % less on a processor (docs/log.md)."""

_LESS = 0.85  # of what a step was reckoned to need, and more than there was, to try next
_CPU_RESERVED = 500_000_000  # bytes: Python, torch and what it loads


class OutOfMemory(ConfigError):
    """A training takes more memory than its device has."""


def this_machine(model: ModelConfig) -> tuple[Hardware, int]:
    """Return the kind of device that a network would train on here, and how many there are.

    A GPU of no known kind has no speed. A processor's speed is that of a
    large multiplication, timed now.
    """
    if torch.cuda.is_available():
        return hardware_of(torch.device("cuda")), torch.cuda.device_count()
    kind = hardware_of(torch.device("cpu"))
    half = choose_precision("auto", torch.device("cpu"), model) == "bfloat16"
    return replace(
        kind, name="this processor", float32=multiplication_speed(), bfloat16=half,
        float16=multiplication_speed(dtype=torch.bfloat16) if half else 0.0,
    ), 1  # fmt: skip


def hardware_of(device: torch.device) -> Hardware:
    """Return what is known of a device here: its memory, and its figures if its kind is known."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        kind = recognize(properties.name) or Hardware(
            name=properties.name, memory=0, float16=0.0, float32=0.0
        )
        return replace(kind, memory=properties.total_memory, bfloat16=properties.major >= 8)
    return Hardware(
        name="the memory of this machine", float16=0.0, float32=0.0, bfloat16=False,
        memory=available_memory() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), per_machine=1,
        is_gpu=False, reserved=_CPU_RESERVED,
    )  # fmt: skip


def available_memory() -> int:
    """Return the bytes that this process could still get, as Linux or its container tells them.

    Where neither tells, all that the machine has.
    """
    room = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file() and (found := re.search(r"MemAvailable:\s+(\d+)", meminfo.read_text())):
        room.append(int(found[1]) * 1024)
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit.is_file() and used.is_file() and (most := limit.read_text().strip()) != "max":
        stat = re.search(r"inactive_file (\d+)", Path("/sys/fs/cgroup/memory.stat").read_text())
        freed = int(stat[1]) if stat else 0  # pages of files, which make way
        room.append(int(most) - int(used.read_text()) + freed)
    return min(room) if room else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def require_fits(
    model: ModelConfig,
    training: TrainingConfig,
    kind: Hardware,
    *,
    workload: Workload | None = None,
) -> None:
    """See that a training has the memory that it needs, on each of the processes there are.

    Args:
        model: The network.
        training: How it is trained.
        kind: Device of each process; the memory of a processor is shared by those of a machine.
        workload: As in `make_plan`.

    Raises:
        OutOfMemory: It cannot fit, by more than the reckoning may be off.
    """
    step = training_step(model, training, kind=kind, devices=processes.count(), workload=workload)
    sure = _SURE_COMPILED if training.compile else _SURE
    if step.peak().total * sure > kind.usable:
        raise OutOfMemory(_too_large(step, kind))


@contextmanager
def memory_watched(
    model: ModelConfig,
    training: TrainingConfig,
    device: torch.device,
    *,
    workload: Workload | None = None,
) -> Iterator[None]:
    """Train within; that memory does not suffice is told as `require_fits` tells it.

    Raises:
        OutOfMemory: The device ran out of memory all the same.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        kind = hardware_of(device)
        step = training_step(
            model, training, kind=kind, devices=processes.count(), workload=workload
        )
        raise OutOfMemory(_too_large(step, kind, ran_out=True)) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Say whether an error is want of memory; that of a CPU is but a text."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "not enough memory" in str(error) or "allocate memory" in str(error)


def _too_large(step: Step, kind: Hardware, *, ran_out: bool = False) -> str:
    """Return, in one line, what a step needs, what there is, and what would help."""
    peak = step.peak()
    parts = sorted(peak.parts().items(), key=lambda part: -part[1])[:4]
    listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts if size)
    room = kind.usable
    if ran_out:  # so the reckoning is off, or others have a part of the memory
        room = min(room, round(_LESS * peak.total))
    helps = remedies(step, kind, room)
    advice = f"try {', or '.join(helps)}" if helps else "try a smaller network or image size"
    return (
        f"{'out of memory: ' if ran_out else ''}a training step needs about "
        f"{peak.total / 1e9:.2f} GB on each device ({listed}), and {kind.name} has "
        f"{kind.usable / 1e9:.2f} for it; {advice}"
    )
