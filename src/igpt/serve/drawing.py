"""What networks draw and expect, bit by bit: between the server's requests and `igpt.model`.

    for drawn in Drawing.of(pretrained, asked).pieces():     # a list of Drawn, again and again
        ...

Whoever does not take the next of them stops the drawing.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from igpt.errors import ConfigError
from igpt.evaluation.completion import first_hidden
from igpt.evaluation.likelihood import next_pixel_distribution, pixel_losses
from igpt.model.config import SamplingConfig
from igpt.model.pretrained import Pretrained
from igpt.model.sampling import continue_in_passes
from igpt.model.unmasking import draw_in_passes
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

_MOMENT = 0.1  # seconds between two pieces
_LIKELIEST = 12  # colors of a distribution that are told one by one


def draws(pretrained: Pretrained) -> Draws:
    """Return which pixels of an image the network can draw."""
    return "what follows" if pretrained.model.config.causal else "any region"


def reading(tokenizer: ImageTokenizer) -> list[int]:
    """Return of each pixel, row by row, which of the tokens is its own."""
    return tokenizer.as_map(torch.arange(tokenizer.positions)).flatten().tolist()


def half(tokenizer: ImageTokenizer) -> int:
    """Return how many tokens are in the half of an image that is usually given."""
    return int((~tokenizer.second_half).sum())


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What is drawn from what."""

    pretrained: Pretrained
    tokens: Int64[Tensor, "1 position"]
    hidden: Bool[Tensor, " position"]
    """Which are to be drawn; of an autoregressive network, the last."""
    samples: int
    sampling: SamplingConfig
    seed: int

    @classmethod
    def of(cls, pretrained: Pretrained, asked: CompletionAsked) -> "Drawing":
        """Return what is asked for.

        Raises:
            ConfigError: The network cannot draw that.
            DataError: The tokens are no image of the network's.
        """
        network = pretrained.model.config
        tokens = token_batch(pretrained, asked.tokens or [0] * network.positions)
        sampling = SamplingConfig(
            temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p,
            passes=asked.passes,
        )  # fmt: skip
        sampling.require_fitting(network)
        hidden = _hidden(pretrained.tokenizer, asked)
        if network.causal:
            first_hidden(pretrained.tokenizer, hidden)
        return cls(
            pretrained=pretrained, tokens=tokens, hidden=hidden, samples=asked.samples,
            sampling=sampling, seed=asked.seed,
        )  # fmt: skip

    def pieces(self) -> Iterator[list[Drawn]]:
        """Yield what is drawn: as much as a moment brings, or a row of each image.

        The images are those of `igpt.evaluation.completion.complete_images`, with the same seed.
        """
        row = self.samples * self.pretrained.model.config.image_size
        told, last = ~self.hidden.expand(self.samples, -1), time.monotonic()
        for tokens, drawn in self._passes():
            new = drawn & ~told
            if new.sum() >= row or time.monotonic() - last >= _MOMENT or drawn.all():
                yield _drawn(tokens, new)
                told, last = drawn, time.monotonic()

    def _passes(
        self,
    ) -> Iterator[tuple[Int64[Tensor, "sample position"], Bool[Tensor, "sample position"]]]:
        """Yield the images after each pass, and which of their pixels are there."""
        model = self.pretrained.model
        generator = torch.Generator(device=model.device)
        generator.manual_seed(stream_seed(Stream.COMPLETIONS, self.seed))
        tokens = self.tokens.to(model.device)
        if model.config.causal:
            known = int((~self.hidden).sum())
            positions = torch.arange(model.config.positions)
            passes = continue_in_passes(
                model, tokens[:, :known], self.sampling, samples=self.samples, generator=generator
            )
            for tokens, count in passes:
                yield tokens.cpu(), positions < count.cpu()[:, None]
        else:
            tokens = tokens.repeat(self.samples, 1)
            hidden = self.hidden.to(model.device).expand_as(tokens)
            there = ~self.hidden.expand(self.samples, -1)
            passes = draw_in_passes(model, tokens, hidden, self.sampling, generator=generator)
            for tokens, chosen in passes:
                there = there | chosen.cpu()
                yield tokens.cpu(), there


def _hidden(tokenizer: ImageTokenizer, asked: CompletionAsked) -> Bool[Tensor, " position"]:
    """Return which positions are to be drawn.

    Raises:
        ConfigError: There are no such positions, or none is left to draw.
    """
    last = tokenizer.positions - 1
    if asked.hidden is not None:
        if asked.given is not None:
            raise ConfigError("say either given or hidden, and not both")
        if not asked.hidden or max(asked.hidden) > last:
            raise ConfigError(f"hidden holds positions, from 0 to {last}, and one at least")
        hidden = torch.zeros(tokenizer.positions, dtype=torch.bool)
        hidden[list(asked.hidden)] = True
        if not (asked.tokens or hidden.all()):
            raise ConfigError(
                "hidden leaves pixels to be given, but no tokens came; send those of a picture"
            )
        return hidden
    usual = half(tokenizer) if asked.tokens else 0
    given = usual if asked.given is None else asked.given
    if given > last:
        raise ConfigError(
            f"given must lie between 0 and {last} of this network's {last + 1} tokens, got {given}"
        )
    if given and not asked.tokens:
        raise ConfigError(f"given is {given}, but no tokens came; send those of a picture")
    return torch.arange(tokenizer.positions) >= given


def _drawn(
    tokens: Int64[Tensor, "sample position"], new: Bool[Tensor, "sample position"]
) -> list[Drawn]:
    return [
        Drawn(
            sample=sample,
            positions=tuple(of_one.nonzero().flatten().tolist()),
            tokens=tuple(some[of_one].tolist()),
        )
        for sample, (some, of_one) in enumerate(zip(tokens, new, strict=True))
    ]


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
