"""The plan of a reproduction: what will be judged and how, fixed before anything is measured.

    fixed = fix_plan(folder, plan, seeds=10, made=provenance(device), measured=0)
    fixed.digest, fixed.seeds

`NAME.plan.json` is written once. Whoever comes later with other parts, another rule, scale or other
data is refused; more seeds are let in, as an amendment that the file keeps and the page shows.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from igpt.claims.claim import Assertion, Claim, Requirement
from igpt.claims.scale import Scale
from igpt.claims.verdict import RULE
from igpt.errors import ConfigError, DataError
from igpt.files import read_json, write_json
from igpt.runs.provenance import Provenance
from igpt.values import from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that decides a verdict before the first number is seen."""

    claim: str
    rule: str
    parts: tuple[Assertion, ...]
    controls: tuple[Requirement, ...]
    left: dict[str, str]
    """Parts that this scale leaves to another, by name, and why."""
    scale: dict[str, Any]
    """Its fields but the machine's."""
    networks: dict[str, str]
    """Digest of each network's recipe, by name."""
    data: str
    """Which images networks learn from."""
    labelled: str
    """Which images have the labels."""

    @classmethod
    def of(cls, claim: Claim[Any], scale: Scale, *, data: str, labelled: str) -> "Plan":
        """Return the plan of a claim at a scale, for these images."""
        fields = to_dict(scale)
        for name in ("description", "flops_per_second"):
            del fields[name]
        return cls(
            claim=claim.name,
            rule=RULE,
            parts=tuple(part.assertion for part in claim.parts),
            controls=tuple(control.requirement for control in claim.controls),
            left=dict(scale.left.get(claim.name, {})),
            scale=fields,
            networks={name: digest(scale.recipe_of(name)) for name in claim.networks(scale)},
            data=data,
            labelled=labelled,
        )


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """More seeds than were planned."""

    seeds: int
    """From now on."""
    measured: int
    """How many had been measured by then."""
    made: Provenance


@dataclass(frozen=True, kw_only=True)
class FixedPlan:
    """What `NAME.plan.json` holds."""

    digest: str
    """Of the plan and its first number of seeds."""
    plan: Plan
    planned: int
    """Seeds, before any amendment."""
    amendments: tuple[Amendment, ...] = ()
    made: Provenance

    @property
    def seeds(self) -> int:
        """How many there are to be, by the newest amendment."""
        return self.amendments[-1].seeds if self.amendments else self.planned


def digest(value: Any) -> str:
    """Return what tells a value of plain fields from others.

    A recipe's digest stays what it is when recipes get another field (`igpt.values.LATER`).
    """
    text = json.dumps(to_dict(value, for_record=True), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan_file(folder: Path, claim: str) -> Path:
    """Return where the plan of a claim lies in the folder of a scale."""
    return folder / f"{claim}.plan.json"


def read_plan(folder: Path, claim: str) -> FixedPlan | None:
    """Return the plan of a claim in the folder of a scale; None if there is none yet.

    Raises:
        DataError: It is damaged, of an earlier igpt, or was changed after it was fixed.
    """
    file = plan_file(folder, claim)
    if not file.is_file():
        return None
    try:
        fixed = from_dict(FixedPlan, read_json(file, error=DataError), name="it")
    except ConfigError as error:
        raise DataError(
            f"{file} is damaged or of an earlier igpt: {error}; reproduce into another --out"
        ) from error
    if fixed.digest != digest((fixed.plan, fixed.planned)):
        raise DataError(
            f"{file} was changed after it was fixed; restore it, or choose another --out"
        )
    return fixed


def fix_plan(
    folder: Path, plan: Plan, *, seeds: int | None, default: int, measured: int, made: Provenance
) -> FixedPlan:
    """Return the plan of a claim, fixed now or, if it was before, amended by more seeds.

    Args:
        folder: Of the scale.
        plan: What is to be judged.
        seeds: How many are wanted; None for those of the plan.
        default: How many a new plan has if that is None.
        measured: Seeds that have a result already.
        made: When and by what.

    Raises:
        ConfigError: Another plan was fixed there, or one with more seeds.
        DataError: The plan there is damaged.
    """
    file = plan_file(folder, plan.claim)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.name}.lock")):  # so that only one process is the first
        fixed = read_plan(folder, plan.claim)
        if fixed is None:
            planned = seeds or default
            fixed = FixedPlan(digest=digest((plan, planned)), plan=plan, planned=planned, made=made)
            write_json(file, to_dict(fixed))
            return fixed
        theirs, ours = to_dict(fixed.plan), to_dict(plan)
        if other := [name for name in ours if theirs[name] != ours[name]]:
            raise ConfigError(
                f"{file} was fixed with other {other[0]} than these; choose another --out, as a "
                "plan that has been run is not changed"
            )
        if seeds is None or seeds == fixed.seeds:
            return fixed
        if seeds < fixed.seeds:
            raise ConfigError(
                f"{file} is for {fixed.seeds} seeds, got {seeds}; leave out --seeds, or choose "
                "another --out, as leaving seeds out would choose the result"
            )
        amendment = Amendment(seeds=seeds, measured=measured, made=made)
        fixed = dataclasses.replace(fixed, amendments=(*fixed.amendments, amendment))
        write_json(file, to_dict(fixed))
        return fixed
