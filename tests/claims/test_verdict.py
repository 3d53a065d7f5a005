import math

import pytest

from igpt.claims.verdict import Judgement, judge, judge_claim

UNKNOWN = "cannot be told at this scale"


def test_the_rule_by_hand():
    # mean 2, deviation 1, error 1 / sqrt(3) = 0.577: twice it is 1.155
    judgement = judge([1.0, 2.0, 3.0])
    assert (judgement.verdict, judgement.mean) == ("holds", 2.0)
    assert judgement.standard_error == pytest.approx(1 / math.sqrt(3))
    assert judge([-1.0, -2.0, -3.0]).verdict == "does not hold"
    assert judge([-1.0, 2.0, 2.0]).verdict == UNKNOWN
    assert judge([5.0]).verdict == UNKNOWN
    assert judge([]) == Judgement(verdict=UNKNOWN, mean=None, standard_error=None)


def test_two_things_are_equal_within_a_margin():
    assert judge([0.1, -0.1, 0.0], equal_within=0.2).verdict == "holds"
    assert judge([2.0, 2.1, 1.9], equal_within=0.2).verdict == "does not hold"
    assert judge([-2.0, -2.1, -1.9], equal_within=0.2).verdict == "does not hold"
    assert judge([0.3, -0.3, 0.0], equal_within=0.2).verdict == UNKNOWN


def test_a_claim_stands_or_falls_with_its_parts():
    def judgements(*verdicts):
        return [Judgement(verdict=verdict, mean=0.0, standard_error=0.0) for verdict in verdicts]

    assert judge_claim(judgements("holds", "holds")) == "holds"
    assert judge_claim(judgements("holds", UNKNOWN)) == UNKNOWN
    assert judge_claim(judgements("holds", "does not hold", UNKNOWN)) == "does not hold"
