"""How sure an accuracy is."""

import numpy as np
import pytest
from scipy.stats import norm

from igpt.evaluation.proportions import Share


def wilson(right: int, total: int) -> tuple[float, float]:
    """The roots of (p - share)^2 = z^2 p (1 - p) / n, as Wilson found them."""
    z, share = norm.ppf(0.975), right / total
    low, high = sorted(
        np.roots([1 + z**2 / total, -(2 * share + z**2 / total), share**2]).real.tolist()
    )
    return low, high


@pytest.mark.parametrize(("right", "total"), [(32, 60), (1, 7), (997, 1000)])
def test_the_interval_is_wilsons(right, total):
    assert Share(right, total).interval == pytest.approx(wilson(right, total))


def test_an_interval_stays_between_none_and_all():
    assert Share(0, 9).interval[0] == 0
    assert Share(9, 9).interval[1] == 1
    assert Share(0, 9).interval[1] > 0.1


def test_the_difference_is_newcombes_of_his_own_example():
    """56 of 70 and 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, table II, a, method 10)."""
    interval = Share(56, 70).difference_interval(Share(48, 80))
    assert interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_a_difference_is_one_only_if_its_interval_leaves_out_none():
    assert Share(666, 1000).compared_with(Share(310, 1000)) == "better"
    assert Share(310, 1000).compared_with(Share(666, 1000)) == "worse"
    assert Share(32, 60).compared_with(Share(36, 60)) == "open"
    assert Share(36, 60).compared_with(Share(36, 60)) == "open"


def test_of_equally_good_classifiers_few_are_said_to_differ():
    right = np.random.default_rng(0).binomial(200, 0.6, (2000, 2))
    told = [Share(a, 200).compared_with(Share(b, 200)) != "open" for a, b in right.tolist()]
    assert 0.02 < np.mean(told) < 0.065


@pytest.mark.parametrize("right", [0, 5, 32, 55, 60])
def test_the_smallest_difference_is_told_and_a_smaller_one_is_not(right):
    share = Share(right, 60)
    apart = round(60 * share.smallest_difference)
    low = max(0, min(right - apart // 2, 60 - apart))
    assert Share(low + apart, 60).compared_with(Share(low, 60)) == "better"
    closer = apart - 1
    low = max(0, min(right - closer // 2, 60 - closer))
    assert Share(low + closer, 60).compared_with(Share(low, 60)) == "open"


def test_a_share_has_its_count_back():
    assert Share.of(0.5333333, 60) == Share(32, 60)
    assert Share.of(612 / 1000, 1000) == Share(612, 1000)
