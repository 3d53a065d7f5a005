"""What a claim is, and what comes out of it; each module with a finding's name holds one.

A claim is data: what the paper says, which networks that takes, how one seed is measured, and for
each part of it one function from what was measured to one number. `igpt.claims.reproduce` runs it,
`igpt.claims.verdict` judges it.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from matplotlib.axes import Axes

from igpt.claims.display import percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.scale import Scale
from igpt.claims.verdict import Judgement, Verdict
from igpt.runs.provenance import Provenance

Measured = TypeVar("Measured")
"""What is measured for one seed: of a type that the claim chooses, made of plain values."""

Value = TypeVar("Value")

Row = dict[str, str]
"""Of a table for readers: texts by the column's name."""


@dataclass(frozen=True, kw_only=True)
class Assertion:
    """One thing that the paper says."""

    name: str
    statement: str
    """What it says, in our words."""
    paper: str = "no figure given"
    """The paper's figures for it."""
    quantity: str
    """What the number is that it is judged by."""
    unit: Literal["points", "nats", "dB", ""] = "points"
    """Percentage points, nats per pixel, decibels or none. Numbers in points are kept as shares,
    so 0.01 is a point."""
    equal_within: float | None = None
    """Of an assertion that two things are equal: the margin."""


@dataclass(frozen=True, kw_only=True)
class Part(Assertion, Generic[Measured]):
    """An assertion, and how its number is found."""

    value: Callable[[Measured], float | None]
    """One seed's number, positive where the paper is right; None if it could not be measured."""

    @property
    def assertion(self) -> Assertion:
        """The words alone."""
        names = [field.name for field in dataclasses.fields(Assertion)]
        return Assertion(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class PartResult(Assertion, Judgement):
    """An assertion, and what the rule says of it."""

    values: tuple[float, ...]
    """Of the seeds, in their order, for which it could be measured."""


@dataclass(frozen=True, kw_only=True)
class Claim(Generic[Measured]):
    """One finding of the paper, and how it is looked for."""

    name: str
    title: str
    source: str
    """Where the paper says so."""
    paper: str
    """What it says, in our words, with its figures."""
    networks: Callable[[Scale], Sequence[str]] = lambda _: ["base"]
    """The scale's networks that it compares, by name."""
    finetuning_steps: Callable[[Scale], int] = lambda _: 0
    """How many steps of fine-tuning are needed beside them, at the most."""
    measure: Callable[[Laboratory, int], Measured]
    """Measures one seed."""
    parts: tuple[Part[Measured], ...]
    rows: Callable[[Measured], Mapping[Any, Any]]
    """One seed's results for a reader, by name; each seed has the same: accuracies, as shares."""
    head: str = "what"
    """What the names are of."""
    columns: Mapping[str, Callable[[list[Any]], str]] = field(
        default_factory=lambda: {"test accuracy": percent}
    )
    """What the table says of a result in all seeds, by the column's heading."""
    draw: Callable[[Axes, list[Measured]], None]
    """Draws the figure of all seeds in the paper's form."""
    below: str
    """What stands under the figure: the name of its axis, the paper's figures."""

    def table(self, seeds: list[Measured]) -> tuple[Row, ...]:
        """Return the table of what was measured."""
        by_seed = [self.rows(measured) for measured in seeds]
        return tuple(
            {self.head: str(name).replace("\n", " ")}
            | {head: text([rows[name] for rows in by_seed]) for head, text in self.columns.items()}
            for name in by_seed[0]
        )


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """What a reproduction found: `depth.json` and the like."""

    claim: str
    title: str
    source: str
    scale: str
    data: str
    """What the images are called."""
    paper: str
    rule: str
    """That the verdicts follow, in words."""
    seeds: tuple[int, ...]
    parts: tuple[PartResult, ...]
    verdict: Verdict
    table: tuple[Row, ...]
    measured: tuple[Any, ...]
    """By seed, in plain values; each claim has a type of its own."""
    runs: tuple[str, ...]
    """The networks that were compared, by name."""
    seconds: float
    """Of pretraining, in all runs that the claim needs."""
    provenance: Provenance


def growth(quantity: Callable[[Value], float]) -> Callable[[Mapping[Any, Value]], float]:
    """Return the function that says how much more the last of some networks has than the first.

    For the `value` of a part of a claim whose networks rise in size or resolution.
    """

    def value(networks: Mapping[Any, Value]) -> float:
        first, *_, last = networks.values()
        return quantity(last) - quantity(first)

    return value
