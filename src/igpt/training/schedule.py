"""The learning rate as a function of the step; and how a training is made longer than it was to be.

A run that is still on its way is stretched: its schedule, from the step that is next, is the one it
would have had with the new number of steps. The rate rises at once where a cosine or a line is made
longer, as at each step it is what is left of the way. A run that has come to the end of a cosine or
a line has a rate of zero, at which nothing is learned: it is warmed up again, to half of its rate,
and goes down the same way to the new last step. A constant rate stays what it is.

That warming up again and going down anew makes up for most of what a longer schedule would have
given is known from language models (Ibrahim et al. 2024, "Simple and scalable strategies to
continually pre-train large language models"); that half a rate is enough is our choice.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from igpt.training.config import TrainingConfig

WARMED_TO = 0.5
"""Of the learning rate, the peak of a schedule that begins again at the end of another."""


@dataclass(frozen=True, kw_only=True)
class Longer:
    """A number of steps that a run was given after it had begun with another."""

    after: int
    """Updates done by then."""
    before: int
    """Steps it was to have until then."""
    steps: int
    """Steps in all from then on."""
    learning_rate: float | None
    """Peak of the schedule that begins again there; None where the old one is stretched."""

    @classmethod
    def of(cls, training: TrainingConfig, *, after: int, steps: int) -> "Longer":
        """Return how a run of these settings, which has done `after` updates, gets more steps."""
        again = after >= training.steps and training.schedule != "constant"
        rate = training.learning_rate * WARMED_TO if again else None
        return cls(after=after, before=training.steps, steps=steps, learning_rate=rate)

    def described(self, training: TrainingConfig) -> str:
        """Return what becomes of the learning rate, in words."""
        if self.learning_rate is not None:
            return (
                f"its {training.schedule} had come to its end, so the rate is warmed up again, to "
                f"{self.learning_rate:g} (half of what it was), and goes down to zero at step "
                f"{self.steps:,}"
            )
        if training.schedule == "constant":
            return "the rate stays constant"
        return f"its {training.schedule} is stretched from here on, to zero at step {self.steps:,}"


def learning_rate_at(step: int, config: TrainingConfig, longer: Sequence[Longer] = ()) -> float:
    """Return the learning rate of `step`, counted from 0.

    It rises in a straight line over `warmup_steps`, reaching its peak at the last of them, stays
    there for the share `stable` of the other steps, then follows half a cosine or a straight line
    that would reach zero at step `steps`, or stays for good.

    Args:
        step: From 0.
        config: With its warm-up in steps (`TrainingConfig.for_records`).
        longer: How often it was given other steps, first to last; the last has those of `config`.

    Source: Chen et al. 2020, appendix A.1.
    """
    assert not config.warmup_epochs, "epochs are steps only once the records are counted"
    full, begun = config.warmup_steps, 0  # begun: where the schedule of this step began
    if longer:
        config = dataclasses.replace(config, steps=longer[0].before)
    for change in longer:
        if step < change.after:
            break
        warmup, rate = config.warmup_steps, config.learning_rate
        if change.learning_rate is not None:
            begun, rate = change.after, change.learning_rate
            warmup = min(full, (change.steps - begun) // 10)
        config = dataclasses.replace(
            config, steps=change.steps - begun, learning_rate=rate, warmup_steps=warmup
        )
    return _scheduled(step - begun, config)


def _scheduled(step: int, config: TrainingConfig) -> float:
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    after, left = step - config.warmup_steps, config.steps - config.warmup_steps
    stable = config.stable * left
    progress = max(0.0, after - stable) / max(1, left - stable)
    if config.schedule == "linear":
        return config.learning_rate * (1 - progress)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
