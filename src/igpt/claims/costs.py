"""What the claims cost: reckoned from the operations, nothing is run for that."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from igpt.claims.claim import Claim
from igpt.claims.reproduce import CLAIMS
from igpt.claims.scale import SCALES, Scale
from igpt.runs.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a claim takes at a scale."""

    claim: str
    title: str
    scale: str
    parts: int
    """That are judged there."""
    left: int
    """Parts that are left to another scale."""
    seeds: int
    """Of a plan, by default."""
    runs: int
    """Pretraining runs of one seed, those included that other claims share."""
    finetuning_steps: int
    """Of one seed, at the most."""
    training_flops: float
    """Of one seed."""
    minutes: float
    """Of one seed on the machine that the scale is described for; probes and sampling come on
    top, and the search for rates."""


@dataclass(frozen=True, kw_only=True)
class ScaleCost:
    """What all claims take together, networks that they share counted once."""

    scale: str
    seeds: int
    minutes: float
    """Of one seed."""
    search_minutes: float
    """Of the search for the learning rates of all sizes, once."""


def costs() -> list[Cost]:
    """Return what every claim costs at every scale, for one seed."""
    return [_cost(claim, scale) for scale in SCALES.values() for claim in CLAIMS.values()]


def scale_cost(scale: Scale) -> ScaleCost:
    """Return what all claims of a scale cost together, each network trained once."""
    networks = {name for claim in CLAIMS.values() for name in claim.networks(scale)}
    steps = sum(claim.finetuning_steps(scale) for claim in CLAIMS.values())
    searched = [scale.at_rate(size, rate) for size in scale.sizes for rate in scale.rates]
    flops = _pretraining(scale, networks) + _finetuning(scale, steps)
    return ScaleCost(
        scale=scale.name,
        seeds=scale.seeds,
        minutes=flops / scale.flops_per_second / 60,
        search_minutes=_pretraining(scale, searched) / scale.flops_per_second / 60,
    )


def network_minutes(scale: Scale, network: str) -> float:
    """Return how long a network is trained on the machine that a scale is described for."""
    return _pretraining(scale, [network]) / scale.flops_per_second / 60


def _cost(claim: Claim[Any], scale: Scale) -> Cost:
    networks, steps = claim.networks(scale), claim.finetuning_steps(scale)
    flops = _pretraining(scale, networks) + _finetuning(scale, steps)
    left = len(scale.left.get(claim.name, ()))
    return Cost(
        claim=claim.name,
        title=claim.title,
        scale=scale.name,
        parts=len(claim.parts) - left,
        left=left,
        seeds=scale.seeds,
        runs=len(networks),
        finetuning_steps=steps,
        training_flops=flops,
        minutes=flops / scale.flops_per_second / 60,
    )


def _pretraining(scale: Scale, networks: Iterable[str]) -> float:
    recipes = map(scale.recipe_of, networks)
    return float(sum(_flops_per_step(recipe) * recipe.training.steps for recipe in recipes))


def _finetuning(scale: Scale, steps: int) -> float:
    base = scale.recipe_of("base")
    tuning = dataclasses.replace(base, training=base.finetune.training)
    return _flops_per_step(tuning) * steps


def _flops_per_step(recipe: Recipe) -> float:
    model = recipe.model
    return float(model.flops_per_token * model.positions * recipe.training.batch_size)
