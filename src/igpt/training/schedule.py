"""The learning rate as a function of the step."""

import math

from igpt.training.config import TrainingConfig


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of `step`, counted from 0.

    It rises in a straight line over `warmup_steps`, reaching its peak at the last of them, then
    follows half a cosine or a straight line that would reach zero at step `steps`, or stays.

    Args:
        step: From 0.
        config: With its warm-up in steps (`TrainingConfig.for_records`).

    Source: Chen et al. 2020, appendix A.1.
    """
    assert not config.warmup_epochs, "epochs are steps only once the records are counted"
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    if config.schedule == "linear":
        return config.learning_rate * (1 - progress)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
