"""What the claims' tables and figures have in common: means over the seeds, and their spread.

A claim's rows are accuracies by name, which make a table and `bars`, or by layer or resolution,
which make a `curve`. Claims that differ have columns of their own, and draw for themselves.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

BAR, POINT, PAPER = "#9dbcd8", "#1f4e79", "#7b8794"
"""Colors: of means, of single seeds, and of the paper's figures and other lines to compare with."""

ACCURACY = "test accuracy (%)"
PROBE = f"linear probe, {ACCURACY}"


def percent(shares: Sequence[float | None]) -> str:
    """Return the mean of shares as a percentage, with its standard deviation over the seeds."""
    return mean_text([share if share is None else 100 * share for share in shares], 2, " %")


def nats(losses: Sequence[float]) -> str:
    """Return the mean of losses, with its standard deviation over the seeds."""
    return mean_text(losses, 4)


def mean_text(values: Sequence[float | None], digits: int, unit: str = "") -> str:
    """Return the mean, with its standard deviation over the seeds; nothing if one is None."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return ""
    spread = f" ± {np.std(numbers, ddof=1):.{digits}f}" if len(numbers) > 1 else ""
    return f"{np.mean(numbers):.{digits}f}{spread}{unit}"


def bars(axes: Axes, seeds: Sequence[Mapping[str, float]]) -> None:
    """Draw shares by name: the means, their standard deviation, and every seed's point."""
    shares = 100 * np.array([list(seed.values()) for seed in seeds])  # (seed, bar)
    for index, values in enumerate(shares.T):
        spread = np.std(values, ddof=1) if len(values) > 1 else 0
        axes.bar(index, np.mean(values), yerr=spread, color=BAR, width=0.65)
        axes.plot([index] * len(values), values, "o", color=POINT, ms=3)
    small = 7 if len(shares.T) > 6 else None
    axes.set_xticks(range(len(shares.T)), list(seeds[0]), fontsize=small)
    axes.set_ylabel(ACCURACY)
    axes.set_ylim(bottom=max(0, shares.min() - 10))


def curve(axes: Axes, seeds: Sequence[Mapping[int, float]], *, name: str = "ours") -> None:
    """Draw shares over a number, which rises: the mean curve, and each seed's faintly."""
    curves = 100 * np.array([list(seed.values()) for seed in seeds])  # (seed, point)
    mean = axes.plot(list(seeds[0]), curves.mean(axis=0), "o-", label=name)[0]
    for values in curves:
        axes.plot(list(seeds[0]), values, color=mean.get_color(), alpha=0.25, lw=0.8)
    axes.locator_params(axis="x", integer=True)
    axes.set_ylabel(PROBE)
