"""At which precision a network learns: what a device is good at, and float16's loss scale.

bfloat16 has the range of float32. float16 has not: small gradients would become zero. So the loss
is multiplied before they are computed and they are divided after, by a scale that halves whenever a
gradient overflows, in a step that is then skipped, and doubles after long without (PyTorch's
`GradScaler`). A resumed run goes on with the scale that it had.
"""

import contextlib
import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import torch

from igpt import processes
from igpt.hardware import Arithmetic
from igpt.model.block import Block
from igpt.model.config import ModelConfig
from igpt.training.config import Precision, TrainingConfig

_AMPERE = (8, 0)  # compute capability of the first GPUs with arithmetic for bfloat16
_WORTH = 1.2  # times as fast as float32 a processor's bfloat16 has to be
_TIMED_TOKENS, _TIMINGS = 256, 3


@dataclass(frozen=True, kw_only=True)
class LossScale:
    """By what float16's loss is multiplied."""

    scale: float
    steps_since: int
    """Steps since it was last changed."""


def choose_precision(asked: Precision, device: torch.device, model: ModelConfig) -> Arithmetic:
    """Return the precision asked for, or with `auto` the one that suits device and network.

    A GPU has bfloat16, or, before Ampere, float16 with a scaled loss. A processor has bfloat16 only
    if it has arithmetic for it and a block of this very network, timed here and now, is faster for
    it; so a run chooses once, and keeps to it.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= _AMPERE else "float16"
    if device.type == "cpu" and _multiplies_bfloat16():
        gain = _block_seconds(model, "float32") / _block_seconds(model, "bfloat16")
        return "bfloat16" if gain >= _WORTH else "float32"
    return "float32"


def settled(config: TrainingConfig, device: torch.device, model: ModelConfig) -> TrainingConfig:
    """Return the training with its precision chosen, by one process for all."""
    precision = processes.by_first(lambda: choose_precision(config.precision, device, model))
    return dataclasses.replace(config, precision=precision)


def autocast(device: torch.device, precision: Precision) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a forward pass runs at `precision`, which was chosen."""
    assert precision != "auto"
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def _multiplies_bfloat16() -> bool:
    """Say whether this processor has instructions for products of bfloat16 (AVX-512 or AMX)."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _block_seconds(model: ModelConfig, precision: Arithmetic) -> float:
    """Return how long a block of the network takes, forward and back, on this processor."""
    positions = min(model.positions, _TIMED_TOKENS)
    with torch.random.fork_rng(devices=()):
        block = Block(model)
        stream = torch.randn(max(1, _TIMED_TOKENS // positions), positions, model.width)
    times = []
    for _ in range(_TIMINGS):
        began = time.perf_counter()
        with autocast(stream.device, precision):
            out, _norm = block(stream)
        out.sum().backward()
        times.append(time.perf_counter() - began)
    return min(times)


def loss_scaler(
    precision: Precision, device: torch.device, known: LossScale | None = None
) -> torch.amp.GradScaler:
    """Return what scales the loss, from a known scale on; in other precisions it does nothing."""
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    if known is not None and scaler.is_enabled():
        state = scaler.state_dict()
        scaler.load_state_dict(
            {**state, "scale": known.scale, "_growth_tracker": known.steps_since}
        )
    return scaler


def loss_scale(scaler: torch.amp.GradScaler) -> LossScale | None:
    """Return the scale there is now; None if the loss is not scaled."""
    if not scaler.is_enabled():
        return None
    state = scaler.state_dict()
    return LossScale(scale=state["scale"], steps_since=state["_growth_tracker"])
