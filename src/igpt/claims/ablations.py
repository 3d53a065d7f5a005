"""Appendix A.1 and section 2.1: what the choices of the recipe are worth."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from igpt.claims.claim import Claim, Measured, nats, percent
from igpt.claims.laboratory import Laboratory
from igpt.claims.scale import ABLATIONS, MASK_RATES, Scale
from igpt.claims.verdict import Part
from igpt.training.metrics import read_metrics

_SPIKE = 0.5  # nats over the running median: what counts as a spike of the training loss
_WINDOW = 50


def _variants(scale: Scale) -> list[str]:
    masks = [f"mask-{rate}" for rate in MASK_RATES]
    return ["base", "bert", *ABLATIONS, *masks, *(["float32"] if scale.bfloat16 else [])]


def _measure(laboratory: Laboratory, seed: int) -> Measured:
    found = {}
    for variant in _variants(laboratory.scale):
        run = laboratory.pretrained(variant, seed)
        found[variant] = {
            "test_accuracy": laboratory.probe(variant, seed).test_accuracy,
            "nats_per_pixel": laboratory.loss(variant, seed),
            "spikes": spikes([line["loss"] for line in read_metrics(run.metrics)]),
        }
    return found


def spikes(losses: Sequence[float]) -> int:
    """Count the steps whose loss is far over the median of those shortly before."""
    return sum(
        bool(losses[step] - np.median(losses[step - _WINDOW : step]) > _SPIKE)
        for step in range(_WINDOW, len(losses))
    )


def _values(measured: Measured) -> dict[str, float]:
    accuracy = {name: found["test_accuracy"] for name, found in measured.items()}
    base, bert = accuracy["base"], accuracy["bert"]
    found = {
        "beta2": float(measured["beta2-0.999"]["spikes"] - measured["base"]["spikes"]),
        "weight-decay": accuracy["weight-decay"] - base,
        "untied": base - accuracy["tied"],
        "zero-heads": base - accuracy["non-zero-heads"],
        "initialization": accuracy["sparse-initialization"] - base,
        "mask-0.2": accuracy["mask-0.2"] - bert,
        "mask-more": bert - accuracy["mask-0.35"],
    }
    if "float32" in accuracy:
        found["float32"] = accuracy["float32"] - base
    return found


def _table(seeds: Sequence[Measured]) -> list[dict[str, str]]:
    return [
        {
            "variant": name,
            "test accuracy": percent([measured[name]["test_accuracy"] for measured in seeds]),
            "nats per pixel": nats([measured[name]["nats_per_pixel"] for measured in seeds]),
            "spikes": ", ".join(str(measured[name]["spikes"]) for measured in seeds),
        }
        for name in seeds[0]
    ]


def _draw(axes: Axes, seeds: Sequence[Measured]) -> None:
    names = [name for name in seeds[0] if name not in ("base", "bert")]
    for place, name in enumerate(reversed(names)):
        beside = "bert" if name.startswith("mask-") else "base"
        gains = [
            100 * (measured[name]["test_accuracy"] - measured[beside]["test_accuracy"])
            for measured in seeds
        ]
        axes.barh(place, np.mean(gains), color="#9dbcd8")
        axes.plot(gains, [place] * len(gains), "o", color="#1f4e79", ms=3)
    axes.axvline(0, color="#7b8794", lw=0.8)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_xlabel("probe accuracy, points over the paper's choice (masks: over 0.15)")


CLAIM = Claim(
    name="ablations",
    title="What the recipe's choices are worth",
    source="appendix A.1, section 2.1",
    paper="Adam's beta2 of 0.999 brings spikes of the loss; weight decay of 0.01 changes nothing; "
    "small gains from float32, from untied embeddings and from heads that start at zero; hiding "
    "20 % of the pixels is as good as 15 %, more is worse.",
    parts=(
        Part(
            name="beta2",
            statement="beta2 of 0.999 brings spikes of the loss, 0.95 does not",
            paper="spikes with 0.999",
            quantity=f"steps with a loss {_SPIKE} nats over the median of {_WINDOW} before, beta2 "
            "0.999 minus 0.95",
            unit="",
        ),
        Part(
            name="weight-decay",
            statement="weight decay of 0.01 changes nothing",
            paper="no change",
            quantity="probe accuracy with weight decay minus without",
            equal_within=0.01,
        ),
        Part(
            name="untied",
            statement="untied embeddings are a little better",
            paper="small gain (iGPT-S)",
            quantity="probe accuracy untied minus tied",
        ),
        Part(
            name="zero-heads",
            statement="heads that start at zero are a little better",
            paper="small gain (iGPT-S)",
            quantity="probe accuracy with heads from zero minus from random",
        ),
        Part(
            name="initialization",
            statement="the sparse transformer's initialization is chosen",
            paper="no figure given",
            quantity="probe accuracy with the sparse transformer's initialization minus with the "
            "released code's",
        ),
        Part(
            name="float32",
            statement="float32 is a little better than 16 bits",
            paper="small gain (iGPT-S)",
            quantity="probe accuracy trained in float32 minus in bfloat16",
        ),
        Part(
            name="mask-0.2",
            statement="hiding 20 % is as good as 15 %",
            paper="no change",
            quantity="BERT's probe accuracy, 20 % minus 15 %",
            equal_within=0.01,
        ),
        Part(
            name="mask-more",
            statement="hiding 35 % is worse",
            paper="25 to 35 % are worse",
            quantity="BERT's probe accuracy, 15 % minus 35 %",
        ),
    ),
    variants=_variants,
    measure=_measure,
    values=_values,
    table=_table,
    draw=_draw,
)
