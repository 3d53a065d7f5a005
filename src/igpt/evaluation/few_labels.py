"""Few labels: what a handful of labelled images a class teaches a linear probe.

The paper's low-data protocol (Chen et al. 2020, section 4.7): random subsets with as many images of
each class, logistic regression on frozen features, mean and standard deviation over the subsets of
the accuracy on the whole test split.

    result = few_labels_accuracy(train, test, labels_per_class=4)   # each (features, labels)
    result.mean, result.standard_deviation

No other label is used: the penalty is chosen by cross-validation within each subset. Which layer's
features come in is the caller's choice, and to be told with the result.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer
from sklearn.model_selection import StratifiedKFold

from igpt.errors import ConfigError, DataError
from igpt.evaluation.logistic import LinearProbe, Records, fit_path
from igpt.randomness import Stream, stream, stream_seed

PENALTIES = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Penalties to choose from: the fewer the labels, the stronger they have to be."""

_FOLDS = 4


@dataclass(frozen=True, kw_only=True)
class FewLabels:
    """Accuracies on the test records, one a subset."""

    labels_per_class: int
    accuracies: tuple[float, ...]
    penalties: tuple[float, ...]
    """The penalty that cross-validation chose in each subset."""
    converged: bool
    """Whether every reported probe converged."""

    @property
    def mean(self) -> float:
        """Over the subsets."""
        return statistics.fmean(self.accuracies)

    @property
    def standard_deviation(self) -> float | None:
        """Over the subsets, of a sample (n - 1); None for a single one."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None


def balanced_subset(
    labels: Integer[np.ndarray, " record"], labels_per_class: int, *, seed: int, subset: int = 0
) -> Int64[np.ndarray, " chosen"]:
    """Return the numbers of `labels_per_class` records of every class, drawn without repeats.

    A pure function of its arguments; records of one class are in the order they were drawn.

    Raises:
        ConfigError: `labels_per_class` is under 1.
        DataError: A class has fewer records.
    """
    if labels_per_class < 1:
        raise ConfigError(f"labels_per_class must be at least 1, got {labels_per_class}")
    generator = stream(Stream.SUBSETS, seed, subset, labels_per_class)
    chosen = []
    for label in np.unique(labels):
        records = np.flatnonzero(labels == label)
        if len(records) < labels_per_class:
            raise DataError(
                f"{labels_per_class} labels a class are wanted, but class {label} has "
                f"{len(records)} images; ask for {len(records)} or fewer"
            )
        chosen.append(generator.permutation(records)[:labels_per_class])
    return np.concatenate(chosen)


def few_labels_accuracy(
    train: Records,
    test: Records,
    *,
    labels_per_class: int,
    subsets: int = 5,
    seed: int = 0,
    penalties: Sequence[float] = PENALTIES,
) -> FewLabels:
    """Return the test accuracy of probes on random subsets of the training records.

    Args:
        train: Features and labels to draw from.
        test: Features and labels that every probe is scored on.
        labels_per_class: Records of each class in a subset.
        subsets: How many are drawn.
        seed: The same seed draws the same subsets.
        penalties: Chosen from by stratified cross-validation within the subset; with a single
            label a class, where that cannot be, the strongest is taken.

    Raises:
        ConfigError: A number under 1, or no penalty.
        DataError: A class has too few records, or features and labels do not fit together.
    """
    if subsets < 1 or not penalties:
        raise ConfigError(
            f"there must be a subset and a penalty, got {subsets} and {len(penalties)}"
        )
    accuracies, chosen, converged = [], [], True
    for subset in range(subsets):
        part = balanced_subset(train[1], labels_per_class, seed=seed, subset=subset)
        features, labels = train[0][part], train[1][part]
        l2 = _choose_penalty(features, labels, penalties, labels_per_class, seed=seed)
        probe = LinearProbe(l2).fit(features, labels)
        accuracies.append(probe.score(*test))
        chosen.append(l2)
        converged &= probe.converged_
    return FewLabels(
        labels_per_class=labels_per_class,
        accuracies=tuple(accuracies),
        penalties=tuple(chosen),
        converged=converged,
    )


def _choose_penalty(
    features: np.ndarray,
    labels: np.ndarray,
    penalties: Sequence[float],
    labels_per_class: int,
    *,
    seed: int,
) -> float:
    """Return the penalty best in cross-validation; of equals, the strongest."""
    ordered = sorted(set(penalties), reverse=True)
    if labels_per_class == 1:
        return ordered[0]
    folds = StratifiedKFold(
        min(_FOLDS, labels_per_class), shuffle=True,
        random_state=stream_seed(Stream.FOLDS, seed, bits=32),
    )  # fmt: skip
    right = np.zeros(len(ordered))
    for fitted, held in folds.split(features, labels):
        path = fit_path(features[fitted], labels[fitted], ordered, tolerance=1e-4)
        for place, probe in enumerate(path):
            right[place] += (probe.predict(features[held]) == labels[held]).sum()
    return ordered[int(right.argmax())]
