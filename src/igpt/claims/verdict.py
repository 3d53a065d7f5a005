"""When a claim holds: one rule for all of them, fixed before anything is measured.

A claim has parts, and each part is one number a seed that is positive where the paper is right:
"accuracy of the best inner layer minus that of the last". The rule looks at nothing else.

    judgements = judge([Sample(values=(0.02, 0.03, 0.01)), Sample(values=..., equal_within=0.01)])
    verdict = judge_claim([judgement.verdict for judgement in judgements])

How many seeds a part would have taken is in `igpt.claims.power`.
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit  # t's distribution, without the cost of scipy.stats

Verdict = Literal[
    "holds", "does not hold", "holds in part", "cannot be told", "not measurable", "unfinished"
]
"""Of a part or a claim; only a claim holds in part or is unfinished."""

ERROR = 0.05
"""How often a claim of which nothing is true has a part that is decided, at the most."""

FEWEST = 3
"""Seeds that tell something."""

MEASURED = 0.75
"""Share of the seeds that must meet a part's controls."""

RULE = (
    "Each part is a number a seed, a difference within that seed, positive where the paper is "
    "right. Seeds differ in first weights, order of the images, hold-out and, of digits, test "
    "images and placements. A part holds if its mean over the seeds is above zero by a two-sided t "
    "test, does not hold if it is below, and cannot be told otherwise. A part that says two things "
    "are equal within a margin holds if two one-sided t tests put the mean inside the margin, does "
    "not hold if a t test puts it outside, and cannot be told otherwise. The p values, two-sided, "
    "are corrected by Holm's method for the number of the claim's parts, so that of claims of "
    f"which nothing is true at most {ERROR:.0%} have any part decided. Fewer than {FEWEST} seeds "
    "tell nothing. A seed that misses one of a part's positive controls does not count for that "
    f"part, and with under {MEASURED:.0%} of the seeds left the part is not measurable. A network "
    "that diverges counts as one that learned nothing: accuracy of chance, loss of a uniform "
    "guess. A claim is decided if more than half of its parts are; it then holds if every decided "
    "part holds, does not hold if none does, and holds in part otherwise. It is not measurable if "
    "half of its parts or more are not, and cannot be told in all other cases. Parts left to "
    "another scale, in the plan, do not count."
)
"""The rule in words, kept with every plan."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What the rule is given of one part."""

    values: tuple[float, ...]
    """By seed, of those that count."""
    equal_within: float | None = None
    """Of a part that two things are equal: the margin."""
    measurable: bool = True
    """Whether enough seeds met its controls."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What the rule says of a part."""

    verdict: Verdict
    mean: float | None
    """Over the seeds that count; None for none."""
    interval: tuple[float, ...]
    """Ends of the 95 % t interval of that mean, for itself; empty for fewer than two seeds."""
    p_value: float | None
    """Two-sided, corrected for the number of parts; None if nothing can be told of it."""


def judge(samples: Sequence[Sample]) -> tuple[Judgement, ...]:
    """Return the verdicts on all parts of a claim from their numbers, by `RULE`."""
    tests = [_test(sample) for sample in samples]
    corrected = holm([p_value for p_value, _ in tests])
    judgements = []
    for sample, (_, side), p_value in zip(samples, tests, corrected, strict=True):
        told = sample.measurable and len(sample.values) >= FEWEST
        verdict: Verdict = "cannot be told"
        if not sample.measurable:
            verdict = "not measurable"
        elif told and p_value <= ERROR:
            verdict = side
        judgements.append(
            Judgement(
                verdict=verdict,
                mean=statistics.fmean(sample.values) if sample.values else None,
                interval=t_interval(sample.values),
                p_value=p_value if told else None,
            )
        )
    return tuple(judgements)


def judge_claim(parts: Sequence[Verdict]) -> Verdict:
    """Return the verdict on a claim from those on its parts, by `RULE`."""
    count = Counter(parts)
    holding, failing = count["holds"], count["does not hold"]
    if 2 * (holding + failing) > len(parts):
        return "holds" if not failing else "does not hold" if not holding else "holds in part"
    return "not measurable" if 2 * count["not measurable"] >= len(parts) else "cannot be told"


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected by Holm's step-down method, in the same order.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, ...]:
    """Return both ends of the t interval of a mean; nothing for fewer than two values."""
    if len(values) < 2:
        return ()
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * _error(values)
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def _test(sample: Sample) -> tuple[float, Verdict]:
    """Return a two-sided p value, and the verdict if it is small."""
    if not sample.measurable or len(sample.values) < FEWEST:
        return 1.0, "cannot be told"
    margin = sample.equal_within
    if margin is None:
        holds, fails = _p_above(sample.values, 0.0), _p_below(sample.values, 0.0)
    else:
        inside = (_p_above(sample.values, -margin), _p_below(sample.values, margin))
        holds = max(inside)
        fails = min(_p_below(sample.values, -margin), _p_above(sample.values, margin))
    side: Verdict = "holds" if holds < fails else "does not hold"
    return min(1.0, 2 * min(holds, fails)), side


def _p_above(values: Sequence[float], bound: float) -> float:
    """Return the p value of a t test whether the mean is above a bound."""
    difference, error = statistics.fmean(values) - bound, _error(values)
    if error == 0:  # all values are the same
        return 0.0 if difference > 0 else 1.0
    return float(stdtr(len(values) - 1, -difference / error))


def _p_below(values: Sequence[float], bound: float) -> float:
    return _p_above([-value for value in values], -bound)


def _error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / len(values) ** 0.5
