"""Cheap checks of features, beside logistic regression: ridge regression and nearest neighbors.

Ridge regression on one-hot classes has a closed form, and neighbors need no fitting at all, so both
say in seconds what a layer is worth; their ranking of the layers is to be compared with that of
`igpt.evaluation.logistic`, which is the paper's. The solvers are scikit-learn's; the protocol
is the same as there: a setting is chosen on validation records, the fit repeated on train and
validation together, and the test records scored once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from igpt.errors import ConfigError
from igpt.evaluation.logistic import Records, check_records

RIDGE_PENALTIES = (1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Of the mean squared error plus the penalty times the sum of squared weights."""

NEIGHBORS = (1, 5, 10, 20, 50, 100)
"""Numbers of neighbors to choose from."""


@dataclass(frozen=True, kw_only=True)
class CheapResult:
    """What a cheap probe found."""

    setting: float
    """The chosen penalty, or number of neighbors."""
    validation_accuracy: float
    """With it, fitted on the training records alone."""
    test_accuracy: float
    """Of the fit on training and validation records together."""
    validation_accuracies: dict[float, float]
    """By setting, in the order they were tried."""


def ridge_probe(
    train: Records,
    validation: Records,
    test: Records,
    *,
    penalties: Sequence[float] = RIDGE_PENALTIES,
) -> CheapResult:
    """Return the accuracy of least squares on one-hot classes with a penalty on the weights.

    Of the penalties, the strongest of equals is chosen.

    Raises:
        ConfigError: There is no penalty, or one is not positive.
        DataError: Features and labels do not fit together, or are not finite.
    """
    if not all(0 < penalty < np.inf for penalty in penalties):
        raise ConfigError(f"a ridge penalty is positive and finite, got {list(penalties)}")

    def ridge(penalty: float, records: int) -> Any:
        # one-hot classes as -1 and 1; scikit-learn's objective is a sum over records, ours a mean
        return RidgeClassifier(alpha=penalty * records, solver="cholesky")

    return _choose(ridge, sorted(set(penalties), reverse=True), train, validation, test)


def neighbors_probe(
    train: Records,
    validation: Records,
    test: Records,
    *,
    neighbors: Sequence[int] | None = None,
) -> CheapResult:
    """Return the accuracy of the commonest class among the nearest training records.

    Near is by the cosine between features whose mean over the training records is zero and whose
    standard deviation is one; the raw features of different images all point the same way.
    Numbers to choose from are by default those of `NEIGHBORS` that the records allow.

    Raises:
        ConfigError: There is no number of neighbors, or one is under 1 or over the records.
        DataError: Features and labels do not fit together, or are not finite.
    """
    if neighbors is None:
        neighbors = [count for count in NEIGHBORS if count <= len(train[0])]
    if not all(1 <= count <= len(train[0]) for count in neighbors):
        raise ConfigError(
            f"neighbors must lie between 1 and the {len(train[0])} training records, "
            f"got {list(neighbors)}"
        )

    def nearest(count: float, _: int) -> Any:
        vote = KNeighborsClassifier(int(count), metric="cosine", algorithm="brute")
        return make_pipeline(StandardScaler(), vote)

    return _choose(nearest, [float(count) for count in neighbors], train, validation, test)


def _choose(
    build: Callable[[float, int], Any],
    settings: Sequence[float],
    train: Records,
    validation: Records,
    test: Records,
) -> CheapResult:
    if not settings:
        raise ConfigError("a probe needs a setting or more to choose from, got none")
    for number, records in enumerate((train, validation, test)):
        check_records(*records, classes=0 if number else 2)
    accuracies = {
        setting: float(build(setting, len(train[0])).fit(*train).score(*validation))
        for setting in settings
    }
    chosen = max(settings, key=lambda setting: accuracies[setting])  # the first of equals
    features = np.concatenate([train[0], validation[0]])
    labels = np.concatenate([train[1], validation[1]])
    refit = build(chosen, len(features)).fit(features, labels)
    return CheapResult(
        setting=chosen,
        validation_accuracy=accuracies[chosen],
        test_accuracy=float(refit.score(*test)),
        validation_accuracies=accuracies,
    )
