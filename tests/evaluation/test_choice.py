import pytest

from igpt.evaluation.choice import at_edge, doubts, turned


def test_accuracies_have_turned_once_one_is_a_standard_error_below_the_best():
    assert not turned([0.2], 400)
    assert not turned([0.3, 0.5, 0.48], 400)  # the standard error of 0.5 is 0.025
    assert turned([0.3, 0.5, 0.47], 400)
    assert not turned([0.3, 0.5, 0.3], 399)  # too few to tell
    assert turned([1.0, 0.99], 400)


@pytest.mark.parametrize(
    ("accuracies", "settings", "edge"),
    [
        ([0.5, 0.6, 0.5], 3, False),
        ([0.6, 0.5, 0.4], 3, True),
        ([0.4, 0.5, 0.6], 3, True),
        ([0.6, 0.6, 0.5], 3, False),  # the one beside it does as well
        ([0.4, 0.6, 0.6], 3, False),
        ([0.4, 0.6, 0.5], 9, False),  # the others were not tried
        ([0.6], 1, False),
    ],
)
def test_the_edge_is_where_a_setting_further_on_might_be_better(accuracies, settings, edge):
    assert at_edge(accuracies, settings) is edge


def test_doubts_are_said_of_what_is_known():
    assert doubts(converged=None, edge=None) == doubts(converged=True, edge=False) == ()
    assert doubts(converged=False, edge=True) == ("did not converge", "at the edge of its grid")
