"""`igpt reproduce`: runs a claim, judges it, and keeps what came out.

    reproduce("depth", scale="tiny", out=Path("claims"))

writes, in the folder of the scale, `depth.plan.json` before anything is measured, then `depth.json`
and `depth.png`. A stopped reproduction goes on when it is called again; with `seconds` it stops by
itself, and what the seeds so far have is kept, but not judged. Several processes may share the work
(`share`): each takes seeds of its own, and a call without a share puts them together.
"""

import dataclasses
import math
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from igpt.amounts import counted
from igpt.claims import (
    ablations,
    depth,
    fine_tuning,
    loss_and_probe,
    low_data,
    more_features,
    objectives,
    palette,
    resolution,
    size,
    transfer,
)  # fmt: skip
from igpt.claims.claim import Claim, ClaimResult, ControlResult, Measured, PartResult
from igpt.claims.laboratory import Laboratory
from igpt.claims.plan import FixedPlan, Plan, fix_plan
from igpt.claims.power import seeds_needed
from igpt.claims.scale import find_scale
from igpt.claims.trained import OutOfTime
from igpt.claims.verdict import MEASURED, RULE, Sample, judge, judge_claim
from igpt.errors import ConfigError, DataError, nearest_name
from igpt.files import read_json, write_json, written_aside
from igpt.paths import AnyPath, as_path
from igpt.processes import choose_device
from igpt.runs.provenance import provenance
from igpt.training.loop import TrainingDiverged
from igpt.training.signals import Interrupted
from igpt.values import from_dict, to_dict

CLAIMS: dict[str, Claim[Any]] = {
    module.CLAIM.name: module.CLAIM
    for module in (
        depth, loss_and_probe, transfer, objectives, fine_tuning, low_data, more_features, palette,
        resolution, size, ablations,
    )
}  # fmt: skip
"""The claims by name, in the paper's order."""


def find_claim(name: str) -> Claim[Any]:
    """Return the claim of this name.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    if name not in CLAIMS:
        raise ConfigError(f"there is no claim {name!r}{nearest_name(name, CLAIMS)}")
    return CLAIMS[name]


def reproduce(
    name: str,
    *,
    scale: str = "tiny",
    data: AnyPath | None = None,
    labelled: AnyPath | None = None,
    seeds: int | None = None,
    out: AnyPath = Path("claims"),
    settings: Sequence[str] = (),
    device: str = "auto",
    seconds: float | None = None,
    share: tuple[int, int] | None = None,
) -> ClaimResult:
    """Run one claim of the paper and return what `NAME.json` holds.

    Args:
        name: A name in `CLAIMS`.
        scale: "tiny", "small" or "paper".
        data: Record store to learn from; at the tiny scale scikit-learn's digits by default.
        labelled: Record store for probes and fine-tuning, if that is not `data`.
        seeds: How many, from 0 on; by default as the plan there has it, or else the scale.
        out: Folder; everything goes into a folder of the scale's name there.
        settings: Settings of the base recipe, `PATH=VALUE`, that every run has.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.
        share: Which of how many shares of the seeds to measure, such as (1, 2); all by default.
            The result is then neither judged nor kept.

    Raises:
        ConfigError: No such claim, scale, setting or share, another plan was fixed in `out`, or it
            holds reproductions of other data.
        DataError: The claim's data is missing or has no labels.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    out = Path(out)
    data = as_path(data)
    labelled = as_path(labelled)
    claim = find_claim(name)
    if seeds is not None and seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {seeds}")
    if share is not None and not 1 <= share[0] <= share[1]:
        raise ConfigError(f"a share is such as 1/2 or 2/2, got {share[0]}/{share[1]}")
    deadline = None if seconds is None else time.monotonic() + seconds
    chosen = dataclasses.replace(find_scale(scale), settings=tuple(settings))
    chosen.check_different(claim.networks(chosen))
    if claim.at_best_rates:
        chosen.check_rates()
    laboratory = Laboratory.open(
        out / scale, chosen, data=data, labelled=labelled, device=device, deadline=deadline
    )
    fixed = fix_plan(
        laboratory.path,
        Plan.of(claim, laboratory.scale, **laboratory.identities),
        seeds=seeds,
        default=chosen.seeds,
        measured=_seeds_done(laboratory.path / f"{name}.json"),
        made=provenance(choose_device(device)),
    )
    first, step = (0, 1) if share is None else (share[0] - 1, share[1])
    numbers = range(first, fixed.seeds, step)
    measured, diverged = _measure(claim, laboratory, numbers)
    result = _result(claim, laboratory, fixed, tuple(numbers)[: len(measured)], measured, diverged)
    if share is None:
        _draw(claim, measured, result, laboratory.path / f"{name}.png")
        write_json(laboratory.path / f"{name}.json", to_dict(result))
    return result


def _measure(
    claim: Claim[Measured], laboratory: Laboratory, seeds: Sequence[int]
) -> tuple[list[Measured | None], list[str]]:
    """Measure seeds until the time is over; of those that diverged, say what became of them."""
    measured: list[Measured | None] = []
    diverged: list[str] = []
    for seed in tqdm(seeds, desc=claim.name, unit="seed", disable=None):
        try:
            measured.append(claim.measure(laboratory, seed))
        except TrainingDiverged as error:
            measured.append(None)
            diverged.append(f"seed {seed}: {error}")
        except OutOfTime:
            break
        except Interrupted as error:
            raise Interrupted(error.done, signal_number=error.signal_number) from error
    return measured, diverged


def _result(
    claim: Claim[Measured],
    laboratory: Laboratory,
    fixed: FixedPlan,
    seeds: tuple[int, ...],
    measured: Sequence[Measured | None],
    diverged: Sequence[str],
) -> ClaimResult:
    left = fixed.plan.left
    parts, controls = judged(claim, measured, left=left)
    networks = tuple(claim.networks(laboratory.scale))
    if claim.at_best_rates and seeds:
        networks = tuple(map(laboratory.at_best_rate, networks))
    finished = len(seeds) == fixed.seeds
    return ClaimResult(
        claim=claim.name,
        title=claim.title,
        source=claim.source,
        scale=laboratory.scale.name,
        data=laboratory.name,
        paper=claim.paper,
        rule=RULE,
        plan=fixed.digest,
        planned=fixed.seeds,
        seeds=seeds,
        parts=parts if finished else tuple(map(_unfinished, parts)),
        controls=controls,
        left=left,
        verdict=judge_claim([part.verdict for part in parts]) if finished else "unfinished",
        table=claim.table([seed for seed in measured if seed is not None]),
        measured=tuple(to_dict(measured)),
        diverged=tuple(diverged),
        runs=networks,
        seconds=math.fsum(
            laboratory.seconds(network, seed) for network in networks for seed in seeds
        ),
        provenance=provenance(choose_device(laboratory.device)),
    )


def _unfinished(part: PartResult) -> PartResult:
    return dataclasses.replace(part, verdict="unfinished", p_value=None)


def judged(
    claim: Claim[Measured], measured: Sequence[Measured | None], *, left: Collection[str] = ()
) -> tuple[tuple[PartResult, ...], tuple[ControlResult, ...]]:
    """Return the verdicts on a claim's parts, and its controls, from what each seed measured.

    Args:
        claim: The claim.
        measured: By seed; None where nothing could be measured.
        left: Names of parts that are left to another scale, and not judged.
    """
    parts = [part for part in claim.parts if part.name not in left]
    values = []
    for part in parts:
        needed = [one for one in claim.controls if not one.parts or part.name in one.parts]
        met = (
            seed is not None and all(control.met(seed) for control in needed) for seed in measured
        )
        numbers = [
            part.value(seed) if counts and seed is not None else None
            for seed, counts in zip(measured, met, strict=True)
        ]
        values.append(tuple(None if number is None else float(number) for number in numbers))
    counted = [tuple(value for value in row if value is not None) for row in values]
    judgements = judge(
        [
            Sample(
                values=row,
                equal_within=part.margin if part.equal else None,
                measurable=len(row) >= MEASURED * len(measured),
            )
            for part, row in zip(parts, counted, strict=True)
        ]
    )
    results = []
    for part, row, kept, judgement in zip(parts, values, counted, judgements, strict=True):
        deviation = float(np.std(kept, ddof=1)) if len(kept) > 1 else None
        needed = None
        if deviation is not None:
            needed = seeds_needed(deviation, margin=part.margin, equal=part.equal, parts=len(parts))
        results.append(
            PartResult(
                **vars(part.assertion),
                **vars(judgement),
                values=row,
                deviation=deviation,
                seeds_needed=needed,
            )
        )
    controls = []
    for control in claim.controls:
        seen = [seed for seed in measured if seed is not None]
        controls.append(
            ControlResult(
                **vars(control.requirement),
                values=tuple(None if seed is None else control.value(seed) for seed in measured),
                met=sum(map(control.met, seen)),
            )
        )
    return tuple(results), tuple(controls)


def read_result(file: Path) -> ClaimResult:
    """Return the result that `reproduce` wrote as this file.

    Raises:
        DataError: It is missing, damaged, or of another igpt.
    """
    try:
        return from_dict(ClaimResult, read_json(file, error=DataError), name="it")
    except ConfigError as error:
        raise DataError(
            f"{file} is damaged or of an earlier igpt: {error}; reproduce it again"
        ) from error


def _seeds_done(file: Path) -> int:
    return len(read_result(file).seeds) if file.is_file() else 0


def _draw(
    claim: Claim[Measured], measured: Sequence[Measured | None], result: ClaimResult, path: Path
) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    if seen := [seed for seed in measured if seed is not None]:
        claim.draw(axes, seen)
    axes.set_xlabel(claim.below)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"{claim.title}: {result.verdict}\n{claim.source}; scale {result.scale}, "
        f"{result.data}, {counted(len(measured), 'seed')}",
        fontsize=9,
        loc="left",
    )
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=120)
