"""Appendix A.1 and section 2.1: what the choices of the recipe are worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Part
from igpt.claims.display import BAR, PAPER, POINT, nats, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.scale import ABLATIONS, MASKS, Scale
from igpt.training.metrics import read_metrics

_SPIKE = 0.5  # nats over the running median: what counts as a spike of the training loss
_WINDOW = 50


@dataclass(frozen=True, kw_only=True)
class Network:
    """The base, BERT, or one of them with another choice."""

    test_accuracy: float
    """Of the best layer's probe."""
    nats_per_pixel: float
    """On test images."""
    spikes: int
    """Of the training loss."""


Measured = dict[str, Network]
"""By the network's name."""


def _networks(scale: Scale) -> list[str]:
    return ["base", "bert", *ABLATIONS, *MASKS, *(["float32"] if scale.bfloat16 else [])]


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    return {
        name: Network(
            test_accuracy=laboratory.probe(name, seed).test_accuracy,
            nats_per_pixel=laboratory.loss(name, seed),
            spikes=spikes(
                [line["loss"] for line in read_metrics(laboratory.pretrained(name, seed).metrics)]
            ),
        )
        for name in _networks(laboratory.scale)
    }


def spikes(losses: Sequence[float]) -> int:
    """Count the steps whose loss is far over the median of those shortly before."""
    return sum(
        bool(losses[step] - np.median(losses[step - _WINDOW : step]) > _SPIKE)
        for step in range(_WINDOW, len(losses))
    )


def _gain(network: str, *, over: str) -> Callable[[Measured], float | None]:
    """Return the function that says how much better one network's probe is than another's."""

    def value(measured: Measured) -> float | None:
        if not {network, over} <= measured.keys():
            return None
        return measured[network].test_accuracy - measured[over].test_accuracy

    return value


def _draw(axes: Axes, seeds: list[Measured]) -> None:
    names = [name for name in reversed(seeds[0]) if name not in ("base", "bert")]
    for index, name in enumerate(names):
        gain = _gain(name, over="bert" if name in MASKS else "base")
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
    "small gains from float32, from untied embeddings and from heads that start at zero; hiding "
    "20 % of the pixels is as good as 15 %, more is worse.",
    networks=_networks,
    measure=_measure,
    parts=(
        Part(
            name="beta2",
            statement="beta2 of 0.999 brings spikes of the loss, 0.95 does not",
            paper="spikes with 0.999",
            quantity=f"steps with a loss {_SPIKE} nats over the median of {_WINDOW} before, beta2 "
            "0.999 minus 0.95",
            unit="",
            value=lambda measured: measured["beta2-0.999"].spikes - measured["base"].spikes,
        ),
        Part(
            name="weight-decay",
            statement="weight decay of 0.01 changes nothing",
            paper="no change",
            quantity="probe accuracy with weight decay minus without",
            equal_within=0.01,
            value=_gain("weight-decay", over="base"),
        ),
        Part(
            name="untied",
            statement="untied embeddings are a little better",
            paper="small gain (iGPT-S)",
            quantity="probe accuracy untied minus tied",
            value=_gain("base", over="tied"),
        ),
        Part(
            name="zero-heads",
            statement="heads that start at zero are a little better",
            paper="small gain (iGPT-S)",
            quantity="probe accuracy with heads from zero minus from random",
            value=_gain("base", over="non-zero-heads"),
        ),
        Part(
            name="initialization",
            statement="the sparse transformer's initialization is chosen",
            quantity="probe accuracy with the sparse transformer's initialization minus with the "
            "released code's",
            value=_gain("sparse-initialization", over="base"),
        ),
        Part(
            name="float32",
            statement="float32 is a little better than 16 bits",
            paper="small gain (iGPT-S)",
            quantity="probe accuracy trained in float32 minus in bfloat16",
            value=_gain("float32", over="base"),
        ),
        Part(
            name="mask-0.2",
            statement="hiding 20 % is as good as 15 %",
            paper="no change",
            quantity="BERT's probe accuracy, 20 % minus 15 %",
            equal_within=0.01,
            value=_gain("mask-0.2", over="bert"),
        ),
        Part(
            name="mask-more",
            statement="hiding 35 % is worse",
            paper="25 to 35 % are worse",
            quantity="BERT's probe accuracy, 15 % minus 35 %",
            value=_gain("bert", over="mask-0.35"),
        ),
    ),
    rows=dict,
    head="network",
    columns={
        "test accuracy": lambda seeds: percent([seed.test_accuracy for seed in seeds]),
        "nats per pixel": lambda seeds: nats([seed.nats_per_pixel for seed in seeds]),
        "spikes": lambda seeds: ", ".join(str(seed.spikes) for seed in seeds),
    },
    draw=_draw,
    below="probe accuracy, points over the paper's choice (masks: over 0.15)",
)
