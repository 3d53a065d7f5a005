"""Which learning rate comes next: down a list, until the score gets worse.

The paper tries 0.01, 0.003, 0.001, 0.0003 and so on in turn, and stops once the final validation
loss starts increasing; fine-tuning does the same anew (Chen et al. 2020, section 3.4). Here stands
what was tried and what follows from it; `igpt.runs.search` does the trying.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from igpt.errors import ConfigError

PRETRAINING_RATES = (0.01, 0.003, 0.001, 0.0003, 0.0001)
"""The paper's, for pretraining."""

FINETUNING_RATES = (0.003, 0.001, 0.0003, 0.0001, 0.00003)
"""The same steps from a rate lower, as fine-tuning often needs a tenth."""


@dataclass(frozen=True, kw_only=True)
class Try:
    """A learning rate and what it gave."""

    learning_rate: float
    score: float | None
    """Final validation loss in nats, or the best validation accuracy; None if it diverged."""
    best_step: int | None = None
    """Of fine-tuning: updates that gave the best accuracy."""
    steps: int | None = None
    """Of fine-tuning: updates done."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What `search.json` holds."""

    kind: Literal["pretrain", "finetune"]
    settings: dict[str, Any]
    """What all of its runs share; another search has others."""
    tries: tuple[Try, ...] = ()
    """From the highest rate to the lowest."""
    best: float | None = None
    """The best rate, once the search is done."""
    turned: bool | None = None
    """Whether the score got worse at last; if not, still lower rates may be better."""
    run: str | None = None
    """Folder of the outcome, in that of the search."""
    test_accuracy: float | None = None
    """Of the outcome of fine-tuning."""
    test_images: int | None = None
    """That it was measured on."""

    def tried(self, rate: float) -> Try | None:
        """Return what a rate gave; None if it has not been tried."""
        return next((row for row in self.tries if row.learning_rate == rate), None)

    def loss(self, row: Try) -> float:
        """Return what is to be small: a loss, or minus an accuracy; infinite if it diverged."""
        if row.score is None:
            return math.inf
        return -row.score if self.kind == "finetune" else row.score

    def score_text(self, row: Try) -> str:
        """Return a score as a person reads it."""
        if row.score is None:
            return "diverged"
        return f"{row.score:.2%}" if self.kind == "finetune" else f"{row.score:.4f}"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a search stands."""

    rate: float | None
    """To try next; None if the search is done."""
    best: Try | None
    """So far; None if nothing was tried, or all diverged."""
    turned: bool
    """Whether the last was worse than the one before."""


def look(rates: Sequence[float], result: SearchResult) -> Standing:
    """Return where a search through `rates` stands, from high to low until one is worse.

    A rate that diverges is worse than any that does not. As high rates often do, it ends the
    search only once another has not. One as good as the one before does not end it, and the higher
    of the two is the best.
    """
    best, least = None, math.inf
    for rate in rates:
        row = result.tried(rate)
        if row is None:
            return Standing(rate=rate, best=best, turned=False)
        loss = result.loss(row)
        if loss > least:
            return Standing(rate=None, best=best, turned=True)
        if loss < least:
            best, least = row, loss
    return Standing(rate=None, best=best, turned=False)


def check_rates(rates: Sequence[float]) -> None:
    """See that rates can be searched.

    Raises:
        ConfigError: They are none, not positive or not descending.
    """
    positive = all(0 < rate < math.inf for rate in rates)
    if not rates or not positive or any(b >= a for a, b in itertools.pairwise(rates)):
        given = ", ".join(f"{rate:g}" for rate in rates) or "none"
        raise ConfigError(
            "a search needs learning rates that are positive and descend, such as "
            f"0.01,0.003,0.001, got {given}"
        )
