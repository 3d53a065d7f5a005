"""What networks draw and expect, bit by bit: between the server's requests and `igpt.model`.

    for drawn in draw(pretrained, asked):       # a list of Drawn, each time some pixels are there
        ...

Whoever does not take the next of them stops the drawing.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from igpt.errors import ConfigError
from igpt.evaluation.likelihood import next_pixel_distribution, pixel_losses
from igpt.model.config import SamplingConfig
from igpt.model.pretrained import Pretrained
from igpt.model.sampling import continue_tokens
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.randomness import Stream, stream_seed
from igpt.serve.messages import (
    ColorChance,
    CompletionAsked,
    Drawn,
    Draws,
    PixelDistribution,
    SurpriseMap,
)

_LIKELIEST = 12  # colors of a distribution that are told one by one


def draws(pretrained: Pretrained) -> Draws:
    """Return which pixels of an image the network can draw."""
    return "what follows" if pretrained.model.config.causal else "nothing"


def reading(tokenizer: ImageTokenizer) -> list[int]:
    """Return of each pixel, row by row, which of the tokens is its own."""
    positions = torch.arange(tokenizer.positions, dtype=torch.float32)[None]
    return tokenizer.as_map(positions).long().flatten().tolist()


def half(tokenizer: ImageTokenizer) -> int:
    """Return how many tokens are in the half of an image that is usually given."""
    return tokenizer.half_rows * tokenizer.image_size


def require_drawable(pretrained: Pretrained, asked: CompletionAsked) -> None:
    """See that the network can draw what is asked for.

    Raises:
        ConfigError: It cannot.
        DataError: The tokens are no image of the network's.
    """
    network = pretrained.model.config
    network.require_causal()
    if asked.hidden is not None:
        raise ConfigError(
            "an autoregressive network draws what comes last in its reading order, and no other "
            "region; leave out hidden, and say with given how many tokens are given"
        )
    if asked.tokens:
        token_batch(pretrained, asked.tokens)
    given = _given(pretrained, asked)
    if given >= network.positions:
        raise ConfigError(
            f"given must lie between 0 and {network.positions - 1} of this network's "
            f"{network.positions} tokens, got {given}"
        )
    if given > len(asked.tokens):
        raise ConfigError(f"given is {given}, but no tokens came; send those of a picture")


def _given(pretrained: Pretrained, asked: CompletionAsked) -> int:
    if asked.given is not None:
        return asked.given
    return half(pretrained.tokenizer) if asked.tokens else 0


def draw(pretrained: Pretrained, asked: CompletionAsked) -> Iterator[list[Drawn]]:
    """Yield what is drawn, a row of all images each time.

    The images are those of `igpt.evaluation.completion.complete_images`, with the same seed.
    """
    model, row = pretrained.model, pretrained.model.config.image_size
    sampling = SamplingConfig(temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p)
    generator = torch.Generator(device=model.device)
    generator.manual_seed(stream_seed(Stream.COMPLETIONS, asked.seed))
    known = _given(pretrained, asked)
    given = torch.tensor([asked.tokens[:known]], dtype=torch.long, device=model.device)
    tokens = given.repeat(asked.samples, 1)
    while known < model.config.positions:
        until = min(model.config.positions, (known // row + 1) * row)
        tokens = continue_tokens(model, tokens, sampling, limit=until, generator=generator)
        positions = tuple(range(known, until))
        yield [
            Drawn(sample=sample, positions=positions, tokens=tuple(some))
            for sample, some in enumerate(tokens[:, known:].tolist())
        ]
        known = until


def surprise(pretrained: Pretrained, tokens: Sequence[int]) -> SurpriseMap:
    """Return how much each pixel surprises the network.

    Raises:
        ConfigError: The network is not autoregressive.
        DataError: The tokens are no image of the network's.
    """
    pretrained.model.config.require_causal()
    nats = pixel_losses(pretrained.model, token_batch(pretrained, tokens))[0].double().cpu()
    return SurpriseMap(
        nats=tuple(nats.tolist()),
        nats_per_pixel=nats.mean().item(),
        chance_nats_per_pixel=math.log(pretrained.model.config.colors),
    )


def distribution(pretrained: Pretrained, tokens: Sequence[int], position: int) -> PixelDistribution:
    """Return what the network expects at a pixel of a picture.

    Raises:
        ConfigError: The picture has no such pixel.
        DataError: The tokens are no image of the network's.
    """
    batch = token_batch(pretrained, tokens)
    if not 0 <= position < batch.shape[1]:
        raise ConfigError(
            f"position must lie between 0 and {batch.shape[1] - 1} for this network, got {position}"
        )
    chances = _chances(pretrained, batch, position).double().cpu()
    likeliest = chances.topk(min(_LIKELIEST, len(chances)))
    own = max(chances[tokens[position]].item(), np.finfo(np.float64).tiny)
    return PixelDistribution(
        likeliest=tuple(
            ColorChance(token=token, probability=probability)
            for token, probability in zip(
                likeliest.indices.tolist(), likeliest.values.tolist(), strict=True
            )
        ),
        others=max(0.0, 1 - likeliest.values.sum().item()),
        own=ColorChance(token=tokens[position], probability=own),
        nats=-math.log(own),
    )


@torch.inference_mode()
def _chances(
    pretrained: Pretrained, tokens: Int64[Tensor, "1 position"], position: int
) -> Float[Tensor, " color"]:
    model = pretrained.model
    if model.config.causal:
        return next_pixel_distribution(model, tokens[:, :position])[0]
    hidden = F.one_hot(torch.tensor([position]), tokens.shape[1]).bool().to(model.device)
    return model(tokens.to(model.device), hidden)[0, position].float().softmax(dim=-1)


def token_batch(pretrained: Pretrained, tokens: Sequence[int]) -> Int64[Tensor, "1 position"]:
    """Return the tokens of a picture as a batch of one.

    Raises:
        DataError: They are no image of the network's.
    """
    batch = torch.tensor([list(tokens)], dtype=torch.long)
    pretrained.tokenizer.decode(batch)
    return batch
