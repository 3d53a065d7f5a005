"""Linear probes: how far a linear map from frozen features gets in telling the classes apart.

The paper scores each layer by multinomial logistic regression, fitted with L-BFGS (Chen et al.
2020, section 2.4). `LinearProbe` is that regression; how its penalty is chosen, and what it is
then scored on, is the protocol of `igpt.evaluation.probe`.

    probe = LinearProbe(l2=1e-3).fit(features, labels)
    strong, weak = LinearProbe().fit_path(features, labels, [1e-2, 1e-4])

It is a classifier of scikit-learn's kind, at home in a `Pipeline` or a `GridSearchCV`; beside
networks' features it takes any table of numbers, and labels of any kind.

The optimum is that of scikit-learn's `LogisticRegression(C=1 / (l2 * records))`, or of `C=2 / (l2 *
records)` with two classes, where scikit-learn keeps only the difference of their weights: features
as they come, and a penalty on the weights as they are. The way there is another,
`igpt.evaluation.descent`'s.

Where the features come from is not decided here.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64, Int64, Num, Shaped
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_is_fitted,
    validate_data,  # pyrefly: ignore[missing-module-attribute]
)

from igpt.errors import ConfigError, DataError
from igpt.evaluation.descent import Axes, descend

PENALTIES = tuple(10.0**power for power in range(1, -12, -1))
"""Penalties to choose from, from 10 to 1e-11, as parts of the features' `total_variance`. The
strongest leave little but the differences between the class means; the weakest count for nothing
beside the smallest variances that single-precision features have."""

TOLERANCE = 1e-4
"""Of the features of a small network, with any of the penalties, the objective is then within 2e-5
nats of its minimum, and going on to 1e-6 moves the test accuracy by 0.001 at most."""


class LinearProbe(ClassifierMixin, BaseEstimator):
    """Multinomial logistic regression with a penalty on squared weights.

    Minimizes the mean cross entropy, in nats, plus `l2 / 2` times the sum of the squared weights;
    intercepts are not penalized. `dtype` is that of the matrix products: "float32" takes a third of
    the time, but rounding can hold its gradient just above the default; a `tolerance` of 1e-3 suits
    it. A float64 fit to features of more entries than `single_from` first goes as far as float32
    can tell, in half the time an iteration.

    What scikit-learn calls `X` is a row of features for each record, (record, feature): an array, a
    data frame or the like; `y` is a label a record, of integers, texts or whatever can be sorted.

    Attributes:
        weight_: The weights, for the features as they came.
        intercept_: The intercepts; they sum to zero.
        classes_: The labels, ascending.
        n_features_in_: How many features a record has.
        feature_names_in_: Their names, if they came in a data frame.
        iterations_: Iterations of L-BFGS; none if the start was good enough.
        objective_: The objective at these weights.
        gradient_norm_: The Euclidean norm of its gradient there, in unknowns for which its
            curvature at zero is one: half the square is about what is left to gain, whatever the
            scale of the features.
        converged_: Whether that is at most `tolerance`.
    """

    weight_: Float64[np.ndarray, "class feature"]
    intercept_: Float64[np.ndarray, " class"]
    classes_: Shaped[np.ndarray, " class"]
    n_features_in_: int
    iterations_: int
    objective_: float
    gradient_norm_: float
    converged_: bool

    def __init__(
        self,
        l2: float = 1e-3,
        *,
        tolerance: float = TOLERANCE,
        max_iterations: int = 1000,
        dtype: Literal["float64", "float32"] = "float64",
        device: str = "cpu",
        single_from: int = 2**22,
    ) -> None:
        self.l2 = l2
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.dtype = dtype
        self.device = device
        self.single_from = single_from

    def fit(self, X: Any, y: Any, *, start: "LinearProbe | None" = None) -> "LinearProbe":
        """Return this probe, fitted.

        Args:
            X: One row of features a record.
            y: One label a record.
            start: A fitted probe to start from; weights of classes it lacks start at zero.

        Raises:
            ConfigError: `l2` or another setting cannot be.
            DataError: The features are no table of finite numbers, the labels do not fit them or
                are all the same, or `start` was fitted on other features.
        """
        axes, labels = self._axes(X, y, [self.l2], start)
        return self._fit(axes, labels, start)

    def fit_path(
        self,
        X: Any,
        y: Any,
        penalties: Sequence[float],
        *,
        start: "LinearProbe | None" = None,
    ) -> "Iterator[LinearProbe]":
        """Yield a probe for each penalty, set like this one, from the strongest to the weakest.

        Each is fitted when it is asked for. It starts from the one before, and all share what is
        worked out from the features, so that several cost little more than the last alone.
        Arguments and errors as in `fit`.
        """
        unfitted = clone(self)
        axes, labels = unfitted._axes(X, y, penalties, start)

        def fitted() -> "Iterator[LinearProbe]":
            before = start
            for l2 in sorted(set(penalties), reverse=True):
                probe = copy.copy(unfitted)
                probe.l2 = l2
                before = probe._fit(axes, labels, before)
                yield before

        return fitted()

    def _axes(
        self, X: Any, y: Any, penalties: Sequence[float], start: "LinearProbe | None"
    ) -> tuple[Axes, np.ndarray]:
        """Return what fits to these features share, and the labels, once all is in order."""
        self._check_settings(penalties)
        features = self._checked(X, reset=True)
        with _told():
            labels = column_or_1d(y, warn=True)
            if labels.dtype.kind not in "biuUS":  # of which some might be no classes
                assert_all_finite(labels, input_name="y")
                check_classification_targets(labels)
        check_records(features, labels, classes=2)
        if start is not None:
            check_width(features, start.weight_.shape[1:])
        return Axes(features, self.dtype, self.device, self.single_from), labels

    def _check_settings(self, penalties: Sequence[float]) -> None:
        for l2 in penalties:
            if not 0 < l2 < np.inf:
                raise ConfigError(
                    f"l2 must be positive and finite, got {l2}; try 1e-11 for next to none"
                )
        if not self.tolerance > 0:
            raise ConfigError(f"tolerance must be positive, got {self.tolerance}; try {TOLERANCE}")
        if self.dtype not in ("float64", "float32"):
            raise ConfigError(f"dtype must be 'float64' or 'float32', got {self.dtype!r}")

    def _checked(self, X: Any, *, reset: bool) -> Num[np.ndarray, "record feature"]:
        """Return the features as an array, as many as the probe is for unless that is `reset`.

        They may lie on disk, and stay there; whether all are finite is not looked at.
        """
        with _told():
            return validate_data(
                self, X, reset=reset, ensure_all_finite=False, ensure_min_samples=0
            )

    def _fit(self, axes: Axes, labels: np.ndarray, start: "LinearProbe | None") -> "LinearProbe":
        classes, targets = np.unique(labels, return_inverse=True)
        weight = np.zeros((len(classes), len(axes.mean)))
        intercept = np.zeros(len(classes))
        if start is not None:
            _, here, there = np.intersect1d(classes, start.classes_, return_indices=True)
            weight[here], intercept[here] = start.weight_[there], start.intercept_[there]

        found = descend(
            axes, targets, len(classes), l2=self.l2, start=(weight, intercept),
            tolerance=self.tolerance, max_iterations=self.max_iterations,
        )  # fmt: skip
        self.classes_ = classes
        self.weight_, self.intercept_ = found.weight, found.intercept
        self.iterations_ = found.iterations
        self.objective_ = found.objective
        self.gradient_norm_ = found.gradient_norm
        self.converged_ = self.gradient_norm_ <= self.tolerance
        return self

    def logits(self, X: Any) -> Float[np.ndarray, "record class"]:
        """Return the logits of each class, in the order of `classes_`.

        Raises:
            DataError: The features are not as many as the probe is for, or not finite.
            sklearn.exceptions.NotFittedError: The probe is not fitted.
        """
        check_is_fitted(self)
        features = self._checked(X, reset=False)
        _check_finite(features)
        return features @ self.weight_.T + self.intercept_

    def decision_function(self, X: Any) -> Float[np.ndarray, "record *class"]:
        """Return what scikit-learn's metrics go by: the logits, (record, class).

        Of two classes it is by how much that of the second is larger, (record).
        """
        logits = self.logits(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> Float[np.ndarray, "record class"]:
        """Return the probability of each class, in the order of `classes_`."""
        return softmax(self.logits(X), axis=1)

    def predict(self, X: Any) -> Shaped[np.ndarray, " record"]:
        """Return the likeliest label of each record."""
        likeliest = self.logits(X).argmax(axis=1)
        return self.classes_[likeliest]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of the records, or of their weight, whose label is the likeliest one."""
        predicted, labels = self.predict(X), np.asarray(y)
        _check_same_records(predicted, labels)
        return float(np.average(predicted == labels, weights=sample_weight))


@contextmanager
def _told() -> Iterator[None]:
    """Let what scikit-learn refuses be an error of ours, in a line."""
    try:
        yield
    except ValueError as error:
        raise DataError(" ".join(str(error).split())) from error


def total_variance(
    features: Float[np.ndarray, "record *layer feature"],
) -> Float64[np.ndarray, "*layer"]:
    """Return the sum of the features' variances, of each layer; 1 where nothing varies."""
    total = features.var(axis=0, dtype=np.float64).sum(axis=-1)
    return np.where(total > 0, total, 1.0)


def check_records(features: np.ndarray, labels: np.ndarray, *, classes: int = 0) -> None:
    """Check that features and labels are of the same records, finite, and of enough classes.

    Args:
        features: One entry a record, of any shape.
        labels: One a record.
        classes: How many different labels there have to be.

    Raises:
        DataError: They are not.
    """
    _check_same_records(features, labels)
    _check_finite(features)
    if classes and (count := len(known := np.unique(labels))) < classes:
        raise DataError(
            f"a probe needs records of {classes} classes or more, got labels {known.tolist()}, "
            f"{count} class{'es' if count != 1 else ''}; draw more records"
        )


def _check_same_records(features: np.ndarray, labels: np.ndarray) -> None:
    if len(features) != len(labels):
        raise DataError(
            f"features and labels must be of the same records, got {len(features)} rows of "
            f"features and {len(labels)} labels; were they read from the same split?"
        )


def _check_finite(features: np.ndarray) -> None:
    broken = np.concatenate(
        [
            first + _not_finite(features[first : first + 4096])
            for first in range(0, len(features), 4096)
        ]
        or [np.array([], dtype=np.int64)]
    )  # in parts, as they may lie on disk
    if len(broken):
        raise DataError(
            f"features must be finite, no NaN or infinity, but those of {len(broken)} of "
            f"{len(features)} records are not, record {broken[0]} the first of them; compute them "
            "again in float32"
        )


def _not_finite(features: np.ndarray) -> Int64[np.ndarray, " broken"]:
    return np.flatnonzero(~np.isfinite(features).all(axis=tuple(range(1, features.ndim))))


def check_width(features: np.ndarray, wanted: tuple[int, ...]) -> None:
    """Check that each record has features of the shape that a probe is for.

    Raises:
        DataError: It has others.
    """
    if features.shape[1:] != wanted:
        ours, theirs = (" x ".join(map(str, shape)) for shape in (wanted, features.shape[1:]))
        raise DataError(
            f"the probe is for {ours} features, but these records have {theirs}; take both from "
            "the same layers of the same model"
        )
