"""Classes by several masks: what a BERT network says of an image, hidden in several ways.

Its inputs were masked in training, so they are masked in evaluation, too: m independent masks an
image, a class by each, and the modal class, ties broken at random (Chen et al. 2020, section 4.6).

    result = mask_ensemble(pretrained, train, test, layer=12, l2=1e-3, masks=5)
    result.modal, result.single, result.unmasked
"""

import statistics
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Integer

from igpt.data.store import Records
from igpt.errors import ConfigError
from igpt.evaluation.classifier import accuracy, predict
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import LinearProbe
from igpt.model.pretrained import Pretrained
from igpt.randomness import Stream, stream

_TRAIN, _TEST = 0, 1  # whose images the masks hide


@dataclass(frozen=True, kw_only=True)
class MasksResult:
    """Test accuracies of a BERT network under masks."""

    layer: int
    """That was read."""
    penalty: float | None
    """Of the probes; None for a class head."""
    seed: int
    masks: int
    modal: float
    """Of the modal class over all masks."""
    single: tuple[float, ...]
    """Of the class by each mask alone."""
    single_mean: float
    """What one mask reaches, averaged over the masks."""
    unmasked: float
    """Of whole images; of a probe that was fitted on features of whole images."""


def modal_class(
    votes: Integer[np.ndarray, "image mask"], *, seed: int = 0
) -> Int64[np.ndarray, " image"]:
    """Return the commonest vote of each image; among equally common ones, one at random.

    The draw is a pure function of the seed and the image's number.
    """
    chosen = np.empty(len(votes), dtype=np.int64)
    for number, row in enumerate(votes):
        classes, counts = np.unique(row, return_counts=True)
        ties = classes[counts == counts.max()]
        draw = stream(Stream.TIES, seed, number).integers(len(ties))
        chosen[number] = ties[draw]
    return chosen


def mask_ensemble(
    pretrained: Pretrained,
    train: Records,
    test: Records,
    *,
    layer: int,
    l2: float,
    masks: int = 5,
    seed: int = 0,
) -> MasksResult:
    """Return how often linear probes are right under masks, and on whole images beside it.

    The probe for masked images is fitted on features of training images under one mask each.

    Args:
        pretrained: A BERT network.
        train: Labelled images to fit the probes on.
        test: Labelled images.
        layer: Layer whose features are read.
        l2: Penalty of the probes.
        masks: Masks of each test image.
        seed: Draws the masks, and breaks ties.

    Raises:
        ConfigError: The network is autoregressive, has no such layer, or there is no mask.
        DataError: The records have no labels.
    """
    _check(pretrained, masks)
    labels, truth = train.require_labels(), test.require_labels()

    def features(records: Records, mask_seed: tuple[int, ...] | None) -> np.ndarray:
        return extract_features(
            pretrained, records, layers=[layer], mask_seed=mask_seed, title=records.name
        )[:, 0]

    probe = LinearProbe(l2).fit(features(train, (seed, _TRAIN)), labels)
    votes = [probe.predict(features(test, (seed, _TEST, mask))) for mask in range(masks)]
    whole = LinearProbe(l2).fit(features(train, None), labels)
    unmasked = whole.score(features(test, None), truth)
    return _result(votes, truth, layer=layer, penalty=l2, seed=seed, unmasked=unmasked)


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
    )
