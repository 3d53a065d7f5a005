"""How the best size grows with compute, fitted to losses of several sizes at equal operations.

    fit = fit_isoflops(points)
    fit.exponent, fit.at(1e18)

At each budget of operations the loss is a parabola in the logarithm of the number of weights, whose
lowest point is that budget's best size; a line through these, in logarithms, says how the best size
grows (Hoffmann et al. 2022, "Training compute-optimal large language models", approach 2). Unlike
there, all budgets' parabolas are curved alike: a handful of sizes, each trained once, does not tell
curvatures apart, and where they are free the best size goes with the noise. (Where losses level
off, so do the parabolas: by the law of tests/test_scaling.py a power of one half comes out 0.04
lower.) How sure that is comes from a bootstrap: the parabolas' residuals, drawn anew and as large
as they would be had nothing been fitted to them, are added to the parabolas, and all is fitted
again.

Only NumPy and numbers here; `benchmarks/scaling.py` trains the networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import curve_fit

from igpt.errors import ConfigError

_FEWEST = 4
"""Sizes at a budget: a parabola goes through any three."""
_LEVEL = 95.0


@dataclass(frozen=True, kw_only=True)
class Point:
    """A training: its budget, its size and what it came to."""

    flops: float
    weights: int
    """That are multiplied: those of blocks and color head."""
    tokens: float
    """That it learned from."""
    loss: float
    """Nats per pixel on images held out."""


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """A number and the ends of its 95 % interval; None where nothing could be fitted."""

    value: float | None
    low: float | None
    high: float | None

    def text(self, form: str) -> str:
        """Return it in words."""
        value, low, high = (
            "?" if number is None else form.format(number)
            for number in (self.value, self.low, self.high)
        )
        return f"{value} [{low}, {high}]"


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """What is best at a budget."""

    flops: float
    weights: Estimated
    tokens: Estimated
    tokens_per_weight: Estimated
    loss: Estimated
    inside: bool
    """Whether the best size lies between the smallest and the largest that were trained."""


@dataclass(frozen=True, kw_only=True)
class IsoflopFit:
    """What is fitted to all budgets."""

    exponent: Estimated
    """The best size grows as the operations to this power."""
    optima: tuple[Optimum, ...]
    """By budget."""
    residual: float
    """Standard deviation of losses around the parabolas, in nats."""
    usable: float
    """Share of the bootstrap's fits in which parabolas have a lowest point."""
    lines: tuple[tuple[float, ...], ...]
    """Of the fit itself and then of each of the bootstrap's: slope and offset of the logarithms of
    weights by that of operations, and the same of tokens."""
    losses: tuple[tuple[float, ...], ...]
    """Of the same fits, at the best size of each budget."""

    def at(self, flops: float) -> Optimum:
        """Return what would be best at another budget, if it all went on so."""
        lines, log = np.array(self.lines), np.log(flops)
        weights = np.exp(lines[:, 0] * log + lines[:, 1])
        tokens = np.exp(lines[:, 2] * log + lines[:, 3])
        budgets = np.log([best.flops for best in self.optima])
        loss = np.array([_loss_at(log, budgets, np.array(known)) for known in self.losses])
        return Optimum(
            flops=flops, weights=_estimated(weights), tokens=_estimated(tokens),
            tokens_per_weight=_estimated(tokens / weights), loss=_estimated(loss), inside=False,
        )  # fmt: skip


def fit_isoflops(points: Sequence[Point], *, draws: int = 1000, seed: int = 0) -> IsoflopFit:
    """Return how the best size and its loss grow with the operations.

    Args:
        points: Several sizes at each of several budgets.
        draws: Of the bootstrap.
        seed: Of its random numbers.

    Raises:
        ConfigError: There are fewer than two budgets, fewer than four sizes at one, or losses have
            no lowest point or are no numbers.
    """
    if not all(np.isfinite(point.loss) for point in points):
        raise ConfigError("a fit needs losses that are numbers; leave out what diverged")
    budgets = sorted({point.flops for point in points})
    groups = [[point for point in points if point.flops == flops] for flops in budgets]
    if len(budgets) < 2 or min(map(len, groups)) < _FEWEST:
        raise ConfigError(
            f"a fit needs two budgets or more with {_FEWEST} sizes or more each, got "
            f"{[len(group) for group in groups]} sizes"
        )
    sizes = [np.log([point.weights for point in group]) for group in groups]
    tokens = [np.log([point.tokens for point in group]) for group in groups]
    losses = [np.array([point.loss for point in group]) for group in groups]
    parabolas = fit_parabolas(sizes, losses)
    if parabolas[0, 0] <= 0:
        raise ConfigError(
            "losses have no lowest point between the sizes; train smaller and larger ones too"
        )
    fitted = [np.polyval(c, size) for c, size in zip(parabolas, sizes, strict=True)]
    residuals = np.concatenate([loss - fit for loss, fit in zip(losses, fitted, strict=True)])
    freedom = len(residuals) - 2 * len(budgets) - 1
    residual = float(np.sqrt((residuals**2).sum() / freedom))
    residuals = (residuals - residuals.mean()) * np.sqrt(len(residuals) / freedom)

    generator = np.random.default_rng(seed)
    found = [_optima(sizes, tokens, losses)]
    for _ in range(draws):
        again = [fit + generator.choice(residuals, len(fit)) for fit in fitted]
        found.append(_optima(sizes, tokens, again))
    usable = [one for one in found if one is not None]
    assert found[0] is not None, "every parabola has a lowest point"
    optima = np.array(usable)  # (fit, budget, 3): logarithms of weights and tokens, and the loss
    lines = tuple(_lines(np.log(budgets), one) for one in optima)
    return IsoflopFit(
        exponent=_estimated(np.array(lines)[:, 0]),
        optima=tuple(
            _optimum(flops, optima[:, index], size)
            for index, (flops, size) in enumerate(zip(budgets, sizes, strict=True))
        ),
        residual=residual,
        usable=(len(usable) - 1) / draws if draws else 1.0,
        lines=lines,
        losses=tuple(tuple(one[:, 2].tolist()) for one in optima),
    )


def fit_parabolas(
    sizes: Sequence[Float[np.ndarray, " size"]], losses: Sequence[Float[np.ndarray, " size"]]
) -> Float[np.ndarray, "budget 3"]:
    """Return the parabola of each budget, all curved alike, as numbers by falling powers.

    Args:
        sizes: By budget, logarithms of the numbers of weights.
        losses: Of these, in nats per pixel.
    """
    budget = np.repeat(np.arange(len(sizes)), [len(size) for size in sizes])
    size, one = np.concatenate(sizes), np.eye(len(sizes))[budget]
    design = np.column_stack([size**2, size[:, None] * one, one])
    (curvature, *rest), *_ = np.linalg.lstsq(design, np.concatenate(losses))
    slopes, offsets = np.split(np.array(rest), 2)
    return np.column_stack([np.full(len(sizes), curvature), slopes, offsets])


def _optima(
    sizes: Sequence[Float[np.ndarray, " size"]],
    tokens: Sequence[Float[np.ndarray, " size"]],
    losses: Sequence[Float[np.ndarray, " size"]],
) -> list[tuple[float, float, float]] | None:
    """Return each budget's best size, its tokens and its loss; None if there is no lowest point."""
    found = []
    parabolas = fit_parabolas(sizes, losses)
    if parabolas[0, 0] <= 0:
        return None
    for size, token, (a, b, c) in zip(sizes, tokens, parabolas, strict=True):
        best = -b / (2 * a)
        # Tokens fall about as sizes grow, in a line of logarithms, as operations are the same.
        slope, offset = np.polyfit(size, token, 1)
        found.append((best, slope * best + offset, c - b**2 / (4 * a)))
    return found


def _optimum(
    flops: float, found: Float[np.ndarray, "fit 3"], sizes: Float[np.ndarray, " size"]
) -> Optimum:
    best, tokens, loss = found.T
    return Optimum(
        flops=flops,
        weights=_estimated(np.exp(best)),
        tokens=_estimated(np.exp(tokens)),
        tokens_per_weight=_estimated(np.exp(tokens - best)),
        loss=_estimated(loss),
        inside=bool(sizes.min() <= best[0] <= sizes.max()),
    )


def _lines(
    log_flops: Float[np.ndarray, " budget"], optima: Float[np.ndarray, "budget 3"]
) -> tuple[float, ...]:
    lines = np.polyfit(log_flops, optima[:, :2], 1)  # (slope or offset, weights or tokens)
    return tuple(lines.T.flatten().tolist())


def _loss_at(
    log: float, log_flops: Float[np.ndarray, " budget"], losses: Float[np.ndarray, " budget"]
) -> float:
    """Return floor + height * operations ** -power, fitted, at others; NaN if it cannot be."""
    if len(losses) < 4:  # or nothing would be left to tell whether it fits
        return np.nan
    start = log_flops.mean()

    def curve(log, floor, height, power):
        return floor + height * np.exp(-power * (log - start))

    first = (losses.min() / 2, losses.mean() / 2, 0.1)
    bounds = ([0, 0, 0.001], [losses.min(), np.inf, 2.0])
    try:
        found, _ = curve_fit(curve, log_flops, losses, p0=first, bounds=bounds)
    except RuntimeError:  # no curve of this kind is near
        return np.nan
    return float(curve(log, *found))


def _estimated(found: Float[np.ndarray, " fit"]) -> Estimated:
    """Return the first, which is the fit itself, and the interval of the others."""
    edge = (100 - _LEVEL) / 2
    known = found[1:][np.isfinite(found[1:])]
    low, high = map(float, np.percentile(known, [edge, 100 - edge])) if len(known) else (None, None)
    value = float(found[0]) if np.isfinite(found[0]) else None
    return Estimated(value=value, low=low, high=high)
