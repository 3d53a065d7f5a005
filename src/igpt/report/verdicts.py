"""What a result says, in one sentence: whether something helped, or that it cannot be told.

    probe_verdict(probe, untrained=untrained)
    # "Pretraining helped: 66.6 % against 31.0 % for the network untrained; more than the 24.0 % for
    # raw pixels."

An accuracy is called better or worse than another only where their difference is surely one, by the
rule of `igpt.evaluation.proportions`. Else the sentence says from which difference on so many test
images can tell. Accuracies are compared only where both are of the same test images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from igpt.amounts import counted
from igpt.data.description import read_description
from igpt.errors import printable
from igpt.evaluation.confusion import Confusion
from igpt.evaluation.few_labels import FewLabelsResult
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.outliers import OutliersResult
from igpt.evaluation.probe import LayerProbes
from igpt.evaluation.proportions import Comparison, Share
from igpt.runs.along import Along
from igpt.runs.finetune import FinetuneResult
from igpt.runs.reuse import kept_probe_of
from igpt.runs.run import FinetuneSettings, RunFolder

UNTRAINED, RAW, PROBE = "the network untrained", "raw pixels", "a linear probe"
"""What an accuracy is compared with."""


_TOLD = 0.8  # the AUROC from which on images are said to be told apart


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What was measured of the same network on the same images, to compare a result with."""

    probe: LayerProbes | None = None
    untrained: LayerProbes | None = None

    @classmethod
    def of(cls, path: Path, data: Path | None = None) -> "Beside":
        """Return what a run, or of a fine-tuned one the run that it began from, keeps.

        Args:
            path: The run; of a model that is in no run, nothing is known.
            data: The record store that it is to be of; by default that of the run.

        Raises:
            CheckpointError: The run's recipe is damaged.
            DataError: There is no record store in `data`.
        """
        if not RunFolder.is_at(path):
            return cls()
        settings = RunFolder.open(path).settings
        images = settings.data.sha256 if data is None else read_description(data)[1]
        if isinstance(settings, FinetuneSettings):
            path = Path(settings.source)
        return cls(
            probe=kept_probe_of(path, images),
            untrained=kept_probe_of(path, images, untrained=True),
        )


NOTHING = Beside()
"""Where nothing else is known."""


def class_names(result: LayerProbes | FinetuneResult) -> list[str]:
    """Return the names of the classes in a result's confusion matrix; numbers where none is known.

    The result has one.
    """
    assert result.confusion is not None
    names = result.class_names or range(len(result.confusion))
    return [printable(str(name)) for name in names]


def probe_share(probe: LayerProbes) -> Share | None:
    """Return the counts behind the test accuracy of a probe's best layer."""
    return _share(probe.test_accuracy, probe.records.get("test"))


def raw_share(probe: LayerProbes) -> Share | None:
    """Return those behind the test accuracy of raw pixels, if they were probed too."""
    raw = probe.raw_pixels
    return None if raw is None else _share(raw.test_accuracy, probe.records.get("test"))


def tuned_share(result: FinetuneResult) -> Share | None:
    """Return those behind the test accuracy of a fine-tuned network."""
    return _share(result.test_accuracy, result.test_images)


def _share(accuracy: float | None, images: int | None) -> Share | None:
    return Share.of(accuracy, images) if accuracy is not None and images else None


def chance(confusion: Confusion | None) -> float | None:
    """Return how often who always names the commonest class of the test images is right."""
    rows = [sum(row) for row in confusion or ()]
    return max(rows) / sum(rows) if sum(rows) else None


def probe_verdict(result: LayerProbes, beside: Beside) -> str:
    """Return whether pretraining helped, or at least the network.

    The same is said of the probes of an untrained network, if the pretrained one was probed.
    """
    if result.solver != "lbfgs":  # what else is known is by that solver
        beside = NOTHING
    probe, untrained = result, beside.untrained
    if result.untrained and beside.probe is not None:
        probe, untrained = beside.probe, result
    share = probe_share(probe)
    if share is None:
        return ""
    rivals = {RAW: raw_share(probe)}
    if untrained is not None and not probe.untrained:
        rivals = {UNTRAINED: probe_share(untrained), **rivals}
    what = "Pretraining" if UNTRAINED in rivals else "The network"
    return judged(what, share, rivals, chance=chance(probe.confusion))


def tuned_verdict(result: FinetuneResult, beside: Beside) -> str:
    """Return whether fine-tuning helped."""
    share, probe = tuned_share(result), beside.probe
    if share is None:
        return ""
    rivals = {PROBE: probe_share(probe), RAW: raw_share(probe)} if probe else {}
    return judged("Fine-tuning", share, rivals, chance=chance(result.confusion))


def verdicts(probe: LayerProbes, untrained: LayerProbes, tuned: FinetuneResult) -> tuple[str, ...]:
    """Return what a whole pipeline shows, of pretraining and of fine-tuning."""
    beside = Beside(probe=probe, untrained=untrained)
    return probe_verdict(probe, beside), tuned_verdict(tuned, beside)


def few_labels_verdict(result: FewLabelsResult, beside: Beside) -> str:
    """Return what the fewest labels give, beside all of them."""
    row, full = min(result.rows, key=lambda row: row.labels_per_class), beside.probe
    few = f"{counted(row.labels_per_class, 'label')} a class give {percent(row.mean)}"
    few = few.replace("label a class give", "label a class gives")
    layer = next((one for one in full.layers if one.layer == result.layer), None) if full else None
    if full is None or layer is None or full.records.get("test") != result.test_images:
        return f"{few}, as a mean over {counted(result.subsets, 'random subset')}."
    labels = full.records.get("train", 0) + full.records.get("validation", 0)
    return f"{few}, and all {labels:,} labels {percent(layer.test_accuracy)} at the same layer."


def masks_verdict(result: MasksResult) -> str:
    """Return whether several masks are better than one."""
    if not result.test_images:
        return ""
    modal, single, unmasked = (
        Share.of(share, result.test_images)
        for share in (result.modal, result.single_mean, result.unmasked)
    )
    rivals = {"one mask, on average": single, "no mask": unmasked}
    return judged("Voting over masks", modal, rivals, chance=None)


def along_verdict(result: Along) -> str:
    """Return whether the features became better on the way."""
    if len(result.snapshots) < 2:
        return ""
    first, *_, last = result.snapshots
    if not first.test_images or first.test_images != last.test_images:
        return ""
    before, after = (Share.of(row.test_accuracy, first.test_images) for row in (first, last))
    return judged(
        f"Training on from step {first.step:,}", after, {"its probe then": before}, chance=None
    )


def likelihood_interval(result: LikelihoodResult) -> tuple[float, float]:
    """Return the interval at 95 % of the nats per pixel of such images, by the normal rule."""
    assert result.standard_error is not None
    reach = 1.96 * result.standard_error
    return result.nats_per_pixel - reach, result.nats_per_pixel + reach


def likelihood_verdict(result: LikelihoodResult) -> str:
    """Return how much less a network is surprised than one that knows nothing."""
    blind = result.chance_nats_per_pixel
    if not blind:
        return ""
    saved = 1 - result.nats_per_pixel / blind
    if saved <= 0:
        return f"No better than a color drawn blindly, which costs {blind:.2f} nats."
    least = "at least " if result.objective == "diffusion" else ""
    return (
        f"A color drawn blindly costs {blind:.2f} nats; {least}{percent(saved)} of that is saved."
    )


def outliers_verdict(result: OutliersResult) -> str:
    """Return which foreign images the loss tells from the network's own, and which fool it."""
    told, likelier, unclear = [], [], []
    for row in result.foreign:
        group = told if row.auroc_loss >= _TOLD else likelier if row.auroc_loss < 0.5 else unclear
        group.append(row.name)
    parts = {
        "The loss tells {} from own images": told,
        "it hardly tells {} from them": unclear,
        "it finds {} likelier than them": likelier,
    }
    texts = [text.format(", ".join(names)) for text, names in parts.items() if names]
    text = "; ".join(texts)
    if not told:
        text = text.replace("it ", "The loss ", 1).replace("them", "own images", 1)
    return text and text + "."


def percent(share: float) -> str:
    """Return a share as a sentence has it: `66.6 %`."""
    return f"{100 * share:.1f} %"


def share_text(share: Share) -> str:
    """Return an accuracy with all that stands behind it."""
    low, high = share.interval
    return (
        f"{percent(share.value)}, {share.right:,} of {counted(share.total, 'image')}, 95 % "
        f"interval {100 * low:.1f} to {percent(high)}"
    )


def judged(
    what: str, share: Share, rivals: Mapping[str, Share | None], *, chance: float | None
) -> str:
    """Return whether something helped, by the accuracy with it and those without it.

    Args:
        what: What may have helped, as a sentence begins.
        share: The accuracy with it.
        rivals: Those to compare it with, by what they are of; whether it helped is told by the
            first. None of them counts that was not measured, or on other images.
        chance: What always naming the commonest class gives; None if that is not known.
    """
    known = {name: one for name, one in rivals.items() if one and one.total == share.total}
    if not known:
        return _against_chance(share, chance)
    found: dict[Comparison, list[str]] = {"better": [], "open": [], "worse": []}
    for name, rival in known.items():
        found[share.compared_with(rival)].append(f"{percent(rival.value)} for {name}")
    is_open = bool(found["open"])
    key = share.compared_with(next(iter(known.values())))
    text = _LEADS[key].format(what, what[0].lower() + what[1:])
    text += f": {percent(share.value)} against {' and '.join(found.pop(key))}"
    for kind, names in found.items():
        if names:
            text += f"; {_MORE[kind]} {' and '.join(names)}"
    if is_open:
        text += f"; {_smallest(share)}"
    if chance is not None and share.interval[0] <= chance:
        text += f"; not surely more than chance, {percent(chance)}"
    return text + "."


_LEADS: dict[Comparison, str] = {
    "better": "{0} helped",
    "worse": "{0} did not help",
    "open": "Whether {1} helped cannot be told",
}
_MORE: dict[Comparison, str] = {
    "better": "it is more than",
    "worse": "it is less than",
    "open": "it is not surely other than",
}


def _against_chance(share: Share, chance: float | None) -> str:
    if chance is None:
        return ""
    low, high = share.interval
    word = (
        "More than" if low > chance else "Less than" if high < chance else "Not surely other than"
    )
    return f"{word} chance: {percent(share.value)} against {percent(chance)}."


def _smallest(share: Share) -> str:
    smallest, images = share.smallest_difference, counted(share.total, "test image")
    if smallest >= 1:
        return f"{images} can tell no difference at all"
    points = counted(round(100 * smallest), "point")
    return f"{images} tell differences from about {points} on"
