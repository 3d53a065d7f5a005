"""A causal network that goes on from what it has read: keys and values are kept, a cache a layer.

    network = CachedNetwork(model, sequences=4, room=model.config.positions)
    logits = network.read(given)                    # (4, color), of the first pixel not given
    logits = network.logits(tokens, places, seen)   # (4, window, color), of the pixels at `places`

Given pixels go through the network as in training, once for all samples that are drawn after them,
and a few images at a time on a CPU, whose caches then hold what lies between two operations. Later
ones go through `_next_states`, which is `Block.forward` for one position of each image, or a few
that follow one another, in fewer operations: at small batches the overhead of each is a good part
of what it takes. Compiling rids of it, and so does a GPU's recording of them.

What is read at which place, and what becomes of the logits, is decided in `igpt.model.sampling`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from igpt.model.block import Block
from igpt.model.compiler import require_compiler
from igpt.model.transformer import ImageGPT

_TOKENS_AT_A_TIME = 2048
"""Given tokens that a CPU reads at once, of as many images as they make up."""
_PARTS = 4
"""Parts of a weight matrix that a CPU reads side by side."""


class CachedNetwork:
    """The network, and what it has read of some images so far."""

    def __init__(
        self,
        model: ImageGPT,
        *,
        sequences: int,
        room: int,
        sight: int = 1,
        level: bool = True,
        compiled: bool = False,
    ) -> None:
        """Make room for the keys and values.

        Args:
            model: A causal network.
            sequences: How many images are read side by side.
            room: Places of each in the cache; those beyond the last position are for what is read
                and not wanted.
            sight: A pixel looks at a multiple of so many places, of which those yet to be filled do
                not count; 1 for those that are filled and no more.
            level: All images are read at the same places, always.
            compiled: Compile what a block does.

        Raises:
            ConfigError: `compiled` without a compiler.
        """
        self._model = model
        self._sequences = sequences
        self._sight = sight
        self._level = level
        self._compiled = compiled
        self._next_states = _next_states
        if compiled:
            require_compiler(model.device, "compiling")
            self._next_states = torch.compile(_next_states)
        room = _round_up(room, sight)
        room += compiled  # never all in use, which to the compiler is another layout
        heads = model.config.heads
        shape = (2, sequences, heads, room, model.config.width // heads)  # keys, values
        self._positions = model.positions()
        self._caches = [  # zeros, since what is yet to be filled counts nothing, but must be finite
            torch.zeros(shape, device=model.device, dtype=model.position_embedding.dtype)
            for _ in model.blocks
        ]

    def sight(self, last: int) -> int:
        """Return how many places those look at that come before the place `last`."""
        return _round_up(last, self._sight)

    def read(
        self,
        given: Int[Tensor, "batch given"],
        *,
        samples: int = 1,
        at_a_time: int = _TOKENS_AT_A_TIME,
    ) -> Float[Tensor, "sequence color"]:
        """Read the start embedding and the given pixels; return the logits of the pixel after them.

        Args:
            given: The first tokens of each image, `(batch, 0)` for none.
            samples: How many sequences, one after the other, begin with each image.
            at_a_time: Tokens that a CPU reads at once, of one image at least.
        """
        given = F.pad(given, (0, 1))  # `embed` puts the start embedding first, leaves the last out
        read = given.shape[1]
        on_cpu = given.device.type == "cpu"
        images = max(1, at_a_time // read if on_cpu else len(given))
        states = []
        for first in range(0, len(given), images):
            part = given[first : first + images]
            h, values = self._model.embed(part), self._model.values(part)
            share = slice(first * samples, (first + images) * samples, samples)
            for block, cache in zip(self._model.blocks, self._caches, strict=True):
                assert isinstance(block, Block)
                h, _ = block(h, cache[:, share], values)
            states.append(h[:, -1])
        for cache in self._caches:
            every = cache[:, :, :, :read].unflatten(1, (-1, samples))
            every[:, :, 1:] = every[:, :, :1]
        h = torch.cat(states).repeat_interleave(samples, dim=0)
        return self._model.color_head(self._model.final_norm(h))

    def logits(
        self,
        tokens: Int[Tensor, "sequence window"],
        places: Int[Tensor, "sequence window"],
        seen: int,
    ) -> Float[Tensor, "sequence window color"]:
        """Return the logits of the pixels at `places`, having read those just before each.

        Keys and values of a place that was read before, and of those after it, are forgotten.

        Args:
            tokens: The colors of the pixels before those at `places`.
            places: Places that follow one another; a color read with the one at place `p` is taken
                for that of pixel `p` - 1.
            seen: How many places to look at, `sight` of the one after the last.
        """
        model, window = self._model, tokens.shape[1]
        h = F.embedding(tokens, model.token_embedding)
        h = h + F.embedding(places.clamp(max=model.config.positions - 1), self._positions)
        values = None if (table := model.value_embedding) is None else F.embedding(tokens, table)
        bias = None
        if window > 1 or self._sight > 1 or not self._level:  # of what is in sight, some is later
            late = torch.arange(seen, device=model.device) > places[:, :, None]
            bias = torch.zeros(late.shape, device=model.device, dtype=h.dtype)
            bias.masked_fill_(late, float("-inf"))
        h = h.flatten(0, 1)
        for block, cache in zip(model.blocks, self._caches, strict=True):
            assert isinstance(block, Block)
            sight = cache[:, :, :, :seen]
            if self._compiled:  # or each length is compiled anew
                torch._dynamo.maybe_mark_dynamic(sight, 3)
                if bias is not None:
                    torch._dynamo.maybe_mark_dynamic(bias, 2)
            h = self._next_states(block, h, sight, places, bias, self._level, values)
        h = h.unflatten(0, (self._sequences, window))
        return model.color_head(model.final_norm(h))


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _next_states(
    block: Block,
    h: Float[Tensor, "row width"],
    cache: Float[Tensor, "2 sequence head seen feature"],
    places: Int[Tensor, "sequence window"],
    bias: Float[Tensor, "sequence window seen"] | None,
    level: bool,
    values: Float[Tensor, "sequence window width"] | None,
) -> Float[Tensor, "row width"]:
    """Return `Block.forward` of new positions, which see what is in the cache and themselves.

    A row is a position of an image, those of an image one after the other. Their keys and values go
    into the cache at their `places`; `bias` is added to the attention's logits, and `values` to the
    values, as `SelfAttention.heads_of` does.
    """
    attention, mlp = block.attention, block.mlp
    sequences, window = places.shape
    qkv = _project(attention.query_key_value, block.attention_norm(h))
    qkv = attention.heads_of(qkv.view(sequences, window, 3, attention.heads, -1), values)
    if level:
        cache.index_copy_(3, places[0], qkv[:, :, 1:].permute(2, 0, 3, 1, 4))
    else:
        image = torch.arange(sequences, device=h.device)[:, None]
        cache.permute(1, 3, 0, 2, 4)[image, places] = qkv[:, :, 1:]
    q, (k, v) = qkv[:, :, 0].transpose(1, 2), cache
    if bias is not None:
        bias = bias[:, None].expand(-1, attention.heads, -1, -1)
    y = F.scaled_dot_product_attention(q, k, v, bias)  # (sequence, head, window, feature)
    h = h + _project(attention.output, y.transpose(1, 2).reshape(h.shape))
    x = mlp.activated(_project(mlp.input, block.mlp_norm(h)))
    return h + _project(mlp.output, x)


def _project(linear: nn.Linear, x: Float[Tensor, "row inputs"]) -> Float[Tensor, "row outputs"]:
    """Return `linear(x)`, on a CPU with all its threads.

    A matrix product with so few rows is left to one thread there, and one thread reads the weights
    slower than memory gives them; products side by side, each with a part of the outputs, share.
    """
    if x.device.type != "cpu" or len(linear.weight) % _PARTS:
        return linear(x)
    parts = linear.weight.unflatten(0, (_PARTS, -1))
    y = torch.bmm(x.expand(_PARTS, *x.shape), parts.mT).transpose(0, 1).flatten(1)
    return y if linear.bias is None else y + linear.bias
