"""How many seeds a part of a claim needs, reckoned from the spread of those there are.

    seeds_needed(0.05, margin=0.01, parts=3)  # 265: hopeless; leave it to a larger scale

The tests are those of `igpt.claims.verdict`; the spread is a pilot's, or that of the seeds so far.
"""

from scipy.stats import nct
from scipy.stats import t as student

from igpt.claims.verdict import ERROR, FEWEST

POWER = 0.8
"""How often an effect as large as the margin is to be told."""

MOST = 2000
"""Seeds that are looked at; where these are not enough, nobody will run more."""


def power(seeds: int, deviation: float, *, margin: float, equal: bool, parts: int) -> float:
    """Return how often a part is decided for the paper, if the paper is right.

    Of a part that two things are equal, right means that they are the same, and the chance is a
    lower bound: one minus that of missing either side.

    Args:
        seeds: How many, at least 2.
        deviation: Standard deviation over the seeds of the part's number.
        margin: Mean of that number, or the margin within which two things are to be equal.
        equal: Whether the part says that two things are equal.
        parts: Of the claim; Holm's correction is taken at its hardest step.

    Source: power of the t test by the noncentral t distribution.
    """
    if deviation == 0:
        return 1.0
    critical = student.ppf(1 - ERROR / parts / 2, seeds - 1)
    missed = float(nct.cdf(critical, seeds - 1, margin * seeds**0.5 / deviation))
    return max(0.0, 1 - 2 * missed) if equal else 1 - missed


def seeds_needed(
    deviation: float, *, margin: float, equal: bool = False, parts: int = 1
) -> int | None:
    """Return the fewest seeds that decide a part in `POWER` of cases; None if over `MOST`.

    Arguments as in `power`.
    """

    def enough(seeds: int) -> bool:
        return power(seeds, deviation, margin=margin, equal=equal, parts=parts) >= POWER

    if not enough(MOST):
        return None
    low, high = FEWEST - 1, MOST  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
