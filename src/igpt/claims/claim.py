"""What a claim is made of; each module beside this one holds one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from igpt.claims.laboratory import Laboratory
from igpt.claims.scale import Scale
from igpt.claims.verdict import Part

Measured = dict[str, Any]
"""What was measured for one seed, as plain JSON values."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One finding of the paper, and how it is looked for."""

    name: str
    title: str
    source: str
    """Where the paper says so."""
    paper: str
    """What it says, in our words, with its figures."""
    parts: tuple[Part, ...]
    variants: Callable[[Scale], list[str]]
    """The pretraining runs that are needed."""
    finetuning_steps: Callable[[Scale], int] = lambda _: 0
    """How many steps of fine-tuning are needed beside them, at the most."""
    measure: Callable[[Laboratory, int], Measured]
    """Measures one seed."""
    values: Callable[[Measured], dict[str, float]]
    """One seed's number for each part, by the part's name; a part that is not there could not be
    measured."""
    table: Callable[[Sequence[Measured]], list[dict[str, str]]]
    """Rows for a reader, over the seeds."""
    draw: Callable[[Axes, Sequence[Measured]], None]
    """Draws the figure in the paper's form."""


def percent(values: Sequence[float]) -> str:
    """Return the mean of shares as a percentage, with its standard deviation over the seeds."""
    text = f"{100 * np.mean(values):.2f}"
    if len(values) > 1:
        text += f" ± {100 * np.std(values, ddof=1):.2f}"
    return f"{text} %"


def nats(values: Sequence[float]) -> str:
    """Return the mean of losses, with its standard deviation over the seeds."""
    text = f"{np.mean(values):.4f}"
    return f"{text} ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else text


def bars(axes: Axes, names: Sequence[str], shares: Sequence[Sequence[float]], label: str) -> None:
    """Draw the means over the seeds as bars, with the standard deviation and every seed's point."""
    for place, values in enumerate(shares):
        spread = np.std(values, ddof=1) if len(values) > 1 else 0
        axes.bar(place, 100 * np.mean(values), yerr=100 * spread, color="#9dbcd8", width=0.65)
        axes.plot([place] * len(values), 100 * np.array(values), "o", color="#1f4e79", ms=3)
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel(label)
    low = min(min(values) for values in shares)
    axes.set_ylim(bottom=max(0, 100 * low - 10))


def lines(
    axes: Axes,
    places: Sequence[int] | Sequence[float],
    curves: Sequence[Sequence[float]],
    name: str,
) -> None:
    """Draw the mean curve over the seeds, and each seed's faintly."""
    mean = axes.plot(places, 100 * np.mean(curves, axis=0), "o-", label=name)[0]
    for curve in curves:
        axes.plot(places, 100 * np.array(curve), color=mean.get_color(), alpha=0.25, lw=0.8)
