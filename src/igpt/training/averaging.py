"""Means of the weights over the steps, which may be better than the newest weights.

    update_averages(optimizer, updates, share)     # after each update
    with averaged(optimizer):                      # measure and keep the means
        ...

The mean of a weight lies with the optimizer's other memory of it, so that states keep it and a
resumed run goes on with it. Step i of T counts for i^(1/share) - (i-1)^(1/share), divided by the
sum of these, T^(1/share): however long a run is, what counts is about the newest `share` of it,
and nothing has to be known of its length.

Source: Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models",
section 3.1, where `share` is 1 / (gamma + 1).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MEAN = "average"


@torch.no_grad()
def update_averages(optimizer: torch.optim.Optimizer, updates: int, share: float) -> None:
    """Take the weights after so many `updates` into their means.

    Args:
        optimizer: Whose weights; those that it has never updated have no mean.
        updates: Done so far, 1 or more.
        share: `TrainingConfig.averaging`.
    """
    newest = 1 - (1 - 1 / updates) ** (1 / share)
    for weight, kept in optimizer.state.items():
        if _MEAN in kept:
            kept[_MEAN].lerp_(weight, newest)
        else:
            kept[_MEAN] = weight.detach().clone()


@contextmanager
def averaged(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Let the weights be their means while in the block, if they have any; then as they were."""
    exchange_averages(optimizer)
    try:
        yield
    finally:
        exchange_averages(optimizer)


@torch.no_grad()
def exchange_averages(optimizer: torch.optim.Optimizer) -> None:
    """Put means in the place of weights, and these in theirs."""
    for weight, kept in optimizer.state.items():
        if _MEAN in kept:
            newest = weight.detach().clone()
            weight.copy_(kept[_MEAN])
            kept[_MEAN].copy_(newest)
