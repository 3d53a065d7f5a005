"""`igpt reproduce`: runs a claim, judges it, and keeps what came out.

    reproduce("depth", scale="tiny", out=Path("claims"))

writes, in the folder of the scale, `depth.plan.json` (the rule, before anything is measured), then
`depth.json` and `depth.png`. A stopped reproduction goes on when it is called again.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
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
)
from igpt.claims.claim import Claim, Measured
from igpt.claims.laboratory import Laboratory
from igpt.claims.scale import SCALES, Scale, find_scale
from igpt.claims.verdict import RULE, judge, judge_claim
from igpt.errors import ConfigError, nearest_name
from igpt.files import read_json, write_json, written_aside
from igpt.model.config import ModelConfig
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import autoregressive
from igpt.processes import choose_device
from igpt.runs.provenance import provenance
from igpt.runs.recipes import Recipe
from igpt.training.signals import Interrupted
from igpt.values import to_dict

CLAIMS: dict[str, Claim] = {
    module.CLAIM.name: module.CLAIM
    for module in (
        depth,
        loss_and_probe,
        objectives,
        fine_tuning,
        low_data,
        more_features,
        palette,
        resolution,
        size,
        ablations,
    )
}
"""The claims by name, in the paper's order."""


def find_claim(name: str) -> Claim:
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
) -> dict[str, Any]:
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

    Returns:
        `claim`, `scale`, `data`, `paper`, `rule`, `seeds`, `parts` (each with its `values` by
        seed, `mean`, `standard_error` and `verdict`), `verdict`, `table`, `measured` (by seed),
        `seconds` (of pretraining, in all runs that the claim needs) and `provenance`.

    Raises:
        ConfigError: No such claim, scale or setting, or `out` holds reproductions of other data.
        DataError: The claim's data is missing or has no labels.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    claim = find_claim(name)
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {seeds}")
    chosen = dataclasses.replace(find_scale(scale), settings=tuple(settings))
    for variant in claim.variants(chosen):
        chosen.recipe_of(variant)  # a setting that cannot be is found out now
    names = [chosen.same_as(variant) for variant in claim.variants(chosen)]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise ConfigError(
            f"with these settings two networks that the claim compares are the same, {twice}; "
            "leave out the --set that makes them so"
        )
    laboratory = Laboratory.open(out / scale, chosen, data=data, labelled=labelled, device=device)
    plan = {
        "claim": claim.name,
        "rule": RULE,
        "parts": [dataclasses.asdict(part) for part in claim.parts],
        "seeds": list(range(seeds)),
        "settings": list(settings),
        "provenance": to_dict(provenance(choose_device(device))),
    }
    file = laboratory.path / f"{name}.plan.json"
    if not file.is_file() or read_json(file).get("parts") != plan["parts"]:
        write_json(file, plan)
    measured = []
    for seed in tqdm(range(seeds), desc=name, unit="seed", disable=None):
        try:
            measured.append(claim.measure(laboratory, seed))
        except Interrupted as error:
            raise Interrupted(
                f"{str(error).partition(';')[0]}; go on with the same command",
                signal_number=error.signal_number,
            ) from error
    result = {
        "claim": claim.name,
        "title": claim.title,
        "source": claim.source,
        "scale": scale,
        "data": laboratory.name,
        "paper": claim.paper,
        "rule": RULE,
        "seeds": list(range(seeds)),
        **judged(claim, measured),
        "table": claim.table(measured),
        "measured": measured,
        "runs": claim.variants(laboratory.scale),
        "seconds": sum(laboratory.seconds(name, seed) for name in names for seed in range(seeds)),
        "provenance": to_dict(provenance(choose_device(device))),
    }
    _draw(claim, measured, result, laboratory.path / f"{name}.png")
    write_json(laboratory.path / f"{name}.json", result)
    return result


def judged(claim: Claim, measured: Sequence[Measured]) -> dict[str, Any]:
    """Return `parts` and `verdict` of what was measured for each seed."""
    by_seed = [claim.values(seed) for seed in measured]
    parts, judgements = [], []
    for part in claim.parts:
        values = [float(found[part.name]) for found in by_seed if part.name in found]
        judgement = judge(values, equal_within=part.equal_within)
        judgements.append(judgement)
        parts.append(
            {**dataclasses.asdict(part), "values": values, **dataclasses.asdict(judgement)}
        )
    return {"parts": parts, "verdict": judge_claim(judgements)}


def _draw(claim: Claim, measured: Sequence[Measured], result: dict[str, Any], path: Path) -> None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    claim.draw(axes, measured)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"{claim.title}: {result['verdict']}\n{claim.source}; scale {result['scale']}, "
        f"{result['data']}, {len(measured)} seeds",
        fontsize=9,
        loc="left",
    )
    with written_aside(path) as aside:
        figure.savefig(aside, format="png", dpi=120)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a claim takes at a scale."""

    claim: str
    scale: str
    runs: int
    """Pretraining runs of one seed, shared ones included."""
    finetuning_steps: int
    training_flops: float
    """Of these runs, of one seed."""
    hours: float
    """The same at this machine's speed; probes and sampling come on top."""


def costs(device: str = "auto") -> list[Cost]:
    """Return what every claim costs at every scale, for one seed, on this machine.

    The speed is measured by a few steps of training: of the tiny scale's own network for that
    scale, and of a wider one for the others.
    """
    chosen = choose_device(device)
    narrow = SCALES["tiny"].recipe_of("base").model
    wide = ModelConfig(layers=2, width=512 if chosen.type == "cpu" else 1536, heads=8)
    tiny_speed = _training_speed(narrow, images=16, device=chosen)
    speed = _training_speed(wide, images=1 if chosen.type == "cpu" else 16, device=chosen)
    found = []
    for scale in SCALES.values():
        for claim in CLAIMS.values():
            names = {scale.same_as(variant) for variant in claim.variants(scale)}
            flops = sum(_flops(scale.recipe_of(name)) for name in names)
            steps = claim.finetuning_steps(scale)
            tuning = steps * _finetuning_flops(scale)
            found.append(
                Cost(
                    claim=claim.name,
                    scale=scale.name,
                    runs=len(names),
                    finetuning_steps=steps,
                    training_flops=flops + tuning,
                    hours=(flops + tuning) / (tiny_speed if scale.name == "tiny" else speed) / 3600,
                )
            )
    return found


def _flops(recipe: Recipe) -> float:
    model, training = recipe.model, recipe.training
    return float(model.flops_per_token * model.positions * training.batch_size * training.steps)


def _finetuning_flops(scale: Scale) -> float:
    """Return the operations of one step."""
    recipe = scale.recipe_of("base")
    training = dataclasses.replace(recipe.finetune.training, steps=1)
    return _flops(dataclasses.replace(recipe, training=training))


def _training_speed(config: ModelConfig, *, images: int, device: torch.device) -> float:
    """Return the operations a second of a training step, by the median of a few."""
    model = ImageGPT(config).to(device)
    tokens = torch.zeros((images, config.positions), dtype=torch.int64, device=device)
    times = []
    for _ in range(4):
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = autoregressive(model, tokens)["loss"]
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
        model.zero_grad()
    times = sorted(times[1:])  # the first pays for the start
    return config.flops_per_token * tokens.numel() / times[len(times) // 2]
