"""Hidden pixels, drawn by a network that sees all the others: BERT's and masked diffusion.

Each pass reads the whole image and draws some of the hidden pixels, each by itself, from what the
network says of it; the next sees them. One pixel a pass, in random order, draws from the very
distribution that the bound of `igpt.objectives.diffusion` is of; fewer passes draw several pixels
that do not see each other, and what that costs is measured by `igpt.evaluation.bound.passes_curve`.

This file knows tokens, not images; `igpt.evaluation.completion` turns the one into the other.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from igpt.model.config import SamplingConfig
from igpt.model.sampling import draw
from igpt.model.transformer import ImageGPT


def hidden_after(
    hidden: Int[Tensor, "*shape"], done: int | Int[Tensor, "*shape"], passes: int
) -> Int[Tensor, "*shape"]:
    """Return how many of so many hidden pixels are left after some of the passes, each the same."""
    return hidden * (passes - done) // passes


@torch.inference_mode()
def draw_hidden(
    model: ImageGPT,
    tokens: Int[Tensor, "batch position"],
    hidden: Bool[Tensor, "batch position"],
    config: SamplingConfig | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch position"]:
    """Return the images with colors drawn for their hidden pixels, and all others as they are.

    Args:
        model: A network that was trained with hidden pixels.
        tokens: The images; what they have where pixels are hidden is not looked at.
        hidden: Which pixels to draw, of each image any number.
        config: How to draw, and in which order.
        generator: Source of the draws, on the model's device; torch's own if None.

    Raises:
        ConfigError: The network is autoregressive.
    """
    drawn = tokens.clone()
    for passed in draw_in_passes(model, tokens, hidden, config, generator=generator):
        drawn = passed[0]
    return drawn


@torch.inference_mode()
def draw_in_passes(
    model: ImageGPT,
    tokens: Int[Tensor, "batch position"],
    hidden: Bool[Tensor, "batch position"],
    config: SamplingConfig | None = None,
    *,
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Int[Tensor, "batch position"], Bool[Tensor, "batch position"]]]:
    """Yield the images after each pass, and which of their pixels it has drawn; see `draw_hidden`.

    The tokens are the same tensor each time, which the next pass goes on with.
    """
    config = config or SamplingConfig()
    model.config.require_bert()
    tokens, hidden = tokens.clone(), hidden.clone()
    counts = hidden.sum(dim=1)
    most = int(counts.max()) if len(counts) else 0
    passes = min(config.passes or most, most)  # more would draw nothing
    order = torch.rand(hidden.shape, generator=generator, device=hidden.device)
    for done in range(1, passes + 1):
        final = model.final_state(tokens, hidden)
        if config.most_certain_first:
            likeliest = model.color_head(final[hidden]).float().softmax(dim=-1).amax(dim=-1)
            order[hidden] = -likeliest
        rank = order.masked_fill(~hidden, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
        drawn = hidden.sum(dim=1) - hidden_after(counts, done, passes)
        chosen = hidden & (rank < drawn[:, None])
        tokens[chosen] = draw(model.color_head(final[chosen]), config, generator)
        hidden &= ~chosen
        yield tokens, chosen
