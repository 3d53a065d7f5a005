"""How long a training will take, said before it has: from the operations, then from timed steps.

    estimate = Estimate(title="runs/a", training=training, records=486, start=0, began=clock())
    estimate.after(step, now)      # after some steps a line, once; until then None

A step that is slow to come is announced before it is done, reckoned from its operations and the
speed of the device in a few multiplications. How often the images are passed through is said with
it, and where that is far more than can be learned from them.
"""

import time

import torch

from igpt.amounts import estimate, spoken
from igpt.model.config import ModelConfig
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import autoregressive
from igpt.training.config import TrainingConfig
from igpt.training.optimizer import build_optimizer
from igpt.training.precision import autocast, choose_precision

MOST_PASSES = 30
"""Passes over the training images beyond which a pretraining gets worse on others; 15 to 25 gave
the least loss on a few hundred, `docs/log.md`."""

_SLOW_STEP = 5.0  # seconds; a first step that takes longer is announced
_SHORT = 10.0  # seconds; a training that takes less needs no estimate
_TIMED_STEPS, _TIMED_SECONDS = 3, 2.0  # at least, before anything is said ...
_ENOUGH = 20.0  # ... but after so many seconds it is
_PROBED_SECONDS = 0.03  # that the speed of the device is measured
_OF_PEAK = 0.5  # of a large multiplication's speed, what a training step reaches


class Estimate:
    """The line about a training's length, told once enough of its steps are timed."""

    def __init__(
        self, *, title: str, training: TrainingConfig, records: int, start: int, began: float
    ) -> None:
        self.title, self.training, self.records = title, training, records
        self.start, self.began = start, began
        self._first: float | None = None
        self._told = start >= training.steps

    def after(self, step: int, now: float) -> str | None:
        """Return what is to be said after `step`, counted from 0, was done; None if nothing."""
        if self._told:
            return None
        done, steps = step + 1 - self.start, self.training.steps
        if self._first is None:
            self._first = now
        spent = now - self.began
        enough = done >= _TIMED_STEPS and spent >= _TIMED_SECONDS
        if not (enough or spent >= _ENOUGH) or step + 1 >= steps:
            return None
        self._told = True
        # The first step makes what the others find made, above all where it is compiled.
        seconds = (now - self._first) / (done - 1) if done > 1 else spent
        left = seconds * (steps - step - 1)
        if left < _SHORT:
            return None
        part = f"{steps - self.start:,} of " if self.start else ""
        return (
            f"{self.title}: {part}{steps:,} steps, {passes_text(self.training, self.records)}; "
            f"{estimate(left)}"
        )


def passes(training: TrainingConfig, records: int) -> float:
    """Return how often a training sees each of its images."""
    return training.steps * training.batch_size / records


def passes_text(training: TrainingConfig, records: int) -> str:
    """Return the same in words."""
    count = passes(training, records)
    text = f"{count:,.0f}" if count >= 9.95 else f"{count:.1f}".removesuffix(".0")
    return f"{text} {'pass' if text == '1' else 'passes'} over {records:,} images"


def too_many_passes(training: TrainingConfig, records: int) -> str | None:
    """Return what is to be said of a pretraining that sees its images too often; None if not."""
    if passes(training, records) <= MOST_PASSES:
        return None
    steps = max(1, MOST_PASSES * records // training.batch_size)
    return (
        f"{passes_text(training, records)} are so many that the network will learn them by heart "
        f"and get worse on others; --steps {steps} or fewer, or more images, would be better"
    )


def slow_step(model: ModelConfig, training: TrainingConfig, device: torch.device) -> str | None:
    """Return what is to be said before a first step that takes long; None if it does not.

    Reckoned, for a CPU; a GPU's first step is soon done.
    """
    if device.type != "cpu":
        return None
    flops = model.flops_per_token * model.positions * training.batch_size
    seconds = flops / (_OF_PEAK * multiplication_speed())
    if seconds < _SLOW_STEP:
        return None
    return (
        f"a step is {flops / 1e12:.2g} million million operations, which take some "
        f"{spoken(seconds)} here: {spoken(seconds * training.steps)} for {training.steps:,} steps. "
        "A GPU, fewer steps, or a smaller network, image size or batch take less; igpt recipes "
        "lists some"
    )


def multiplication_speed(
    seconds: float = _PROBED_SECONDS, *, dtype: torch.dtype = torch.float32
) -> float:
    """Return how many operations a second this process's CPU does in a large multiplication."""
    left, right = torch.ones(512, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    left @ right  # the first call starts threads
    done, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds or not done:
        left @ right
        done += 1
    return 2 * 512**3 * done / max(spent, 1e-9)


def time_step(
    model: ModelConfig,
    training: TrainingConfig,
    device: torch.device,
    *,
    images: int,
    steps: int = 2,
    seconds: float = 0.5,
) -> float:
    """Return the seconds that a training step takes for each image, measured on made-up ones.

    The network is made for it and thrown away; one step that is not timed goes before.

    Args:
        model: Shape of the network.
        training: Precision and optimizer; nothing is compiled.
        device: Where.
        images: In each step; few if a step is slow.
        steps: That are timed, at least; the fastest counts, since whatever else the machine does
            makes a step slower and never faster.
        seconds: For which steps are timed, at least.
    """
    network = ImageGPT(model).to(device).train()
    optimizer = build_optimizer(network, training)
    tokens = torch.zeros(images, model.positions, dtype=torch.int64, device=device)
    precision = choose_precision(training.precision, device, model)
    times: list[float] = []
    while len(times) <= steps or sum(times[1:]) < seconds:
        began = time.perf_counter()
        with autocast(device, precision):
            loss = autoregressive(network, tokens)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for a GPU
        times.append(time.perf_counter() - began)
    return min(times[1:]) / images
