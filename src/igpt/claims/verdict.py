"""When a claim holds: one rule for all of them, fixed before anything is measured.

A claim has parts, and each part is one number a seed that is positive where the paper is right:
"accuracy of the best layer minus that of the last". The rule looks at nothing else.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "does not hold", "cannot be told at this scale"]

RULE = (
    "Each part is a number a seed, positive where the paper is right. It holds if its mean over "
    "the seeds is more than two standard errors above zero, does not hold if it is more than two "
    "below, and cannot be told at this scale otherwise. A part that says two things are equal "
    "within a margin holds if the mean, two standard errors to either side, lies within the "
    "margin, does not hold if all of that lies outside, and cannot be told otherwise. One seed "
    "tells nothing. A claim holds if all of its parts hold, and does not if one of them does not."
)
"""The rule in words, kept with every result."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the rule says of a part."""

    verdict: Verdict
    mean: float | None
    """Over the seeds; None if nothing could be measured."""
    standard_error: float | None
    """Of that mean; None for fewer than two seeds."""


def judge(values: Sequence[float], *, equal_within: float | None = None) -> Judgement:
    """Return the verdict on one part from its number for each seed, by `RULE`."""
    unknown: Verdict = "cannot be told at this scale"
    mean = statistics.fmean(values) if values else None
    if mean is None or len(values) < 2:
        return Judgement(verdict=unknown, mean=mean, standard_error=None)
    error = statistics.stdev(values) / math.sqrt(len(values))
    low, high = mean - 2 * error, mean + 2 * error
    if equal_within is None:
        holds, fails = low > 0, high < 0
    else:
        holds = -equal_within <= low and high <= equal_within
        fails = low > equal_within or high < -equal_within
    verdict: Verdict = "holds" if holds else "does not hold" if fails else unknown
    return Judgement(verdict=verdict, mean=mean, standard_error=error)


def judge_claim(parts: Sequence[Judgement]) -> Verdict:
    """Return the verdict on a claim from those on its parts, by `RULE`."""
    verdicts = {part.verdict for part in parts}
    if "does not hold" in verdicts:
        return "does not hold"
    return "holds" if verdicts == {"holds"} else "cannot be told at this scale"
