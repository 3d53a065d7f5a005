"""The masked objective (BERT): hidden pixels from the rest.

Each pixel is hidden with probability 0.15: its color embedding is zero, its position stays known.
The loss is the negative log-likelihood of the hidden pixels, averaged in each image and then over
images, as in the authors' code (openai/image-gpt, src/model.py). Only the hidden pixels' logits
are computed, which is 85 % of that work saved.
"""

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from igpt import processes
from igpt.model.config import MASK_PROBABILITY
from igpt.model.transformer import ImageGPT
from igpt.randomness import Stream, stream


def random_mask(
    tokens: Int[Tensor, "batch position"],
    generator: torch.Generator,
    probability: float = MASK_PROBABILITY,
) -> Bool[Tensor, "batch position"]:
    """Return which pixels are hidden in a step: each by itself, with the given probability.

    Drawn for the images of all processes, on the generator's device, and moved to that of the
    tokens, so that a seed means the same masks on any number of processes and on any machine.
    """
    images, positions = tokens.shape
    draws = torch.rand(
        (images * processes.count(), positions), generator=generator, device=generator.device
    )
    return (processes.share(draws) < probability).to(tokens.device)


def image_masks(
    tokens: Int[Tensor, "batch position"],
    seed: tuple[int, ...],
    numbers: Iterable[int],
    probability: float = MASK_PROBABILITY,
) -> Bool[Tensor, "batch position"]:
    """Return which pixels are hidden in evaluation, a pure function of seed and image number."""
    draws = [
        stream(Stream.IMAGE_MASKS, *seed, number).random(tokens.shape[1]) for number in numbers
    ]
    return torch.from_numpy(np.stack(draws) < probability).to(tokens.device)


def hidden_color_loss(
    model: ImageGPT,
    final: Float[Tensor, "batch position width"],
    tokens: Int[Tensor, "batch position"],
    hidden: Bool[Tensor, "batch position"],
) -> Float[Tensor, ""]:
    """Return the mean over images of each image's mean loss over its hidden pixels, in nats.

    An image without a hidden pixel (only a tiny one can have none) counts as zero.
    """
    losses = _color_losses(model, final, tokens, hidden)
    weights = 1 / (hidden.sum(dim=1, keepdim=True).clamp(min=1) * len(tokens))
    return (losses * weights.expand_as(hidden)[hidden]).sum()


def hidden_color_losses(
    model: ImageGPT,
    final: Float[Tensor, "batch position width"],
    tokens: Int[Tensor, "batch position"],
    hidden: Bool[Tensor, "batch position"],
) -> Float[Tensor, " batch"]:
    """Return each image's mean loss over its hidden pixels, as `hidden_color_loss` counts it."""
    losses = _color_losses(model, final, tokens, hidden)
    sums = losses.new_zeros(len(tokens)).index_add_(0, hidden.nonzero()[:, 0], losses)
    return sums / hidden.sum(dim=1).clamp(min=1)


def _color_losses(
    model: ImageGPT,
    final: Float[Tensor, "batch position width"],
    tokens: Int[Tensor, "batch position"],
    hidden: Bool[Tensor, "batch position"],
) -> Float[Tensor, " pixel"]:
    """Return the negative log-likelihood of every hidden pixel, image by image."""
    return F.cross_entropy(
        model.color_head(final[hidden]).float(), tokens[hidden], reduction="none"
    )


def masked(
    model: ImageGPT,
    tokens: Int[Tensor, "batch position"],
    labels: Int[Tensor, " batch"] | None,
    generator: torch.Generator,
    *,
    probability: float = MASK_PROBABILITY,
) -> dict[str, Float[Tensor, ""]]:
    """Return the loss over randomly hidden pixels, in nats (an `Objective`).

    Source: Chen et al. 2020, section 2.1.
    """
    hidden = random_mask(tokens, generator, probability)
    return {"loss": hidden_color_loss(model, model.final_state(tokens, hidden), tokens, hidden)}
