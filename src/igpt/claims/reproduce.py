"""`igpt reproduce`: runs a claim, judges it, and keeps what came out.

    reproduce("depth", scale="tiny", out=Path("claims"))

writes, in the folder of the scale, `depth.plan.json` (the rule, before anything is measured), then
`depth.json` and `depth.png`. A stopped reproduction goes on when it is called again.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tqdm import tqdm

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
)  # fmt: skip
from igpt.claims.claim import Claim, ClaimResult, Measured, PartResult
from igpt.claims.laboratory import Laboratory
from igpt.claims.scale import SCALES, Scale, find_scale
from igpt.claims.verdict import RULE, judge, judge_claim
from igpt.errors import ConfigError, nearest_name
from igpt.files import read_json, write_json, written_aside
from igpt.processes import choose_device
from igpt.runs.provenance import provenance
from igpt.runs.recipes import Recipe
from igpt.training.signals import Interrupted
from igpt.values import to_dict

CLAIMS: dict[str, Claim[Any]] = {
    module.CLAIM.name: module.CLAIM
    for module in (
        depth, loss_and_probe, objectives, fine_tuning, low_data, more_features, palette,
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
    data: Path | None = None,
    labelled: Path | None = None,
    seeds: int = 3,
    out: Path = Path("claims"),
    settings: Sequence[str] = (),
    device: str = "auto",
) -> ClaimResult:
    """Run one claim of the paper and return what `NAME.json` holds.

    Args:
        name: A name in `CLAIMS`.
        scale: "tiny", "small" or "paper".
        data: Record store to learn from; at the tiny scale scikit-learn's digits by default.
        labelled: Record store for probes and fine-tuning, if `data` has no labels.
        seeds: How many, from 0 on.
        out: Folder; everything goes into a folder of the scale's name there.
        settings: Settings of the base recipe, `PATH=VALUE`, that every run has.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

    Raises:
        ConfigError: No such claim, scale or setting, or `out` holds reproductions of other data.
        DataError: The claim's data is missing or has no labels.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    claim = find_claim(name)
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {seeds}")
    chosen = dataclasses.replace(find_scale(scale), settings=tuple(settings))
    chosen.check_different(claim.networks(chosen))
    laboratory = Laboratory.open(out / scale, chosen, data=data, labelled=labelled, device=device)
    numbers, made = tuple(range(seeds)), provenance(choose_device(device))
    assertions = to_dict([part.assertion for part in claim.parts])
    file = laboratory.path / f"{name}.plan.json"
    if not file.is_file() or read_json(file).get("parts") != assertions:
        plan = {"claim": name, "rule": RULE, "parts": assertions, "seeds": numbers}
        write_json(file, to_dict({**plan, "settings": settings, "provenance": made}))
    measured = []
    for seed in tqdm(numbers, desc=name, unit="seed", disable=None):
        try:
            measured.append(claim.measure(laboratory, seed))
        except Interrupted as error:
            raise Interrupted(
                f"{str(error).partition(';')[0]}; go on with the same command",
                signal_number=error.signal_number,
            ) from error
    parts = judged(claim, measured)
    networks = tuple(claim.networks(laboratory.scale))
    result = ClaimResult(
        claim=claim.name,
        title=claim.title,
        source=claim.source,
        scale=scale,
        data=laboratory.name,
        paper=claim.paper,
        rule=RULE,
        seeds=numbers,
        parts=parts,
        verdict=judge_claim(parts),
        table=claim.table(measured),
        measured=tuple(to_dict(measured)),
        runs=networks,
        seconds=sum(laboratory.seconds(network, seed) for network in networks for seed in numbers),
        provenance=made,
    )
    _draw(claim, measured, result, laboratory.path / f"{name}.png")
    write_json(laboratory.path / f"{name}.json", to_dict(result))
    return result


def judged(claim: Claim[Measured], measured: Sequence[Measured]) -> tuple[PartResult, ...]:
    """Return the verdicts on a claim's parts from what was measured for each seed."""
    results = []
    for part in claim.parts:
        numbers = [part.value(seed) for seed in measured]
        values = tuple(float(number) for number in numbers if number is not None)
        judgement = judge(values, equal_within=part.equal_within)
        results.append(PartResult(**vars(part.assertion), **vars(judgement), values=values))
    return tuple(results)


def _draw(
    claim: Claim[Measured], measured: list[Measured], result: ClaimResult, path: Path
) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    claim.draw(axes, measured)
    axes.set_xlabel(claim.below)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"{claim.title}: {result.verdict}\n{claim.source}; scale {result.scale}, "
        f"{result.data}, {len(measured)} seeds",
        fontsize=9,
        loc="left",
    )
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=120)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a claim takes at a scale."""

    claim: str
    title: str
    scale: str
    runs: int
    """Pretraining runs of one seed, those included that other claims share."""
    finetuning_steps: int
    """At the most."""
    training_flops: float
    """Of all this, for one seed."""
    minutes: float
    """The same on the machine that the scale is described for; probes and sampling come on top."""


def costs() -> list[Cost]:
    """Return what every claim costs at every scale, for one seed; nothing is run for that."""
    return [_cost(claim, scale) for scale in SCALES.values() for claim in CLAIMS.values()]


def _cost(claim: Claim[Any], scale: Scale) -> Cost:
    networks, steps = claim.networks(scale), claim.finetuning_steps(scale)
    pretraining = [scale.recipe_of(name) for name in networks]
    base = scale.recipe_of("base")
    flops = sum(_flops_per_step(recipe) * recipe.training.steps for recipe in pretraining)
    tuning = dataclasses.replace(base, training=base.finetune.training)
    flops += _flops_per_step(tuning) * steps
    return Cost(
        claim=claim.name,
        title=claim.title,
        scale=scale.name,
        runs=len(networks),
        finetuning_steps=steps,
        training_flops=flops,
        minutes=flops / scale.flops_per_second / 60,
    )


def _flops_per_step(recipe: Recipe) -> float:
    model = recipe.model
    return float(model.flops_per_token * model.positions * recipe.training.batch_size)
