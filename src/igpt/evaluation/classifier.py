"""What a fine-tuned network takes an image for, and how often it is right."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from igpt import processes
from igpt.data.store import Records
from igpt.errors import ConfigError
from igpt.evaluation.batches import measured_batches
from igpt.evaluation.confusion import Confusion, confusion
from igpt.model.classes import class_logits
from igpt.model.pretrained import Pretrained


@torch.inference_mode()
def predict(
    pretrained: Pretrained,
    records: Records,
    *,
    batch_size: int = 64,
    mask_seed: tuple[int, ...] | None = None,
    title: str | None = None,
) -> Int64[np.ndarray, " image"]:
    """Return the number of the likeliest class of each image.

    With names and probabilities, and for images of any kind, `Pretrained.classify` returns it.
    Arguments and errors as in `igpt.evaluation.batches.measured_batches`.

    Raises:
        ConfigError: The network has no class head.
    """
    if pretrained.class_names is None:
        raise ConfigError(
            "the network has no class head to predict with; fine-tune it with igpt finetune, or "
            "ask its kept probe with classify"
        )
    classes = np.zeros(len(records), dtype=np.int64)
    for part, tokens, hidden in measured_batches(
        pretrained, records, batch_size=batch_size, mask_seed=mask_seed, title=title
    ):
        logits = class_logits(pretrained.model, tokens, layer=pretrained.class_layer, hidden=hidden)
        classes[part] = logits.argmax(dim=1).cpu().numpy()
    processes.merge(classes)
    return classes


@dataclass(frozen=True, kw_only=True)
class Scored:
    """How often a fine-tuned network is right, and what it takes for what."""

    accuracy: float
    confusion: Confusion | None
    """See `igpt.evaluation.confusion`."""


def score(
    pretrained: Pretrained,
    records: Records,
    *,
    mask_seed: tuple[int, ...] | None = None,
    title: str | None = None,
) -> Scored:
    """Return how often `predict` is right about the images, and of which.

    Arguments as in `predict`.

    Raises:
        DataError: The records have no labels.
    """
    labels = records.require_labels()
    predicted = predict(pretrained, records, mask_seed=mask_seed, title=title)
    assert pretrained.class_names is not None
    return Scored(
        accuracy=int((predicted == labels).sum()) / len(labels),
        confusion=confusion(labels, predicted, classes=len(pretrained.class_names)),
    )


def accuracy(
    pretrained: Pretrained,
    records: Records,
    *,
    mask_seed: tuple[int, ...] | None = None,
    title: str | None = None,
) -> float:
    """Return how often `predict` is right about the images.

    Arguments and errors as in `score`.
    """
    return score(pretrained, records, mask_seed=mask_seed, title=title).accuracy
