"""The rule against SciPy and by hand, and how often it is wrong where nothing is true."""

import numpy as np
import pytest
from scipy import stats

from igpt.claims.verdict import ERROR, Sample, holm, judge, judge_claim, t_interval

UNKNOWN = "cannot be told"
MADE_UP = (0.031, 0.012, 0.044, -0.008, 0.027, 0.019, 0.035, 0.022)


def verdict(*values, **settings):
    (judgement,) = judge([Sample(values=values, **settings)])
    return judgement.verdict


def test_a_part_is_judged_by_a_two_sided_t_test():
    (judgement,) = judge([Sample(values=MADE_UP)])
    expected = stats.ttest_1samp(MADE_UP, 0.0)
    assert judgement.verdict == "holds"
    assert judgement.mean == pytest.approx(np.mean(MADE_UP))
    assert judgement.p_value == pytest.approx(expected.pvalue)
    assert judgement.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert verdict(*(-value for value in MADE_UP)) == "does not hold"
    # t of 3.46 at 2 degrees of freedom: p is 0.074, though it is over two standard errors
    assert verdict(1.0, 2.0, 3.0) == UNKNOWN


def test_two_things_are_equal_by_two_one_sided_t_tests():
    for margin in (0.03, 0.036, 0.037, 0.05):
        (judgement,) = judge([Sample(values=MADE_UP, equal_within=margin)])
        above = stats.ttest_1samp(MADE_UP, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(MADE_UP, margin, alternative="less").pvalue
        assert judgement.p_value == pytest.approx(min(1.0, 2 * max(above, below)))
        assert judgement.verdict == ("holds" if margin > 0.0365 else UNKNOWN)
    assert verdict(2.0, 2.1, 1.9, equal_within=0.2) == "does not hold"
    assert verdict(-2.0, -2.1, -1.9, equal_within=0.2) == "does not hold"


def test_the_parts_of_a_claim_are_corrected_together():
    # by hand: 4 * 0.01, then 3 * 0.02, then 2 * 0.03 and 1 * 0.04, which may not fall below it
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    part = Sample(values=(0.3, 1.0, 0.9, 0.4))  # p is under 0.05, but not half of it
    (alone,) = judge([part])
    assert alone.verdict == "holds"
    assert alone.p_value is not None
    together, _ = judge([part, part])
    assert together.p_value == pytest.approx(2 * alone.p_value)
    assert together.verdict == UNKNOWN


@pytest.mark.parametrize("values", [(), (5.0,), (5.0, 5.1)])
def test_fewer_than_three_seeds_tell_nothing(values):
    (judgement,) = judge([Sample(values=values)])
    assert judgement.verdict == UNKNOWN
    assert judgement.p_value is None
    assert len(judgement.interval) == (2 if len(values) == 2 else 0)


def test_values_that_are_all_the_same_are_decided_by_their_side():
    assert verdict(0.0, 0.0, 0.0) == UNKNOWN
    assert verdict(0.1, 0.1, 0.1) == "holds"
    assert verdict(0.0, 0.0, 0.0, equal_within=0.01) == "holds"


def test_what_misses_its_controls_is_not_measurable():
    assert verdict(5.0, 5.1, 5.2, measurable=False) == "not measurable"


def test_the_interval_is_scipys():
    expected = stats.t.interval(0.9, 7, np.mean(MADE_UP), stats.sem(MADE_UP))
    assert t_interval(MADE_UP, 0.9) == pytest.approx(expected)


def test_a_claim_is_the_sum_of_its_parts():
    holds, fails, hollow = "holds", "does not hold", "not measurable"
    assert judge_claim([holds, holds, UNKNOWN]) == holds
    assert judge_claim([fails, fails, hollow]) == fails
    assert judge_claim([holds, fails, UNKNOWN]) == "holds in part"
    assert judge_claim([holds, UNKNOWN]) == UNKNOWN  # half is not more than half
    assert judge_claim([fails, UNKNOWN, UNKNOWN, UNKNOWN]) == UNKNOWN
    assert judge_claim([holds, hollow]) == hollow


@pytest.mark.parametrize(("parts", "seeds"), [(1, 3), (8, 10)])
def test_false_alarms_are_under_five_in_a_hundred(parts, seeds):
    """Claims of which nothing is true: any decided part of any of them is a false alarm."""
    generator = np.random.default_rng(parts * 100 + seeds)
    claims = 1000
    numbers = generator.standard_normal((claims, parts, seeds))
    decided = 0
    for claim in numbers:
        judgements = judge([Sample(values=tuple(values)) for values in claim.tolist()])
        decided += any(judgement.verdict != UNKNOWN for judgement in judgements)
    # of 1,000 that is 50; the count is over 67 by accident in one of a hundred such tests
    assert decided <= stats.binom.ppf(0.99, claims, ERROR)


def test_what_lies_on_the_margin_is_seldom_called_equal_or_unequal():
    generator = np.random.default_rng(7)
    numbers = generator.normal(0.5, 1.0, (1000, 10))
    verdicts = [verdict(*values, equal_within=0.5) for values in numbers.tolist()]
    decided = sum(found != UNKNOWN for found in verdicts)
    assert decided <= stats.binom.ppf(0.99, len(verdicts), ERROR)
