"""The autoregressive objective: each pixel from those before it.

An objective is a function that the training loop calls on every batch:

    measures = objective(model, tokens, labels, generator)
    measures["loss"].backward()

It returns what it measured by name, every one a mean over the images, so that the shares of a split
batch can be averaged by their sizes. Random choices come from the generator alone, which the loop
seeds from the step; a step can then be repeated exactly.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from igpt.model.transformer import ImageGPT

Objective = Callable[[ImageGPT, Tensor, Tensor | None, torch.Generator], dict[str, Tensor]]
"""Model, tokens, labels or None, and generator to named losses, of which `loss` is to fall."""


def color_losses(
    logits: Float[Tensor, "batch position color"], tokens: Int[Tensor, "batch position"]
) -> Float[Tensor, "batch position"]:
    """Return the negative log-likelihood of every pixel, in nats.

    Nothing is shifted here: the causal model has already shifted its input.
    """
    return F.cross_entropy(
        logits.flatten(0, 1).float(), tokens.flatten(), reduction="none"
    ).view_as(tokens)


def autoregressive(
    model: ImageGPT,
    tokens: Int[Tensor, "batch position"],
    labels: Int[Tensor, " batch"] | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Return the mean negative log-likelihood of all pixels, in nats (an `Objective`).

    Source: Chen et al. 2020, section 2.1.
    """
    return {"loss": F.cross_entropy(model(tokens).flatten(0, 1).float(), tokens.flatten())}
