"""What a claim is, and what comes out of it; each module with a finding's name holds one.

A claim is data: what the paper says, which networks that takes, how one seed is measured, for each
part of it one function from what was measured to one number, and for each positive control another.
`igpt.claims.plan` fixes it before it is run, `igpt.claims.reproduce` runs it, and
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
    margin: float = 0.01
    """The smallest effect worth telling, by which the seeds are reckoned that a part needs; of an
    assertion that two things are equal, the difference that still is none."""
    equal: bool = False
    """Whether it says that two things are equal."""


@dataclass(frozen=True, kw_only=True)
class Part(Assertion, Generic[Measured]):
    """An assertion, and how its number is found."""

    value: Callable[[Measured], float | None]
    """One seed's number, positive where the paper is right; None if it could not be measured."""

    @property
    def assertion(self) -> Assertion:
        """The words alone."""
        return _words(self, Assertion)


@dataclass(frozen=True, kw_only=True)
class PartResult(Assertion, Judgement):
    """An assertion, and what the rule says of it."""

    values: tuple[float | None, ...]
    """By seed; None where it could not be measured or a control was missed."""
    deviation: float | None
    """Of the values that there are, over the seeds; None for fewer than two."""
    seeds_needed: int | None
    """To tell the margin in 80 % of cases, with that deviation; None for over 2,000 or unknown."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """What must be so before a part says anything: a positive control."""

    name: str
    statement: str
    """Such as "the loss is past its plateau"."""
    quantity: str
    """What the number is that tells it."""
    at_least: float
    """That number, in every seed that counts."""
    parts: tuple[str, ...] = ()
    """Those that need it; all by default."""


@dataclass(frozen=True, kw_only=True)
class Control(Requirement, Generic[Measured]):
    """A requirement, and how its number is found."""

    value: Callable[[Measured], float | None]
    """One seed's number; None where there is nothing to require."""

    @property
    def requirement(self) -> Requirement:
        """The words alone."""
        return _words(self, Requirement)

    def met(self, measured: Measured) -> bool:
        """Whether a seed has what is required."""
        value = self.value(measured)
        return value is None or value >= self.at_least


@dataclass(frozen=True, kw_only=True)
class ControlResult(Requirement):
    """A requirement, and what was found."""

    values: tuple[float | None, ...]
    """By seed; None where nothing was required, or nothing measured."""
    met: int
    """Seeds that have what is required."""


Words = TypeVar("Words")


def _words(value: Any, cls: type[Words]) -> Words:
    """Return the fields of `value` that a class above it has."""
    return cls(**{item.name: getattr(value, item.name) for item in dataclasses.fields(cls)})  # pyrefly: ignore


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
    at_best_rates: bool = False
    """Whether each of them is taken at the learning rate that is best for it."""
    finetuning_steps: Callable[[Scale], int] = lambda _: 0
    """How many steps of fine-tuning are needed beside them, at the most."""
    measure: Callable[[Laboratory, int], Measured]
    """Measures one seed."""
    parts: tuple[Part[Measured], ...]
    controls: tuple[Control[Measured], ...] = ()
    """What must be so before the parts say anything."""
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
        if not by_seed:
            return ()
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
    plan: str
    """Digest of the plan that was fixed before the run."""
    planned: int
    """Seeds of the plan, amendments included."""
    seeds: tuple[int, ...]
    """Those measured so far."""
    parts: tuple[PartResult, ...]
    controls: tuple[ControlResult, ...]
    left: dict[str, str]
    """Parts that this scale leaves to another, by name, and why."""
    verdict: Verdict
    table: tuple[Row, ...]
    measured: tuple[Any, ...]
    """By seed, in plain values; each claim has a type of its own. None where a run diverged without
    which nothing could be measured."""
    diverged: tuple[str, ...]
    """Of each such seed, what became of it."""
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
