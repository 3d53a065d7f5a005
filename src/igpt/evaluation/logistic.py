"""Linear probes: how far a linear map from frozen features gets in telling the classes apart.

The paper scores each layer by multinomial logistic regression, fitted with L-BFGS (Chen et al.
2020, section 2.4). `LinearProbe` is that regression; how its penalty is chosen, and what it is
then scored on, is the protocol of `igpt.evaluation.probe`.

    probe = LinearProbe(l2=1e-3).fit(features, labels)
    strong, weak = LinearProbe().fit_path(features, labels, [1e-2, 1e-4])

The optimum is that of scikit-learn's `LogisticRegression(C=1 / (l2 * records))`, or of `C=2 / (l2 *
records)` with two classes, where scikit-learn keeps only the difference of their weights: features
as they come, and a penalty on the weights as they are. The way there is another. Pooled features
of a network vary a thousand times less along some directions than along others, and it is in the
former that the classes lie; steps and tolerances in the weights themselves would see the latter
only. So L-BFGS works with features whitened along their principal axes, and what it finds is folded
back into the weights. A fit counts as converged by the gradient in the whitened variables.

Where the features come from is not decided here.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Integer
from scipy.optimize import minimize
from scipy.special import softmax
from torch import Tensor

from igpt.errors import ConfigError, DataError

Features = Float[np.ndarray, "record feature"]
Labels = Integer[np.ndarray, " label"]

PENALTIES = tuple(10.0**power for power in range(1, -12, -1))
"""Penalties to choose from, from 10 to 1e-11, as parts of the features' `total_variance`. The
strongest leave little but the differences between the class means; the weakest count for nothing
beside the smallest variances that single-precision features have."""

TOLERANCE = 1e-4
"""Of the features of a small network, with any of the penalties, the objective is then within 2e-5
nats of its minimum, and going on to 1e-6 moves the test accuracy by 0.001 at most."""

_SINGLE_FLAT = 1e-6  # what float32 can still tell of a sum over the records


class LinearProbe:
    """Multinomial logistic regression with a penalty on squared weights.

    Minimizes the mean cross entropy, in nats, plus `l2 / 2` times the sum of the squared weights;
    intercepts are not penalized. `dtype` is that of the matrix products: "float32" takes a third of
    the time, but rounding can hold its gradient just above the default; a `tolerance` of 1e-3 suits
    it. A float64 fit to features of more entries than `single_from` first goes as far as float32
    can tell, in half the time an iteration.

    Attributes:
        weight_: The weights, for the features as they came.
        intercept_: The intercepts; they sum to zero.
        classes_: The labels, ascending; any integers will do.
        iterations_: Iterations of L-BFGS; none if the start was good enough.
        objective_: The objective at these weights.
        gradient_norm_: The Euclidean norm of its gradient there, in unknowns for which its
            curvature at zero is one: half the square is about what is left to gain, whatever the
            scale of the features.
        converged_: Whether that is at most `tolerance`.
    """

    weight_: Float64[np.ndarray, "class feature"]
    intercept_: Float64[np.ndarray, " class"]
    classes_: Integer[np.ndarray, " class"]
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

    def fit(
        self, features: Features, labels: Labels, *, start: "LinearProbe | None" = None
    ) -> "LinearProbe":
        """Return this probe, fitted.

        Args:
            features: One row a record.
            labels: One a record.
            start: A fitted probe to start from; weights of classes it lacks start at zero.

        Raises:
            ConfigError: `l2` is not positive.
            DataError: The features are not finite, the labels do not fit them or are all the
                same, or `start` was fitted on other features.
        """
        axes = self._axes(features, labels, [self.l2], start)
        return self._fit(axes, labels, start)

    def fit_path(
        self,
        features: Features,
        labels: Labels,
        penalties: Sequence[float],
        *,
        start: "LinearProbe | None" = None,
    ) -> "Iterator[LinearProbe]":
        """Yield a probe for each penalty, set like this one, from the strongest to the weakest.

        Each is fitted when it is asked for. It starts from the one before, and all share what is
        worked out from the features, so that several cost little more than the last alone.
        Arguments and errors as in `fit`.
        """
        axes = self._axes(features, labels, penalties, start)

        def fitted() -> "Iterator[LinearProbe]":
            before = start
            for l2 in sorted(set(penalties), reverse=True):
                probe = copy.copy(self)
                probe.l2 = l2
                before = probe._fit(axes, labels, before)
                yield before

        return fitted()

    def _axes(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        penalties: Sequence[float],
        start: "LinearProbe | None",
    ) -> "_Axes":
        """Return what fits to these features share, once all of it is known to be in order."""
        for l2 in penalties:
            if not 0 < l2 < np.inf:
                raise ConfigError(
                    f"l2 must be positive and finite, got {l2}; try 1e-11 for next to none"
                )
        check_records(features, labels, classes=2)
        if start is not None:
            check_width(features, start.weight_.shape[1:])
        return _Axes(features, self.dtype, self.device, self.single_from)

    def _fit(self, axes: "_Axes", labels: np.ndarray, start: "LinearProbe | None") -> "LinearProbe":
        classes, targets = np.unique(labels, return_inverse=True)
        weight = np.zeros((len(classes), len(axes.mean)))
        intercept = np.zeros(len(classes))
        if start is not None:
            _, here, there = np.intersect1d(classes, start.classes_, return_indices=True)
            weight[here], intercept[here] = start.weight_[there], start.intercept_[there]

        objective = _Objective(axes, targets, len(classes), self.l2)
        point = objective.point(weight, intercept)
        left = self.max_iterations
        if axes.single is not None:
            objective.rows = axes.single
            point, left = _go_down(
                objective, point, tolerance=self.tolerance, iterations=left, flat=_SINGLE_FLAT
            )
            objective.rows = axes.rows
        value, _ = objective(point)
        before = np.inf
        # L-BFGS gives up where rounding defeats a line search; a fresh start may yet go on.
        while objective.gradient_norm > self.tolerance and left > 0 and value < before:
            before = value
            point, left = _go_down(objective, point, tolerance=self.tolerance, iterations=left)
            value, _ = objective(point)

        self.classes_ = classes
        self.weight_, self.intercept_ = objective.weights(point)
        self.iterations_ = self.max_iterations - left
        self.objective_ = value
        self.gradient_norm_ = objective.gradient_norm
        self.converged_ = self.gradient_norm_ <= self.tolerance
        return self

    def decision_function(self, features: Features) -> Float[np.ndarray, "record class"]:
        """Return the logits of each class, in the order of `classes_`."""
        check_width(features, self.weight_.shape[1:])
        return features @ self.weight_.T + self.intercept_

    def predict_proba(self, features: Features) -> Float[np.ndarray, "record class"]:
        """Return the probability of each class, in the order of `classes_`."""
        return softmax(self.decision_function(features), axis=1)

    def predict(self, features: Features) -> Integer[np.ndarray, " record"]:
        """Return the likeliest label of each record."""
        return self.classes_[self.decision_function(features).argmax(axis=1)]

    def score(self, features: Features, labels: Labels) -> float:
        """Return the share of the records whose label is the likeliest one."""
        check_records(features, labels)
        return float((self.predict(features) == labels).mean())


def _go_down(
    objective: "_Objective",
    point: np.ndarray,
    *,
    tolerance: float,
    iterations: int,
    flat: float = 0.0,
) -> tuple[np.ndarray, int]:
    """Return where L-BFGS comes to, and how many of the iterations are left.

    It stops at a gradient of `tolerance`, or at an iteration that gains less than the `flat` part
    of the objective.
    """

    def stop_when_converged(point: np.ndarray) -> None:  # just evaluated there
        if objective.gradient_norm <= tolerance:
            raise StopIteration

    options = {
        "maxiter": iterations, "maxfun": 30 * iterations, "maxcor": 20, "ftol": flat, "gtol": 0,
    }  # fmt: skip
    end = minimize(
        objective, point, jac=True, method="L-BFGS-B",
        callback=stop_when_converged, options=options,
    )  # fmt: skip
    return end.x, iterations - end.nit


class _Axes:
    """Centered features along their principal axes, which fits with different penalties share.

    A rotation leaves the sum of the squared weights as it is. It is worked out in float64 and only
    then rounded, so that small variances are not lost beside large ones.
    """

    def __init__(self, features: np.ndarray, dtype: str, device: str, single_from: int) -> None:
        contiguous = np.ascontiguousarray(features)
        centered = torch.tensor(contiguous, dtype=torch.float64, device=device)  # a copy
        self.mean = centered.mean(dim=0)
        centered -= self.mean
        records, width = centered.shape
        if records < width:
            _, scales, rotation = torch.linalg.svd(centered, full_matrices=False)
            variances = scales.square() / records
            self.rotation = rotation.T  # (feature, axis); no weight lies outside of these axes
        else:
            variances, self.rotation = torch.linalg.eigh(centered.T @ centered / records)
        # along the others nothing is left but rounding; three equal channels have two thirds such
        real = variances > width * torch.finfo(torch.float64).eps * variances.max()
        self.variances, self.rotation = variances[real], self.rotation[:, real]
        rows = centered @ self.rotation
        self.rows = rows.to(getattr(torch, dtype))  # (record, axis)
        self.single = None
        if dtype == "float64" and rows.numel() > single_from:
            self.single = rows.float()


class _Objective:
    """The objective and its gradient, in unknowns for which its curvature is about one.

    At zero, the curvature in the weight of a class along an axis is (nearly) the variance there
    over the number of classes, plus the penalty. Centered features leave the intercepts out of it.
    """

    def __init__(self, axes: _Axes, targets: np.ndarray, classes: int, l2: float) -> None:
        self.axes, self.classes, self.l2 = axes, classes, l2
        self.rows = axes.rows  # of either precision
        self.device = self.rows.device
        records = torch.arange(len(targets), device=self.device)
        self.right = (records, torch.as_tensor(targets, device=self.device))
        self.scale = (axes.variances / classes + l2).rsqrt()  # weight a unit of the unknown
        self.gradient_norm = np.inf  # where last evaluated

    def point(self, weight: np.ndarray, intercept: np.ndarray) -> np.ndarray:
        """Return the unknowns, (class * (axis + 1),), at these weights and intercepts."""
        weights = torch.tensor(weight, device=self.device)
        levels = torch.tensor(intercept, device=self.device) + weights @ self.axes.mean
        unknowns = [weights @ self.axes.rotation / self.scale, levels[:, None] / self.classes**0.5]
        return torch.cat(unknowns, dim=1).flatten().cpu().numpy()

    def weights(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weights, (class, feature), and intercepts, (class,), at `point`."""
        along, levels = self._weights_and_levels(point)
        weights = along @ self.axes.rotation.T
        return weights.cpu().numpy(), (levels - weights @ self.axes.mean).cpu().numpy()

    def _weights_and_levels(self, point: np.ndarray) -> tuple[Tensor, Tensor]:
        unknowns = torch.tensor(point, device=self.device).unflatten(0, (self.classes, -1))
        return unknowns[:, :-1] * self.scale, unknowns[:, -1] * self.classes**0.5

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        rows = self.rows  # (record, axis)
        weights, levels = self._weights_and_levels(point)
        logits = torch.addmm(levels.to(rows.dtype), rows, weights.to(rows.dtype).T)
        log_probabilities = logits.log_softmax(dim=1)  # (record, class)
        loss = -log_probabilities[self.right].mean(dtype=torch.float64)
        value = loss + self.l2 / 2 * weights.square().sum()

        errors = log_probabilities.exp_()
        errors[self.right] -= 1
        slope = _product(errors, rows).double() / len(rows) + self.l2 * weights
        level_slope = errors.mean(dim=0, dtype=torch.float64)
        gradient = [slope * self.scale, level_slope[:, None] * self.classes**0.5]
        flat = torch.cat(gradient, dim=1).flatten()
        self.gradient_norm = flat.norm().item()
        return value.item(), flat.cpu().numpy()


def _product(
    errors: Float[Tensor, "record class"], rows: Float[Tensor, "record feature"]
) -> Float[Tensor, "class feature"]:
    """Return `errors.T @ rows`, in some 64 parts.

    MKL is slow where few columns meet many records; parts take it half as long.
    """
    size = max(1024, len(rows) // 64)
    whole = len(rows) // size * size
    parts = errors[:whole].unflatten(0, (-1, size)).mT @ rows[:whole].unflatten(0, (-1, size))
    return parts.sum(dim=0) + errors[whole:].T @ rows[whole:]


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
    if len(features) != len(labels):
        raise DataError(
            f"features and labels must be of the same records, got {len(features)} rows of "
            f"features and {len(labels)} labels; were they read from the same split?"
        )
    broken = np.concatenate(
        [
            first + _not_finite(features[first : first + 4096])
            for first in range(0, len(features), 4096)
        ]
        or [np.array([], dtype=np.int64)]
    )  # in parts, as they may lie on disk
    if len(broken):
        raise DataError(
            f"features must be finite, but those of {len(broken)} of {len(features)} records are "
            f"not, record {broken[0]} the first of them; compute them again in float32"
        )
    if classes and len(known := np.unique(labels)) < classes:
        raise DataError(
            f"a probe needs records of {classes} classes or more, got labels {known.tolist()}; "
            "draw more records"
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
