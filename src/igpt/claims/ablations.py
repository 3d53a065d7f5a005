"""Appendix A.1 and section 2.1: what the choices of the recipe are worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Part
from igpt.claims.controls import past_plateau
from igpt.claims.display import BAR, PAPER, POINT, nats, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.networks import Network
from igpt.claims.scale import MASK_RATES, Scale
from igpt.training.metrics import read_metrics

_SPIKE = 0.5  # nats over the running median: what counts as a spike of the training loss
_WINDOW = 50


@dataclass(frozen=True, kw_only=True)
class Ablated:
    """A network with one choice taken back, or with all of them."""

    network: Network
    spikes: int
    """Of the training loss; that it diverged is one more."""


Measured = dict[str, Ablated]
"""By the choice's name; "paper" has the paper's of all, "bert" the same of a BERT network."""

_MORE_MASKED = tuple(f"mask-{rate}" for rate in MASK_RATES[2:])
_COMPARED = {
    "beta2": ("paper", "beta2-0.999"),
    "weight-decay": ("paper", "weight-decay"),
    "untied": ("paper", "tied"),
    "zero-heads": ("paper", "non-zero-heads"),
    "initialization": ("paper", "sparse-initialization"),
    "float32": ("paper", "float32"),
    "mask-0.2": ("bert", "mask-0.2"),
    "mask-more": ("bert", *_MORE_MASKED),
}
"""The choices that each part compares."""


def _choices(scale: Scale) -> dict[str, str]:
    """Return the networks of the parts that are not left to another scale, by choice."""
    left = scale.left.get("ablations", {})
    names = {
        choice: choice for part, names in _COMPARED.items() if part not in left for choice in names
    }
    own = {"paper": scale.ablated, "bert": scale.masked(MASK_RATES[0])}
    return {choice: own.get(choice, name) for choice, name in names.items()}


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    measured = {}
    for choice, name in _choices(laboratory.scale).items():
        network = laboratory.network(name, seed)
        losses = [line["loss"] for line in read_metrics(laboratory.metrics(name, seed))]
        found = spikes(losses) + (network.diverged is not None)
        measured[choice] = Ablated(network=network, spikes=found)
    return measured


def spikes(losses: Sequence[float]) -> int:
    """Count the steps whose loss is far over the median of those shortly before."""
    return sum(
        bool(losses[step] - np.median(losses[step - _WINDOW : step]) > _SPIKE)
        for step in range(_WINDOW, len(losses))
    )


def _gain(choice: str, *, over: str) -> Callable[[Measured], float | None]:
    """Return the function that says how much better one choice's probe is than another's."""

    def value(measured: Measured) -> float | None:
        if not {choice, over} <= measured.keys():
            return None
        accuracies = (measured[name].network.test_accuracy for name in (choice, over))
        return next(accuracies) - next(accuracies)

    return value


def _more_masked(measured: Measured) -> float | None:
    if not {"bert", *_MORE_MASKED} <= measured.keys():
        return None
    more = [measured[name].network.test_accuracy for name in _MORE_MASKED]
    return measured["bert"].network.test_accuracy - float(np.mean(more))


def _more_spikes(measured: Measured) -> float | None:
    if "beta2-0.999" not in measured:
        return None
    return float(measured["beta2-0.999"].spikes - measured["paper"].spikes)


def _under_plateau(measured: Measured) -> float | None:
    return measured["paper"].network.under_plateau if "paper" in measured else None


def _draw(axes: Axes, seeds: list[Measured]) -> None:
    names = [name for name in reversed(seeds[0]) if name not in ("paper", "bert")]
    for index, name in enumerate(names):
        gain = _gain(name, over="bert" if name.startswith("mask") else "paper")
        gains = [100 * (gain(measured) or 0.0) for measured in seeds]
        axes.barh(index, np.mean(gains), color=BAR)
        axes.plot(gains, [index] * len(gains), "o", color=POINT, ms=3)
    axes.axvline(0, color=PAPER, lw=0.8)
    axes.set_yticks(range(len(names)), names)


CLAIM = Claim[Measured](
    name="ablations",
    title="What the recipe's choices are worth",
    source="appendix A.1, section 2.1",
    paper="Adam's beta2 of 0.999 brings spikes of the loss; weight decay of 0.01 changes nothing; "
    "small gains on iGPT-S from float32, from untied embeddings and from heads that start at zero; "
    "hiding 20 % of the pixels is as good as 15 %, 25, 30 and 35 % are worse.",
    networks=lambda scale: list(_choices(scale).values()),
    measure=_measure,
    parts=(
        Part(
            name="beta2",
            statement="beta2 of 0.999 brings spikes of the loss, 0.95 does not",
            paper="spikes with 0.999",
            quantity=f"steps with a loss {_SPIKE} nats over the median of {_WINDOW} before, beta2 "
            "0.999 minus 0.95",
            unit="",
            margin=1.0,
            value=_more_spikes,
        ),
        Part(
            name="weight-decay",
            statement="weight decay of 0.01 changes nothing",
            paper="no change",
            quantity="probe accuracy with weight decay minus without",
            equal=True,
            value=_gain("weight-decay", over="paper"),
        ),
        Part(
            name="untied",
            statement="untied embeddings are a little better",
            paper="small gain (iGPT-S)",
            quantity="probe accuracy untied minus tied",
            value=_gain("paper", over="tied"),
        ),
        Part(
            name="zero-heads",
            statement="heads that start at zero are a little better",
            paper="small gain (iGPT-S)",
            quantity="probe accuracy with heads from zero minus from random",
            value=_gain("paper", over="non-zero-heads"),
        ),
        Part(
            name="initialization",
            statement="the layer-dependent initialization of the released code is chosen",
            quantity="probe accuracy with the released code's initialization minus with "
            "sqrt(0.125/d) for all matrices",
            value=_gain("paper", over="sparse-initialization"),
        ),
        Part(
            name="float32",
            statement="float32 is a little better than 16 bits",
            paper="small gain (iGPT-S)",
            quantity="probe accuracy trained in float32 minus in bfloat16",
            value=_gain("float32", over="paper"),
        ),
        Part(
            name="mask-0.2",
            statement="hiding 20 % is as good as 15 %",
            paper="no change",
            quantity="BERT's probe accuracy, 20 % minus 15 %",
            equal=True,
            value=_gain("mask-0.2", over="bert"),
        ),
        Part(
            name="mask-more",
            statement="hiding more is worse",
            paper="25, 30 and 35 % are worse",
            quantity="BERT's probe accuracy, 15 % minus the mean of 25, 30 and 35 %",
            value=_more_masked,
        ),
    ),
    controls=(past_plateau(_under_plateau),),
    rows=dict,
    head="network",
    columns={
        "test accuracy": lambda seeds: percent([seed.network.test_accuracy for seed in seeds]),
        "nats per pixel": lambda seeds: nats([seed.network.nats_per_pixel for seed in seeds]),
        "spikes": lambda seeds: ", ".join(str(seed.spikes) for seed in seeds),
        "diverged": lambda seeds: str(sum(seed.network.diverged is not None for seed in seeds)),
    },
    draw=_draw,
    below="probe accuracy, points over the paper's choice (masks: over 0.15)",
)
