"""Which learning rate comes next, on made-up curves."""

import dataclasses
import math

import pytest

from igpt.errors import ConfigError
from igpt.runs.rates import (
    FINETUNING_RATES,
    PRETRAINING_RATES,
    SearchResult,
    Try,
    check_rates,
    look,
)

CURVE = (0.01, 0.003, 0.001, 0.0003)


def followed(scores, kind="pretrain"):
    """Return how many rates of a made-up curve are tried, the best, and whether it turned."""
    result = SearchResult(kind=kind, settings={})
    while (standing := look(CURVE, result)).rate is not None:
        row = Try(learning_rate=standing.rate, score=scores[len(result.tries)])
        result = dataclasses.replace(result, tries=(*result.tries, row))
    return len(result.tries), standing.best and standing.best.learning_rate, standing.turned


@pytest.mark.parametrize(
    ("scores", "tried", "best", "turned"),
    [
        ([3.0, 2.0, 2.5, 1.0], 3, 0.003, True),  # the fourth is never seen
        ([2.0, 3.0, 1.0, 1.0], 2, 0.01, True),
        ([4.0, 3.0, 2.0, 1.0], 4, 0.0003, False),
        ([3.0, 2.0, 2.0, 2.1], 4, 0.003, True),  # as good is not worse, and the first is kept
        ([None, None, 2.0, 2.5], 4, 0.001, True),
        ([None, 3.0, 2.0, 1.0], 4, 0.0003, False),
        ([None, 3.0, None, 1.0], 3, 0.003, True),
    ],
)
def test_a_loss_is_followed_until_it_rises(scores, tried, best, turned):
    assert followed(scores) == (tried, best, turned)


def test_an_accuracy_is_followed_until_it_falls():
    assert followed([0.1, 0.6, 0.5, 0.9], "finetune") == (3, 0.003, True)
    assert followed([None, 0.0, 0.0, 0.2], "finetune") == (4, 0.0003, False)


def test_if_all_diverge_there_is_nothing_to_choose():
    assert followed([None] * 4) == (4, None, False)


@pytest.mark.parametrize(
    ("rates", "given_rates"),
    [
        ([], "none"),
        ([0.1, 0.1], "0.1, 0.1"),
        ([0.1, 0.3], "0.1, 0.3"),
        ([0.1, 0.0], "0.1, 0"),
        ([-0.1], "-0.1"),
        ([math.inf, 1.0], "inf, 1"),
        ([math.nan], "nan"),
    ],
)
def test_rates_that_cannot_be_searched_are_refused(rates, given_rates):
    with pytest.raises(ConfigError, match=rf"positive and descend, .*, got {given_rates}$"):
        check_rates(rates)


def test_the_paper_s_rates_descend():
    assert PRETRAINING_RATES[:4] == CURVE
    assert sorted(FINETUNING_RATES, reverse=True) == list(FINETUNING_RATES)
