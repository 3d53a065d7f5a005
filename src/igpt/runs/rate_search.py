"""The search for a learning rate: down a list, until the score gets worse.

The paper tries 0.01, 0.003, 0.001, 0.0003 and so on in turn, and stops once the final validation
loss starts increasing; fine-tuning does the same anew (Chen et al. 2020, section 3.4).

    found = search_rates((0.01, 0.003, 0.001), final_validation_loss)
    found.best.rate, found.tries

What a score is and how it is got is the caller's business.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from igpt.errors import ConfigError
from igpt.training.loop import TrainingDiverged

PRETRAINING_RATES = (0.01, 0.003, 0.001, 0.0003, 0.0001)
"""The paper's, for pretraining."""

FINETUNING_RATES = (0.003, 0.001, 0.0003, 0.0001, 0.00003)
"""The same steps from a rate lower, as fine-tuning often wants a tenth."""


@dataclass(frozen=True, kw_only=True)
class Try:
    """One learning rate and what came of it."""

    rate: float
    score: float | None
    """None if the training diverged."""


@dataclass(frozen=True, kw_only=True)
class RateSearch:
    """What a search has found."""

    tries: tuple[Try, ...]
    """In turn; those after the best were worse or no better."""
    best: Try
    turned: bool
    """Whether the score got worse at last; if not, still lower rates may be better."""


def search_rates(
    rates: Sequence[float], score_of: Callable[[float], float], *, rising: bool = False
) -> RateSearch:
    """Try rates in turn until one is worse than the one before.

    A rate that diverges is worse than any that does not. As high rates often do, it ends the
    search only once another has not.

    Args:
        rates: From high to low.
        score_of: Trains with a rate and returns the score. Diverged is what raises
            `TrainingDiverged` or has a score that is no finite number.
        rising: Whether a higher score is better, as of an accuracy; or else a lower, as of a loss.

    Raises:
        ConfigError: The rates are none, not positive or not descending.
        TrainingDiverged: All of them diverged.
    """
    check_rates(rates)
    tries: list[Try] = []
    best, least, turned = None, math.inf, False
    for rate in rates:
        try:
            score = score_of(rate)
        except TrainingDiverged:
            score = math.nan
        finite = math.isfinite(score)
        loss = (-score if rising else score) if finite else math.inf
        tries.append(Try(rate=rate, score=score if finite else None))
        if loss > least:  # the best so far is the one before, or as good as it
            turned = True
            break
        if loss < least:
            best, least = tries[-1], loss
    if best is None:
        raise TrainingDiverged(
            f"the training diverged at every learning rate, {rates[0]:g} to {rates[-1]:g}; search "
            "lower ones, or set max_gradient_norm=1"
        )
    return RateSearch(tries=tuple(tries), best=best, turned=turned)


def check_rates(rates: Sequence[float]) -> None:
    """See that rates can be searched.

    Raises:
        ConfigError: They are none, not positive or not descending.
    """
    positive = all(0 < rate < math.inf for rate in rates)
    if not rates or not positive or any(b >= a for a, b in itertools.pairwise(rates)):
        told = ", ".join(f"{rate:g}" for rate in rates) or "none"
        raise ConfigError(
            "a search wants learning rates that are positive and descend, such as "
            f"0.01,0.003,0.001, got {told}"
        )
