"""New tokens from a causal network, pixel by pixel.

Each pixel is computed once: keys and values of the pixels before it are kept in a cache, one tensor
a layer. The given pixels go through the network as in training, once for all samples that are drawn
after them, and a few images at a time on a CPU, whose caches then hold what lies between two
operations. A pixel that is drawn goes through `_next_state`, which is `Block.forward` for one
position, in fewer operations: at small batches the overhead of each is a good part of what it
takes. Compiling rids of it, and so does a GPU's recording of them.

This file knows tokens, not images; `igpt.evaluation.completion` turns the one into the other.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from igpt.errors import ConfigError
from igpt.model.compiler import require_compiler
from igpt.model.config import SamplingConfig
from igpt.model.transformer import Block, ImageGPT

_TOKENS_AT_A_TIME = 2048
"""Given tokens that a CPU reads at once, of as many images as they make up."""
_PARTS = 4
"""Parts of a weight matrix that a CPU reads side by side."""
_WINDOWS = {"cuda": 256}
"""Where it is not 1: a pixel looks at a multiple of so many places in the cache, of which those yet
to be filled do not count. One recording then serves many pixels."""
_LEAST_REPLAYS = 8
"""Fewer pixels than that are not worth a recording."""


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
        return colors.gather(1, _choose(probability, generator)).squeeze(1)
    return _choose(logits.softmax(dim=-1), generator).squeeze(1)


def _choose(
    weights: Float[Tensor, "batch color"], generator: torch.Generator | None
) -> Int[Tensor, "batch 1"]:
    """Return one index a row, each as often as its weight says.

    As `torch.multinomial` does it, without its checks, which have a GPU's queue run empty.
    """
    waits = torch.empty_like(weights).exponential_(generator=generator)
    return (weights / waits).argmax(dim=-1, keepdim=True)


@torch.inference_mode()
def continue_tokens(
    model: ImageGPT,
    given: Int[Tensor, "batch given"],
    config: SamplingConfig | None = None,
    *,
    samples: int = 1,
    limit: int | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "sequence position"]:
    """Return images that begin with the `given` tokens: whole ones, or their first `limit` tokens.

    Args:
        model: A causal network.
        given: The first tokens of each image; none at all, `(batch, 0)`, to draw from nothing.
        config: How to draw.
        samples: How often to go on from each image; those of one image follow one another.
        limit: Tokens of each image that are wanted, those given included; all by default.
        generator: Source of the draws, on the model's device; torch's own if None.

    Raises:
        ConfigError: The network is not causal, more is given than an image has, or
            `config.compile` without a compiler.
    """
    config = config or SamplingConfig()
    model.config.require_causal()
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
    sequences = len(given) * samples
    tokens = torch.empty(sequences, positions, dtype=torch.long, device=model.device)
    tokens[:, :count] = given.repeat_interleave(samples, dim=0)
    if count == positions or not sequences:
        return tokens
    next_state = _next_state
    if config.compile:
        require_compiler(model.device, "compiling")
        next_state = torch.compile(_next_state)
    heads = model.config.heads
    window = _WINDOWS.get(model.device.type, 1)
    room = _round_up(positions, window)
    room += config.compile  # never all in use, which to the compiler is another layout
    shape = (2, sequences, heads, room, model.config.width // heads)  # keys, values
    caches = [  # zeros, since what is yet to be filled counts nothing, but must not be infinite
        torch.zeros(shape, device=model.device, dtype=model.position_embedding.dtype)
        for _ in model.blocks
    ]
    h = _read(model, given, caches, samples)
    place = torch.tensor([count], device=model.device)  # of the next pixel

    def draw_pixel() -> Tensor:
        color = draw(model.color_head(model.final_norm(h)), config, generator)
        tokens.index_copy_(1, place, color[:, None])
        return color

    def draw_and_go_on(seen: int) -> None:
        color = draw_pixel()
        place.add_(1)
        state = F.embedding(color, model.token_embedding)
        state = state + model.position_embedding.index_select(0, place)
        bias = None
        if window > 1:  # some of what is in sight has yet to be drawn
            late = torch.arange(seen, device=model.device) > place
            bias = torch.zeros(seen, device=model.device, dtype=state.dtype)
            bias.masked_fill_(late, float("-inf"))
        for block, cache in zip(model.blocks, caches, strict=True):
            assert isinstance(block, Block)
            sight = cache[:, :, :, :seen]
            if config.compile:
                torch._dynamo.maybe_mark_dynamic(sight, 3)  # or each length is compiled anew
            state = next_state(block, state, sight, place, bias)
        h.copy_(state)

    position = count
    while position + 1 < positions:
        seen = _round_up(position + 2, window)
        end = min(seen, positions) - 1
        _repeat(partial(draw_and_go_on, seen), end - position, model.device, generator)
        position = end
    draw_pixel()
    return tokens


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _repeat(
    step: Callable[[], None],
    times: int,
    device: torch.device,
    generator: torch.Generator | None,
) -> None:
    """Call `step` so often: on a GPU the first time, and then a recording of what it launched.

    Launching its hundreds of small kernels one by one takes longer than running them.
    """
    if device.type != "cuda" or times < _LEAST_REPLAYS:
        for _ in range(times):
            step()
        return
    aside = torch.cuda.Stream(device)
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):  # where libraries and the compiler may still allocate
        step()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        step()
    for _ in range(times - 1):
        graph.replay()


def _read(
    model: ImageGPT,
    given: Int[Tensor, "batch given"],
    caches: list[Float[Tensor, "2 sequence head room feature"]],
    samples: int,
) -> Float[Tensor, "sequence width"]:
    """Fill the caches with the start embedding and the given pixels; return the last states."""
    given = F.pad(given, (0, 1))  # `embed` puts the start embedding first and leaves the last out
    read = given.shape[1]
    on_cpu = given.device.type == "cpu"
    images = max(1, _TOKENS_AT_A_TIME // read if on_cpu else len(given))
    states = []
    for first in range(0, len(given), images):
        h = model.embed(given[first : first + images])
        share = slice(first * samples, (first + images) * samples, samples)
        for block, cache in zip(model.blocks, caches, strict=True):
            assert isinstance(block, Block)
            h, _ = block(h, cache=cache[:, share])
        states.append(h[:, -1])
    for cache in caches:
        every = cache[:, :, :, :read].unflatten(1, (-1, samples))
        every[:, :, 1:] = every[:, :, :1]
    return torch.cat(states).repeat_interleave(samples, dim=0)


def _next_state(
    block: Block,
    h: Float[Tensor, "sequence width"],
    cache: Float[Tensor, "2 sequence head seen feature"],
    place: Int[Tensor, " 1"],
    bias: Float[Tensor, " seen"] | None,
) -> Float[Tensor, "sequence width"]:
    """Return `Block.forward` of one new position, which sees all in the cache and itself.

    Its key and value go into the cache at its `place`; `bias` is added to the attention's logits.
    """
    attention, mlp = block.attention, block.mlp
    qkv = _project(attention.query_key_value, block.attention_norm(h))
    qkv = qkv.view(len(h), 3, attention.heads, 1, -1)
    cache.index_copy_(3, place, qkv[:, 1:].transpose(0, 1))
    k, v = cache
    y = F.scaled_dot_product_attention(
        qkv[:, 0], k, v, None if bias is None else bias.expand(len(h), attention.heads, 1, -1)
    )  # (sequence, head, 1, feature)
    h = h + _project(attention.output, y.reshape(h.shape))
    x = _project(mlp.input, block.mlp_norm(h)).mul_(1.702)
    return h + _project(mlp.output, F.silu(x, inplace=True).div_(1.702))


def _project(
    linear: nn.Linear, x: Float[Tensor, "sequence inputs"]
) -> Float[Tensor, "sequence outputs"]:
    """Return `linear(x)`, on a CPU with all its threads.

    A matrix product with so few rows is left to one thread there, and one thread reads the weights
    slower than memory gives them; products side by side, each with a part of the outputs, share.
    """
    if x.device.type != "cpu" or len(linear.weight) % _PARTS:
        return linear(x)
    parts = linear.weight.unflatten(0, (_PARTS, -1))
    y = torch.bmm(x.expand(_PARTS, *x.shape), parts.mT).transpose(0, 1).flatten(1)
    return y if linear.bias is None else y + linear.bias
