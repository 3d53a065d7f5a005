"""Descent: how the optimum of a linear probe is found.

    axes = Axes(features, dtype="float64", device="cpu", single_from=2**22)
    found = descend(axes, targets, classes, l2=1e-3, start=(weight, intercept), ...)

Pooled features of a network vary a thousand times less along some directions than along others, and
it is in the former that the classes lie; steps and tolerances in the weights themselves would see
the latter only. So L-BFGS works with features whitened along their principal axes, and what it
finds is folded back into the weights. A fit counts as converged by the gradient in the whitened
variables. What is minimized, and for whom, is said in `igpt.evaluation.logistic`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from scipy.optimize import minimize
from torch import Tensor

_SINGLE_FLAT = 1e-6  # what float32 can still tell of a sum over the records


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """Where a descent came to an end; `LinearProbe` tells what the figures mean."""

    weight: Float64[np.ndarray, "class feature"]
    intercept: Float64[np.ndarray, " class"]
    iterations: int
    objective: float
    gradient_norm: float


def descend(
    axes: "Axes",
    targets: Int64[np.ndarray, " record"],
    classes: int,
    *,
    l2: float,
    start: tuple[np.ndarray, np.ndarray],
    tolerance: float,
    max_iterations: int,
) -> Optimum:
    """Return where L-BFGS comes to from the weights and intercepts of `start`.

    Args:
        axes: Of the features.
        targets: The number of each record's class.
        classes: How many there are.
        l2: The penalty.
        start: Weights, (class, feature), and intercepts, (class,).
        tolerance: Of the gradient.
        max_iterations: In both precisions together.
    """
    objective = _Objective(axes, targets, classes, l2)
    point = objective.point(*start)
    left = max_iterations
    if axes.single is not None:
        objective.rows = axes.single
        point, left = _go_down(
            objective, point, tolerance=tolerance, iterations=left, flat=_SINGLE_FLAT
        )
        objective.rows = axes.rows
    value, _ = objective(point)
    before = np.inf
    # L-BFGS gives up where rounding defeats a line search; a fresh start may yet go on.
    while objective.gradient_norm > tolerance and left > 0 and value < before:
        before = value
        point, left = _go_down(objective, point, tolerance=tolerance, iterations=left)
        value, _ = objective(point)
    weight, intercept = objective.weights(point)
    return Optimum(
        weight=weight,
        intercept=intercept,
        iterations=max_iterations - left,
        objective=value,
        gradient_norm=objective.gradient_norm,
    )


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


class Axes:
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

    def __init__(self, axes: Axes, targets: np.ndarray, classes: int, l2: float) -> None:
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
