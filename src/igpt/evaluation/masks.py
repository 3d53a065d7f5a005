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
from igpt.evaluation.classifier import predict
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import LinearProbe
from igpt.model.pretrained import Pretrained
from igpt.randomness import Stream, stream

_TRAIN, _TEST = 0, 1  # whose images the masks hide


@dataclass(frozen=True, kw_only=True)
class MaskEnsemble:
    """Accuracies on the test records."""

    masks: int
    modal: float
    """Of the modal class over all masks."""
    single: tuple[float, ...]
    """Of the class by each mask alone."""
    unmasked: float
    """Of whole images; of a probe that was fitted on features of whole images."""

    @property
    def single_mean(self) -> float:
        """What one mask reaches, averaged over the masks."""
        return statistics.fmean(self.single)


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
) -> MaskEnsemble:
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

    def features(records: Records, *stream: int) -> np.ndarray:
        mask_seed = (seed, *stream) if stream else None
        found = extract_features(
            pretrained, records, layers=[layer], mask_seed=mask_seed, title=records.name
        )
        return found[:, 0]

    probe = LinearProbe(l2).fit(features(train, _TRAIN), labels)
    votes = np.stack([probe.predict(features(test, _TEST, mask)) for mask in range(masks)], axis=1)
    whole = LinearProbe(l2).fit(features(train), labels)
    return _counted(votes, truth, seed=seed, unmasked=whole.score(features(test), truth))


def class_mask_ensemble(
    pretrained: Pretrained, test: Records, *, masks: int = 5, seed: int = 0
) -> MaskEnsemble:
    """Return how often the class head of a fine-tuned network is right under masks, and without.

    Args:
        pretrained: A BERT network with a class head.
        test: Labelled images.
        masks: Masks of each image.
        seed: Draws the masks, and breaks ties.

    Raises:
        ConfigError: The network is autoregressive, or there is no mask.
        DataError: The records have no labels.
    """
    _check(pretrained, masks)
    truth = test.require_labels()
    votes = [
        predict(pretrained, test, mask_seed=(seed, _TEST, mask), title=f"mask {mask + 1}")
        for mask in range(masks)
    ]
    unmasked = float((predict(pretrained, test, title="no mask") == truth).mean())
    return _counted(np.stack(votes, axis=1), truth, seed=seed, unmasked=unmasked)


def _check(pretrained: Pretrained, masks: int) -> None:
    pretrained.model.config.require_bert()
    if masks < 1:
        raise ConfigError(f"masks must be at least 1, got {masks}")


def _counted(
    votes: Integer[np.ndarray, "image mask"],
    truth: Integer[np.ndarray, " image"],
    *,
    seed: int,
    unmasked: float,
) -> MaskEnsemble:
    return MaskEnsemble(
        masks=votes.shape[1],
        modal=float((modal_class(votes, seed=seed) == truth).mean()),
        single=tuple(float(share) for share in (votes == truth[:, None]).mean(axis=0)),
        unmasked=unmasked,
    )
