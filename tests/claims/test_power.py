"""Reckoned powers against simulated ones, and the counts of seeds that follow."""

import numpy as np
import pytest

from igpt.claims.power import MOST, POWER, power, seeds_needed
from igpt.claims.verdict import Sample, judge


def test_the_power_of_a_textbook_case():
    # a paired t test of 34 pairs tells half a standard deviation in 80 % (Cohen 1988)
    assert seeds_needed(1.0, margin=0.5) == 34


@pytest.mark.parametrize("equal", [False, True])
def test_the_power_is_what_simulation_finds(equal):
    seeds, deviation, margin = 9, 1.0, 1.4
    generator = np.random.default_rng(3)
    mean = 0.0 if equal else margin
    numbers = generator.normal(mean, deviation, (1500, seeds)).tolist()
    within = margin if equal else None
    found = [judge([Sample(values=tuple(row), equal_within=within)])[0].verdict for row in numbers]
    share = found.count("holds") / len(found)
    assert share == pytest.approx(
        power(seeds, deviation, margin=margin, equal=equal, parts=1), abs=0.03
    )


def test_the_seeds_needed_are_the_fewest_that_are_enough():
    for parts in (1, 8):
        needed = seeds_needed(0.03, margin=0.02, parts=parts)
        assert needed is not None
        reached = [
            power(seeds, 0.03, margin=0.02, equal=False, parts=parts)
            for seeds in (needed - 1, needed)
        ]
        assert reached[0] < POWER <= reached[1]


def test_no_spread_needs_the_fewest_seeds_and_too_much_of_it_more_than_anyone_runs():
    assert seeds_needed(0.0, margin=0.01) == 3
    assert seeds_needed(1.0, margin=0.01) is None
    assert power(MOST, 1.0, margin=0.01, equal=False, parts=1) < POWER
