"""Choosing a setting by how accurate each of a row of them is on records held out.

Settings are in an order in which the accuracy rises to a best one and falls, up to chance. What
they are settings of is not known here.
"""

from collections.abc import Sequence

import numpy as np


def turned(accuracies: Sequence[float], records: int) -> bool:
    """Return whether the last accuracy is below the best by more than the best's standard error.

    With fewer than 400 records accuracies go up and down before they rise, and no end is seen.

    Args:
        accuracies: So far, in the order of the settings.
        records: That each was measured on.
    """
    best = max(accuracies)
    return records >= 400 and accuracies[-1] < best - (best * (1 - best) / records) ** 0.5


def at_edge(accuracies: Sequence[float], settings: int) -> bool:
    """Return whether a setting beyond those there are might be better than the first of the best.

    So it is where that is an end of the row, and better than the setting beside it.

    Args:
        accuracies: Of the settings that were tried, from the first on.
        settings: How many there are.
    """
    best = int(np.argmax(accuracies))
    beside = {0: 1, settings - 1: settings - 2}.get(best)
    return settings > 1 and beside is not None and accuracies[beside] < accuracies[best]


def doubts(*, converged: bool | None, edge: bool | None) -> tuple[str, ...]:
    """Return why an accuracy may be too low, in words; nothing where nothing speaks for it.

    Args:
        converged: Whether the fits did; None where that is not known.
        edge: Whether the setting is `at_edge`; None where that is not known.
    """
    known = {"did not converge": converged is False, "at the edge of its grid": edge}
    return tuple(words for words, true in known.items() if true)
