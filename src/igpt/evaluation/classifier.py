"""What a fine-tuned network says an image is, and how often it is right."""

import numpy as np
import torch
from jaxtyping import Int64
from tqdm import tqdm

from igpt.data.batches import evaluation_batches
from igpt.data.store import Records
from igpt.model.pretrained import Pretrained
from igpt.objectives.classification import class_logits
from igpt.objectives.masked import image_masks


@torch.inference_mode()
def predict(
    pretrained: Pretrained,
    records: Records,
    *,
    limit: int | None = None,
    batch_size: int = 64,
    mask_seed: tuple[int, ...] | None = None,
    title: str | None = None,
) -> Int64[np.ndarray, " image"]:
    """Return the class number of the first `limit` images, or of all.

    Args:
        pretrained: Network with a class head, and its tokenizer.
        records: Images.
        limit: How many.
        batch_size: Images at a time.
        mask_seed: For a BERT network: hide pixels of each image as in training, drawn from this
            seed and the image's number; by default all pixels are shown.
        title: What to call the progress bar; None for no bar.

    Raises:
        ConfigError: Pixels of an autoregressive network are to be hidden.
    """
    if mask_seed is not None:
        pretrained.model.config.require_bert()
    model = pretrained.model
    count = len(records) if limit is None else min(limit, len(records))
    classes: list[np.ndarray] = []
    done = 0
    bar = tqdm(total=count, desc=title, unit="image", disable=None if title else True)
    with bar:
        for batch in evaluation_batches(
            records, pretrained.tokenizer, batch_size=batch_size, limit=count
        ):
            tokens = batch.tokens.to(model.device)
            hidden = None
            if mask_seed is not None:
                hidden = image_masks(
                    tokens, mask_seed, range(done, done + len(tokens)), pretrained.mask_probability
                )
            logits = class_logits(model, tokens, layer=pretrained.class_layer, hidden=hidden)
            classes.append(logits.argmax(dim=1).cpu().numpy())
            done += len(tokens)
            bar.update(len(tokens))
    return np.concatenate(classes)


def accuracy(
    pretrained: Pretrained, records: Records, *, limit: int | None = None, title: str | None = None
) -> float:
    """Return the share of the first `limit` images, or of all, whose class is told rightly.

    Arguments as in `predict`.

    Raises:
        DataError: The records have no labels.
    """
    classes = predict(pretrained, records, limit=limit, title=title)
    return float((classes == records.require_labels()[: len(classes)]).mean())
