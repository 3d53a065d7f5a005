"""New tokens from a causal network, pixel by pixel.

Each pixel is computed once: keys and values of the pixels before it are kept in a cache, one tensor
a layer. The given pixels go through the network as in training, a few images at a time on a CPU,
whose caches then hold what lies between two operations. A pixel that is drawn goes through
`_next_state`, which is `Block.forward` for one position, in fewer operations: at small batches the
overhead of each is a good part of what it takes.

This file knows tokens, not images; `igpt.evaluation.completion` turns the one into the other.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from igpt.errors import ConfigError
from igpt.model.transformer import Block, ImageGPT

_TOKENS_AT_A_TIME = 2048
"""Given tokens that a CPU reads at once, of as many images as they make up."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How a color is drawn from its distribution; the defaults draw from all of it, as it is."""

    temperature: float = 1.0
    """Divides the logits; below 1 for safer colors, 0 for always the likeliest."""
    top_k: int | None = None
    """Draw from the k likeliest colors only."""
    top_p: float | None = None
    """Draw from the fewest likeliest colors that together have this probability."""

    def __post_init__(self) -> None:
        """Reject settings that leave no color to draw."""
        if self.temperature < 0:
            raise ConfigError(f"temperature must not be negative, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must lie in (0, 1], got {self.top_p}")


def draw(
    logits: Float[Tensor, "batch color"], config: SamplingConfig, generator: torch.Generator | None
) -> Int[Tensor, " batch"]:
    """Return one color for each row of logits.

    With both `top_k` and `top_p`, a color must pass both.
    """
    if config.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float() / config.temperature
    if config.top_k is not None or config.top_p is not None:
        ordered, colors = logits.sort(dim=-1, descending=True)
        probability = ordered.softmax(dim=-1)
        keep = torch.ones_like(ordered, dtype=torch.bool)
        if config.top_k is not None:
            keep[:, config.top_k :] = False
        if config.top_p is not None:  # the color that crosses the threshold still belongs
            keep &= probability.cumsum(dim=-1) - probability < config.top_p
        probability = probability * keep
        return colors.gather(1, torch.multinomial(probability, 1, generator=generator)).squeeze(1)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(1)


@torch.inference_mode()
def continue_tokens(
    model: ImageGPT,
    given: Int[Tensor, "batch given"],
    config: SamplingConfig | None = None,
    *,
    limit: int | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "batch position"]:
    """Return images that begin with the `given` tokens: whole ones, or their first `limit` tokens.

    Args:
        model: A causal network.
        given: The first tokens of each image; none at all, `(batch, 0)`, to draw from nothing.
        config: How to draw.
        limit: Tokens of each image that are wanted, those given included; all by default.
        generator: Source of the draws, on the model's device; torch's own if None.

    Raises:
        ConfigError: The network is not causal, or more is given than an image has.
    """
    config = config or SamplingConfig()
    if not model.config.causal:
        raise ConfigError(
            "only an autoregressive model can draw pixels; this one was trained with hidden pixels "
            "(BERT), so choose a run with an autoregressive recipe"
        )
    positions, count = model.config.positions, given.shape[1]
    if count > positions:
        raise ConfigError(f"{count} pixels are given, but an image has only {positions}")
    if limit is not None:
        if not count <= limit <= positions:
            raise ConfigError(
                f"limit must lie between the {count} pixels given and the {positions} of an image, "
                f"got {limit}"
            )
        positions = limit
    tokens = torch.empty(len(given), positions, dtype=torch.long, device=model.device)
    tokens[:, :count] = given
    if count == positions or not len(given):
        return tokens
    heads = model.config.heads
    room = (2, len(given), heads, positions, model.config.width // heads)  # of keys and of values
    caches = [
        torch.empty(room, device=model.device, dtype=model.position_embedding.dtype)
        for _ in model.blocks
    ]
    h = _read(model, tokens[:, :count], caches)
    for position in range(count, positions):
        tokens[:, position] = draw(model.color_head(model.final_norm(h)), config, generator)
        if position + 1 < positions:
            h = F.embedding(tokens[:, position], model.token_embedding)
            h = h + model.position_embedding[position + 1]
            for block, cache in zip(model.blocks, caches, strict=True):
                assert isinstance(block, Block)
                h = _next_state(block, h, cache, position + 1)
    return tokens


def _read(
    model: ImageGPT,
    given: Int[Tensor, "batch given"],
    caches: list[Float[Tensor, "2 batch head room feature"]],
) -> Float[Tensor, "batch width"]:
    """Fill the caches with the start embedding and the given pixels; return the last state."""
    given = F.pad(given, (0, 1))  # `embed` puts the start embedding first and leaves the last out
    on_cpu = given.device.type == "cpu"
    images = max(1, _TOKENS_AT_A_TIME // given.shape[1] if on_cpu else len(given))
    states = []
    for first in range(0, len(given), images):
        h = model.embed(given[first : first + images])
        for block, cache in zip(model.blocks, caches, strict=True):
            assert isinstance(block, Block)
            h = block(h, block.attention_norm(h), cache[:, first : first + images])
        states.append(h[:, -1])
    return torch.cat(states)


def _next_state(
    block: Block,
    h: Float[Tensor, "batch width"],
    cache: Float[Tensor, "2 batch head room feature"],
    position: int,
) -> Float[Tensor, "batch width"]:
    """Return `Block.forward` of one new position, which may see all before it and itself."""
    attention, mlp = block.attention, block.mlp
    qkv = attention.query_key_value(block.attention_norm(h))
    qkv = qkv.view(len(h), 3, attention.heads, -1)
    cache[:, :, :, position] = qkv[:, 1:].transpose(0, 1)
    k, v = cache[:, :, :, : position + 1]
    y = F.scaled_dot_product_attention(qkv[:, 0, :, None], k, v)  # (batch, head, 1, feature)
    h = h + attention.output(y.reshape(h.shape))
    x = mlp.input(block.mlp_norm(h)).mul_(1.702)
    return h + mlp.output(F.silu(x, inplace=True).div_(1.702))
