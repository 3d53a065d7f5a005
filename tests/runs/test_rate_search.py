import math

import pytest

from igpt.errors import ConfigError
from igpt.runs.rate_search import (
    FINETUNING_RATES,
    PRETRAINING_RATES,
    check_rates,
    search_rates,
)
from igpt.training.loop import TrainingDiverged

RATES = (0.01, 0.003, 0.001, 0.0003)


def search(scores, **options):
    """Search a made-up curve; None is a training that diverges."""
    seen = []

    def score_of(rate):
        seen.append(rate)
        score = scores[len(seen) - 1]
        if score is None:
            raise TrainingDiverged("the loss is nan")
        return score

    found = search_rates(RATES, score_of, **options)
    assert [attempt.rate for attempt in found.tries] == seen
    return [attempt.score for attempt in found.tries], found.best.rate, found.turned


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
        ([math.nan, math.inf, 9.0, 9.5], 4, 0.001, True),
    ],
)
def test_a_loss_is_followed_until_it_rises(scores, tried, best, turned):
    told, rate, ended = search(scores)
    finite = [None if s is None or not math.isfinite(s) else s for s in scores[:tried]]
    assert (told, rate, ended) == (finite, best, turned)


def test_an_accuracy_is_followed_until_it_falls():
    assert search([0.1, 0.6, 0.5, 0.9], rising=True) == ([0.1, 0.6, 0.5], 0.003, True)
    assert search([None, 0.0, 0.0, 0.2], rising=True) == ([None, 0.0, 0.0, 0.2], 0.0003, False)


def test_one_rate_is_a_search_too():
    assert search_rates([0.1], lambda rate: 1.0).best.rate == 0.1


def test_if_all_diverge_there_is_nothing_to_choose():
    with pytest.raises(TrainingDiverged, match=r"at every learning rate, 0\.01 to 0\.0003; search"):
        search([None] * 4)


@pytest.mark.parametrize(
    ("rates", "told"),
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
def test_rates_that_cannot_be_searched_are_refused(rates, told):
    with pytest.raises(ConfigError, match=rf"positive and descend, .*, got {told}$"):
        search_rates(rates, lambda rate: 1.0)


def test_the_paper_s_rates_can_be_searched():
    check_rates(PRETRAINING_RATES)
    check_rates(FINETUNING_RATES)
    assert PRETRAINING_RATES[:4] == (0.01, 0.003, 0.001, 0.0003)
