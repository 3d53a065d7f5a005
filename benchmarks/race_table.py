"""The table of a race (`benchmarks/race.py`): what each entry gained over the paper's recipe."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.trials import Measures, Outcome
from igpt.claims.verdict import Judgement, Sample, judge
from igpt.runs.provenance import Provenance
from igpt.runs.recipes import Recipe

PAPER = "paper"
"""The entry that the others are compared with."""


@dataclass(frozen=True, kw_only=True)
class Entered:
    """An entry, and what its trainings came to."""

    name: str
    settings: tuple[str, ...]
    learning_rate: float | None
    """The best on validation, of `rates`; None as long as the search goes on."""
    rates: dict[str, float | None]
    """Nats per pixel on validation by rate, from low to high; None of one that diverged."""
    steps: int
    flops: float
    """Of one training."""
    seconds_per_step: float | None
    """Timed in turn with the others; None if that was not done."""
    outcomes: dict[str, Outcome]
    """By seed."""


@dataclass(frozen=True, kw_only=True)
class Race:
    """What `race.json` holds."""

    equal: str
    """What every training takes the same of: operations or time."""
    entries: tuple[Entered, ...]
    measures: Measures
    base: Recipe
    made: Provenance


def verdicts(entries: Sequence[Entered]) -> dict[str, tuple[Judgement, Judgement]]:
    """Return by entry what can be told of its gain in nats and in accuracy over the paper's.

    A gain is a difference within a seed, positive where the entry is better.
    """
    (paper,) = (entry for entry in entries if entry.name == PAPER)
    others = [entry for entry in entries if entry.name != PAPER]

    def gains(entry: Entered, gain: Callable[[Outcome, Outcome], float]) -> Sample:
        seeds = sorted(paper.outcomes.keys() & entry.outcomes.keys())
        pairs = ((entry.outcomes[seed], paper.outcomes[seed]) for seed in seeds)
        return Sample(values=tuple(gain(ours, theirs) for ours, theirs in pairs))

    nats = judge([gains(e, lambda a, b: b.nats_per_pixel - a.nats_per_pixel) for e in others])
    probes = judge([gains(e, lambda a, b: a.probe_accuracy - b.probe_accuracy) for e in others])
    return {entry.name: pair for entry, *pair in zip(others, nats, probes, strict=True)}


def winners(race: Race) -> str:
    """Return the settings that were better in nats and not worse in probes, as lines of Python.

    Each with its gain alone, the largest first: what a recipe of them has to say of itself.
    """
    found = verdicts(race.entries)
    lines = []
    for entry in sorted(race.entries, key=lambda entry: _gain(entry, found), reverse=True):
        if entry.name == PAPER:
            continue
        nats, probe = found[entry.name]
        if nats.verdict != "holds" or probe.verdict == "does not hold":
            continue
        gains = f"{gained(nats, '{:+.4f}')} nats, {gained(probe, '{:+.1f}', scale=100)} points"
        settings = ", ".join(f'"{setting}"' for setting in entry.settings)
        lines.append(f"{settings},  # {gains}, {len(entry.outcomes)} seeds")
    return "\n".join(lines) or "nothing is better for certain"


def _gain(entry: Entered, found: Mapping[str, tuple[Judgement, Judgement]]) -> float:
    mean = found[entry.name][0].mean if entry.name in found else 0.0
    return -math.inf if mean is None else mean


def table(race: Race) -> str:
    """Return the race as a Markdown table, the largest gain first."""
    found = verdicts(race.entries)
    (paper,) = (entry for entry in race.entries if entry.name == PAPER)

    lines = [
        "| entry | nats per pixel | gain | probe | gain | rate | time of a step | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for entry in sorted(race.entries, key=lambda entry: _gain(entry, found), reverse=True):
        outcomes = list(entry.outcomes.values())
        pair = found.get(entry.name)
        ratio = ""
        if entry.seconds_per_step and paper.seconds_per_step:
            ratio = f"{entry.seconds_per_step / paper.seconds_per_step:.2f}"
        cells = (
            entry.name,
            spread([one.nats_per_pixel for one in outcomes], "{:.4f}"),
            gained(pair[0], "{:+.4f}") if pair else "",
            spread([100 * one.probe_accuracy for one in outcomes], "{:.1f}"),
            gained(pair[1], "{:+.1f}", scale=100) if pair else "",
            rate(entry),
            ratio,
            f"{len(outcomes)}" + (f", {d} diverged" if (d := diverged(outcomes)) else ""),
        )
        lines.append(f"| {' | '.join(cells)} |")
    measures = race.measures
    lines.append(
        f"\nEqual {race.equal}. Nats per pixel of {measures.likelihood:,} {measures.held_out} "
        f"images; percent of {measures.tested:,} others that a probe names right, fitted to "
        f"{measures.learned:,}, its layer and penalty chosen by {measures.chosen:,}. Means and "
        "standard deviations over seeds; gains over the paper's recipe with 95 % intervals, paired "
        "by seed, and whether they can be told from chance, nats and probes each corrected for the "
        "number of entries. A rate with * is the best of those tried, and at their edge."
    )
    return "\n".join(lines)


def spread(values: Sequence[float], form: str) -> str:
    """Return a mean and, of several values, their standard deviation."""
    if not values:
        return ""
    text = form.format(statistics.fmean(values))
    return f"{text} ± {form.format(statistics.stdev(values))}" if len(values) > 1 else text


def gained(judgement: Judgement, form: str, *, scale: float = 1.0) -> str:
    """Return a gain, its interval and what can be told of it."""
    if judgement.mean is None:
        return ""
    words = {"holds": "better", "does not hold": "worse"}
    text = form.format(scale * judgement.mean)
    if judgement.interval:
        low, high = (form.format(scale * end) for end in judgement.interval)
        text += f" [{low}, {high}]"
    return f"{text} {words.get(judgement.verdict, '?')}"


def rate(entry: Entered) -> str:
    """Return an entry's learning rate; with an asterisk if one beyond it might be better."""
    if entry.learning_rate is None:
        return ""
    best, tried = f"{entry.learning_rate:g}", list(entry.rates)
    return f"{best}*" if best in (tried[0], tried[-1]) else best


def diverged(outcomes: Iterable[Outcome]) -> int:
    """Return how many of them did."""
    return sum(bool(one.diverged) for one in outcomes)
