"""The training loop: how the model learns, and nothing else.

Whoever asks for the steps measures, saves and stops between them (`igpt.training.fit`); objective
and batches come in as functions. So pretraining and fine-tuning share this file, and a test can
pass functions of its own.
"""

import contextlib
import ctypes
import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from igpt.data.batches import Batch
from igpt.errors import IgptError
from igpt.model.compiler import require_compiler
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import Objective
from igpt.randomness import Stream, stream_seed
from igpt.training.averaging import update_averages
from igpt.training.config import TrainingConfig
from igpt.training.parallel import Spread, mean_over_processes
from igpt.training.precision import LossScale, autocast, choose_precision, loss_scaler
from igpt.training.precision import loss_scale as current_scale
from igpt.training.schedule import Longer, learning_rate_at

_LEAST_SCALE = 1.0  # of float16's loss; gradients that overflow even so are none


class TrainingDiverged(IgptError):
    """The loss is no number any more; the weights are still those of the step before."""


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """What one step measured, after its update."""

    step: int
    """Counted from 0; `step + 1` updates have been done."""
    measures: dict[str, float]
    """Losses in nats, `learning_rate`, and `gradient_norm` before any clipping; in float16 also
    `loss_scale`, and for a step whose update was skipped `skipped` in place of the norm."""
    loss_scale: LossScale | None = None
    """What the next step's loss is scaled by, if it is."""


def train(
    model: ImageGPT,
    optimizer: torch.optim.Optimizer,
    *,
    objective: Objective,
    batch_at: Callable[[int], Batch],
    config: TrainingConfig,
    longer: Sequence[Longer] = (),
    start: int = 0,
    again: dict[str, float] | None = None,
    loss_scale: LossScale | None = None,
    spread: Spread | None = None,
) -> Iterator[StepDone]:
    """Update the model's weights step by step, from `start` to the last, and yield after each.

    Between the steps, where the caller measures and saves, the model is in evaluation mode.

    Args:
        model: Network to fit, on the device to work on.
        optimizer: Its optimizer (`build_optimizer`); the learning rate is set at each step.
        objective: Makes the losses of a batch.
        batch_at: Returns the batch of a step.
        config: Steps, rates, precision.
        longer: How often it was given other steps than it began with; see `learning_rate_at`.
        start: First step, 0 or where a resumed run goes on.
        again: What the step before `start` measured, if its caller did not come to all that it
            does after a step; it is yielded first, as it was then.
        loss_scale: What `StepDone` had of the step before `start`; float16 begins anew without.
        spread: How the network, which is its own, is spread over processes; on none but this one
            by default. Batches are then the share of this process.

    Raises:
        ConfigError: `config.compile` without a compiler.
        TrainingDiverged: A loss or gradient is infinite or no number; in float16 a gradient's scale
            is lowered first, for as long as it can be. It is seen before the update, so the weights
            are those of the last good step.
    """
    keep_freed_memory()
    spread = spread or Spread(model, objective)
    model.recompute = config.checkpoint_activations
    if config.compile:
        require_compiler(model.device, "training.compile=true")
        for block in model.blocks:
            block.compile()
    precision = choose_precision(config.precision, model.device, model.config)
    config = dataclasses.replace(config, precision=precision)
    scaler = loss_scaler(precision, model.device, loss_scale)
    if again is not None:
        yield StepDone(step=start - 1, measures=again, loss_scale=current_scale(scaler))
    for step in range(start, config.steps):
        rate = learning_rate_at(step, config, longer)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]

        model.train()
        batch = batch_at(step)
        torch.manual_seed(stream_seed(Stream.DROPOUT, config.seed, step))
        generator = torch.Generator().manual_seed(stream_seed(Stream.MASKS, config.seed, step))
        sums = accumulate_gradients(spread, batch, config, generator, scaler)
        scaler.unscale_(optimizer)
        norm = spread.norm([p.grad for p in model.parameters() if p.grad is not None])
        measures = {name: value.item() for name, value in sums.items()}  # waits for a GPU, once
        measures = mean_over_processes(measures)
        measures |= {"learning_rate": rate, "gradient_norm": norm.item()}
        overflowed = False
        if (scale := current_scale(scaler)) is not None:
            measures["loss_scale"] = scale.scale
            overflowed = not math.isfinite(measures["gradient_norm"]) and scale.scale > _LEAST_SCALE
        if overflowed:
            measures["skipped"] = 1.0
            del measures["gradient_norm"]
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(measures.get(name, 0.0)):
                raise TrainingDiverged(
                    f"the {name.replace('_', ' ')} of step {step + 1} is {measures[name]}; the "
                    "last good state is kept. In a new run, try a learning rate below "
                    f"{config.learning_rate:g}, or training.max_gradient_norm=1"
                )
        if config.max_gradient_norm is not None and not overflowed:
            nn.utils.clip_grads_with_norm_(model.parameters(), config.max_gradient_norm, norm)
        scaler.step(optimizer)  # not if a gradient is infinite
        scaler.update()
        if config.averaging:
            update_averages(optimizer, step + 1, config.averaging)
        optimizer.zero_grad(set_to_none=True)
        model.eval()
        yield StepDone(step=step, measures=measures, loss_scale=current_scale(scaler))


def accumulate_gradients(
    spread: Spread,
    batch: Batch,
    config: TrainingConfig,
    generator: torch.Generator,
    scaler: torch.amp.GradScaler | None = None,
) -> dict[str, torch.Tensor]:
    """Add the gradients of the whole batch to the weights' and return the batch's mean losses.

    The losses are those of the images that this process has, if there are others. They pass in
    shares of `microbatch_size`, each weighted by its part of the images.
    """
    images = len(batch.tokens)
    share = config.microbatch_size or images
    device = spread.model.device
    sums: dict[str, torch.Tensor] = {}
    for first in range(0, images, share):
        tokens = batch.tokens[first : first + share].to(device)
        labels = batch.labels
        if labels is not None:
            labels = labels[first : first + share].to(device)
        weight = len(tokens) / images
        with spread.adding_up(last=first + share >= images):
            with autocast(device, config.precision):
                measures = spread.objective(spread.model, tokens, labels, generator)
            loss = measures["loss"] * weight
            (loss if scaler is None else scaler.scale(loss)).backward()
        for name, value in measures.items():
            sums[name] = sums.get(name, 0) + value.detach() * weight
    return sums


def keep_freed_memory() -> None:
    """Have this process keep memory that it frees, rather than give it back to the system.

    A step on the CPU frees and asks for the same large blocks again and again; by default glibc
    maps each anew, and faulting its pages in costs more than some of the arithmetic. Elsewhere
    than on Linux with glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold = -1, -3  # glibc's malloc.h
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)
