"""The diffusion objective: hidden pixels from the rest, however many are hidden.

Masked diffusion (Shi et al. 2024, arXiv 2406.04329, linear schedule) draws a time t from (0, 1) for
each image, hides each of its pixels with that probability, and weighs the cross entropy of those
hidden by 1/t. The mean of that is a bound on -log p(x). Here t is integrated out. Of n pixels,
every number k from 0 to n is then hidden equally often, every set of k likewise, and the mean
weight of a set is (n + 1)/k: that is to draw k from 1 to n, a set of k pixels, and to take n/k
times its loss (the any-order bound of Uria et al. 2014 and Hoogeboom et al. 2022). It is the same
bound, of less variance: no time near 0 weighs a chance pixel a thousandfold, and no image comes
without a hidden one. Each pixel of n, the bound is the mean loss over the hidden pixels, so that
the loss is BERT's (`igpt.objectives.masked`), and only how many are hidden is another.

Over a batch the numbers are stratified: one draw u, and u, u + 1/B, u + 2/B ... (modulo 1) say how
many are hidden of the B images. Each alone is uniform, and together they spread evenly.

The network is BERT's. Drawing from it is in `igpt.model.unmasking`.
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from igpt import processes
from igpt.model.transformer import ImageGPT
from igpt.model.unmasking import hidden_after
from igpt.objectives.masked import hidden_color_loss
from igpt.randomness import Stream, stream

_GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, modulo 1, spread evenly, however many they are."""


def any_share_mask(
    tokens: Int[Tensor, "batch position"], generator: torch.Generator
) -> Bool[Tensor, "batch position"]:
    """Return which pixels are hidden in a step: of each image any number, from one to all.

    Drawn for the images of all processes, on the generator's device, and moved to that of the
    tokens, so that a seed means the same masks on any number of processes and on any machine.
    """
    images, positions = len(tokens) * processes.count(), tokens.shape[1]
    where = {"generator": generator, "device": generator.device}
    first = torch.rand(1, dtype=torch.float64, **where)
    shares = (first + torch.arange(images, device=generator.device) / images) % 1
    order = torch.rand((images, positions), **where)
    hidden = _hidden(processes.share(order), hidden_counts(processes.share(shares), positions))
    return hidden.to(tokens.device)


def image_any_share_masks(
    tokens: Int[Tensor, "batch position"],
    seed: int,
    numbers: Iterable[int],
    *,
    draw: int = 0,
    draws: int = 1,
    passes: int | None = None,
) -> Bool[Tensor, "batch position"]:
    """Return which pixels are hidden in evaluation, a pure function of all but the tokens' values.

    How many are hidden is spread evenly over the images, and of each image over its draws.

    Args:
        tokens: The images.
        seed: Of all images and draws.
        numbers: Of the images.
        draw: Which of the draws of each image this is.
        draws: How many there are.
        passes: Hide only as many as are left when pixels are drawn in so many passes.
    """
    first = stream(Stream.DIFFUSION_MASKS, seed).random()
    numbers = list(numbers)
    shares = torch.tensor([(first + number * _GOLDEN + draw / draws) % 1 for number in numbers])
    orders = [
        stream(Stream.DIFFUSION_MASKS, seed, number, draw).random(tokens.shape[1])
        for number in numbers
    ]
    counts = hidden_counts(shares.double(), tokens.shape[1], passes)
    return _hidden(torch.from_numpy(np.stack(orders)), counts).to(tokens.device)


def hidden_counts(
    shares: Float[Tensor, " image"], positions: int, passes: int | None = None
) -> Int[Tensor, " image"]:
    """Return how many of the pixels are hidden, each number from 1 to all as often.

    Args:
        shares: Numbers in [0, 1), of which each is as likely.
        positions: Pixels of an image.
        passes: In which images are drawn: then as many are hidden as are left before that pass in
            which the pixel is drawn that is the last of so many.
    """
    counts = (shares * positions).long().clamp(max=positions - 1) + 1
    if passes is None:
        return counts
    done = torch.arange(passes - 1, -1, -1, device=counts.device)
    left = hidden_after(torch.full_like(done, positions), done, passes)  # rising, up to all
    return left[torch.searchsorted(left, counts)]


def _hidden(
    order: Float[Tensor, "image position"], counts: Int[Tensor, " image"]
) -> Bool[Tensor, "image position"]:
    """Hide the first so many pixels of each image, in random order."""
    return order.argsort(dim=1).argsort(dim=1) < counts[:, None]


def diffusion(
    model: ImageGPT,
    tokens: Int[Tensor, "batch position"],
    labels: Int[Tensor, " batch"] | None,
    generator: torch.Generator,
) -> dict[str, Float[Tensor, ""]]:
    """Return a bound on the negative log-likelihood of a pixel, in nats (an `Objective`).

    Source: Shi et al. 2024, equation 5, with t integrated out.
    """
    hidden = any_share_mask(tokens, generator)
    return {"loss": hidden_color_loss(model, model.final_state(tokens, hidden), tokens, hidden)}
