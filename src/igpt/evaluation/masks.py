"""Classes by several masks: what a BERT network says of an image, hidden in several ways.

Its inputs were masked in training, so they are masked in evaluation, too: m independent masks an
image, a class by each, and the modal class, ties broken at random (Chen et al. 2020, section 4.6).

    result = mask_ensemble(pretrained, store, unmasked=probes.test_accuracy, masks=5)
    result.modal, result.single, result.unmasked

What is chosen for such a network is chosen so too, by the modal class of validation images.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer

from igpt.data.store import FOLDED, Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.choice import at_edge, doubts, turned
from igpt.evaluation.classifier import accuracy, predict
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import PENALTIES, LinearProbe, total_variance
from igpt.model.pretrained import Pretrained
from igpt.randomness import Stream, stream

_TRAIN, _TEST, _VALIDATION = 0, 1, 2  # whose images the masks hide


@dataclass(frozen=True, kw_only=True)
class MasksResult:
    """Test accuracies of a BERT network under masks."""

    layer: int
    """That was read."""
    penalty: float | None
    """Of the probes; None for a class head."""
    validation: float | None = None
    """Accuracy of the modal class by which layer and penalty were chosen."""
    at_edge: bool | None = None
    """Whether the penalty is at an edge of its grid; None for a class head."""
    converged: bool | None = None
    """Whether the probes did; None for a class head."""
    seed: int
    masks: int
    modal: float
    """Of the modal class over all masks."""
    single: tuple[float, ...]
    """Of the class by each mask alone."""
    single_mean: float
    """What one mask reaches, averaged over the masks."""
    unmasked: float
    """Of whole images; of a probe, its layer and penalty, that are for whole images."""
    test_images: int | None = None
    """That all of these are of; None in results older than the question."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the accuracies may be too low, in words."""
        return doubts(converged=self.converged, edge=self.at_edge)


def modal_class(
    votes: Integer[np.ndarray, "image mask"], *, seed: int = 0
) -> Int64[np.ndarray, " image"]:
    """Return the commonest vote of each image; among equally common ones, one at random.

    The draw is a pure function of the seed and the image's number.
    """
    classes = np.unique(votes)
    counts = (votes[:, :, None] == classes).sum(axis=1)  # (image, class)
    commonest = counts == counts.max(axis=1, keepdims=True)
    chosen = classes[commonest.argmax(axis=1)].astype(np.int64)
    for number in np.flatnonzero(commonest.sum(axis=1) > 1).tolist():
        ties = classes[commonest[number]]
        chosen[number] = ties[stream(Stream.TIES, seed, number).integers(len(ties))]
    return chosen


def mask_ensemble(
    pretrained: Pretrained,
    store: RecordStore,
    *,
    unmasked: float,
    layers: Sequence[int] | None = None,
    penalties: Sequence[float] = PENALTIES,
    masks: int = 5,
    seed: int = 0,
) -> MasksResult:
    """Return how often linear probes are right under masks.

    Probes are fitted on features of training images under one mask each. The layer and the penalty
    whose modal class over the masks is most often right of validation images are fitted again on
    both together, and only that probe sees test images.

    Args:
        pretrained: A BERT network.
        store: Labelled images with all three splits.
        unmasked: Test accuracy of a probe for whole images, to go with the result.
        layers: Layers to choose from, from 0 to L; all by default.
        penalties: To choose from, in parts of the features' total variance.
        masks: Masks of each validation and test image.
        seed: Draws the masks, and breaks ties.

    Raises:
        ConfigError: The network is autoregressive, has no such layer, or there is no mask.
        DataError: The records have no labels, or a split is missing.
    """
    _check(pretrained, masks)
    validation, test = store.split("validation"), store.split("test")
    learned = store.split(FOLDED)
    labels, truth = learned.require_labels(), test.require_labels()
    trained = len(learned) - len(validation)
    numbers = list(range(pretrained.model.config.layers + 1) if layers is None else layers)

    def features(records: Records, wanted: list[int], *mask: int) -> np.ndarray:
        return extract_features(
            pretrained, records, layers=wanted, mask_seed=(seed, *mask), title=records.name
        )

    fitted = features(learned, numbers, _TRAIN)
    held = [features(validation, numbers, _VALIDATION, mask) for mask in range(masks)]
    best: LinearProbe | None = None
    best_layer, validated, edge = 0, 0.0, False
    for column in range(len(numbers)):
        rows = fitted[:trained, column]
        grid = total_variance(rows).item() * np.array(penalties)
        accuracies: list[float] = []
        for probe in LinearProbe().fit_path(rows, labels[:trained], grid.tolist()):
            votes = np.stack([probe.predict(part[:, column]) for part in held], axis=1)
            right = modal_class(votes, seed=seed) == validation.labels
            accuracies.append(float(right.mean()))
            if best is None or accuracies[-1] > validated:
                best, best_layer, validated = probe, column, accuracies[-1]
            if turned(accuracies, len(validation)):
                break
        if best_layer == column:
            edge = at_edge(accuracies, len(grid))
    assert best is not None, "there is a layer, and a penalty"
    start = best
    best = LinearProbe(start.l2).fit(fitted[:, best_layer], labels, start=start)
    layer = numbers[best_layer]
    votes = [best.predict(features(test, [layer], _TEST, mask)[:, 0]) for mask in range(masks)]
    return dataclasses.replace(
        _result(votes, truth, layer=layer, penalty=best.l2, seed=seed, unmasked=unmasked),
        validation=validated,
        at_edge=edge,
        converged=start.converged_ and best.converged_,
    )


def class_mask_ensemble(
    pretrained: Pretrained, test: Records, *, masks: int = 5, seed: int = 0
) -> MasksResult:
    """Return how often the class head of a fine-tuned network is right under masks, and without.

    Arguments and errors as in `mask_ensemble`.
    """
    _check(pretrained, masks)
    truth = test.require_labels()
    votes = [
        predict(pretrained, test, mask_seed=(seed, _TEST, mask), title=f"mask {mask + 1}")
        for mask in range(masks)
    ]
    layer = pretrained.model.config.check_layer(pretrained.class_layer)
    unmasked = accuracy(pretrained, test, title="no mask")
    return _result(votes, truth, layer=layer, penalty=None, seed=seed, unmasked=unmasked)


def _check(pretrained: Pretrained, masks: int) -> None:
    pretrained.model.config.require_bert()
    if masks < 1:
        raise ConfigError(f"masks must be at least 1, got {masks}")


def _result(
    votes: list[Integer[np.ndarray, " image"]],
    truth: Integer[np.ndarray, " image"],
    *,
    layer: int,
    penalty: float | None,
    seed: int,
    unmasked: float,
) -> MasksResult:
    single = tuple(float((vote == truth).mean()) for vote in votes)
    return MasksResult(
        layer=layer,
        penalty=penalty,
        seed=seed,
        masks=len(votes),
        modal=float((modal_class(np.stack(votes, axis=1), seed=seed) == truth).mean()),
        single=single,
        single_mean=statistics.fmean(single),
        unmasked=unmasked,
        test_images=len(truth),
    )
