"""What cannot fit is refused in a line that says what helps; so is what ran out all the same."""

from dataclasses import replace

import pytest
import torch

from igpt.hardware import KINDS
from igpt.model.config import SIZES
from igpt.planning.here import (
    OutOfMemory,
    available_memory,
    hardware_of,
    memory_watched,
    require_fits,
    this_machine,
)
from igpt.planning.plan import training_step
from igpt.training.config import TrainingConfig

MODEL, TRAINING = SIZES["igpt-s"], TrainingConfig(batch_size=128)
CPU = torch.device("cpu")


def test_what_cannot_fit_is_refused_with_what_would_help():
    with pytest.raises(OutOfMemory) as refused:
        require_fits(MODEL, TRAINING, KINDS["T4"])
    line = str(refused.value)
    assert "\n" not in line
    for words in ("microbatch_size=", "checkpoint_activations=true", "processes", "T4", "GB"):
        assert words in line


def test_what_fits_or_nearly_does_is_not():
    require_fits(MODEL, replace(TRAINING, microbatch_size=1), KINDS["T4"])
    needed = training_step(MODEL, TRAINING, kind=KINDS["T4"]).peak().total
    barely = replace(KINDS["T4"], memory=round(needed * 0.95), reserved=0)
    require_fits(MODEL, TRAINING, barely)
    with pytest.raises(OutOfMemory, match=f"{needed / 1e9:.2f} GB"):
        require_fits(MODEL, TRAINING, replace(barely, memory=round(needed * 0.85)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_running_out_all_the_same_says_the_same(error):
    small = replace(TRAINING, batch_size=2)
    with pytest.raises(OutOfMemory, match=r"out of memory: .*microbatch_size=1.*checkpoint_act"):  # noqa: SIM117
        with memory_watched(MODEL, small, CPU):
            raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory_watched(MODEL, TRAINING, CPU):
        raise RuntimeError("shapes do not match")


def test_this_machine_has_memory_and_speed():
    kind, count = this_machine(MODEL)
    assert count >= 1
    assert kind.peak("float32") > 1e6
    assert 0 < hardware_of(CPU).memory <= available_memory() * 1.5
