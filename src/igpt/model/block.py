"""One layer of the network: attention and an MLP, each added to the residual stream.

    h, n = Block(config)(h)    # n is the norm of the old h, the layer's feature

What is the paper's and what departs from it is said in `igpt.model.transformer`, which puts layers
together; `igpt.model.cached` computes the same for one position after the other.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from igpt import processes
from igpt.model.config import ModelConfig

NORM_EPSILON = 1e-5


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + 1e-5) * gain, over the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape width"]:
        """Return the normalized features."""
        gain = self.gain.to(x.dtype)  # as what is fetched from other processes may have 16 bits
        return F.rms_norm(x, gain.shape, gain, NORM_EPSILON)


class SelfAttention(nn.Module):
    """Multi-head self-attention over the pixels of each image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.causal = config.causal
        self.query_key_value = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.output = nn.Linear(config.width, config.width, bias=config.bias)
        features = config.width // config.heads
        self.query_norm = RMSNorm(features) if config.query_key_norm else None
        self.key_norm = RMSNorm(features) if config.query_key_norm else None
        self.value_gain = (
            nn.Parameter(torch.ones(config.heads, 1)) if config.value_embedding else None
        )

    def heads_of(
        self,
        qkv: Float[Tensor, "*shape 3 head feature"],
        values: Float[Tensor, "*shape width"] | None,
    ) -> Float[Tensor, "*shape 3 head feature"]:
        """Return queries, keys and values as attention has them, from those projected.

        Args:
            qkv: Of each head.
            values: What the tokens add to the values, in a network with `value_embedding`.
        """
        if self.query_norm is None and values is None:
            return qkv
        q, k, v = qkv.unbind(-3)
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if values is not None:
            assert self.value_gain is not None
            v = v + self.value_gain * values.unflatten(-1, (self.heads, -1))
        return torch.stack([part.to(qkv.dtype) for part in (q, k, v)], dim=-3)

    def forward(
        self,
        x: Float[Tensor, "batch position width"],
        cache: Float[Tensor, "2 batch head room feature"] | None = None,
        values: Float[Tensor, "batch position width"] | None = None,
    ) -> Float[Tensor, "batch position width"]:
        """Mix in the earlier positions if causal, or else all.

        Their keys and values go into the first positions of the `cache`, if there is one. `values`
        are as in `heads_of`.
        """
        qkv = self.query_key_value(x).unflatten(-1, (3, self.heads, -1))
        qkv = self.heads_of(qkv, values)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (batch, head, position, feature)
        if cache is not None:
            cache[0, :, :, : k.shape[2]] = k
            cache[1, :, :, : v.shape[2]] = v
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.output(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two projections, four times as wide in between, with the sigmoid form of GELU, or another."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input = nn.Linear(config.width, 4 * config.width, bias=config.bias)
        self.output = nn.Linear(4 * config.width, config.width, bias=config.bias)
        self.squared_relu = config.activation == "squared-relu"

    def forward(
        self, x: Float[Tensor, "batch position width"]
    ) -> Float[Tensor, "batch position width"]:
        """Transform each position by itself."""
        return self.output(self.activated(self.input(x)))

    def activated(self, x: Float[Tensor, "*shape inner"]) -> Float[Tensor, "*shape inner"]:
        """Return what lies between the projections, written over `x` where it can be."""
        if self.squared_relu:
            return F.relu(x, inplace=not x.requires_grad).square()
        x = x.mul_(1.702)
        # x * sigmoid(1.702 x), in the form that has one kernel each for forward and backward,
        # written over its input where that is not wanted back
        return F.silu(x, inplace=not x.requires_grad).div_(1.702)


class Dropout(nn.Module):
    """Zero a share of what a block adds, in training only; drawn for the images of all processes.

    It draws from torch's global generator, which the training loop seeds at each step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.probability = 0.0

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return the features, some of them zero and the others larger for it."""
        if not self.training or self.probability == 0:
            return x
        whole = (len(x) * processes.count(), *x.shape[1:])
        kept = processes.share(torch.rand(whole, device=x.device)) >= self.probability
        return x * kept / (1 - self.probability)


class Block(nn.Module):
    """One layer: h + attention(norm(h)), then h + mlp(norm(h))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width)
        self.attention = SelfAttention(config)
        self.mlp_norm = RMSNorm(config.width)
        self.mlp = MLP(config)
        self.dropout = Dropout()

    def forward(
        self,
        h: Float[Tensor, "batch position width"],
        cache: Float[Tensor, "2 batch head room feature"] | None = None,
        values: Float[Tensor, "batch position width"] | None = None,
    ) -> tuple[Float[Tensor, "batch position width"], Float[Tensor, "batch position width"]]:
        """Return the next residual stream from this one, `h`, and the norm of `h`.

        The norm is also the layer's feature (section 2.4); `values` are those of `ImageGPT.values`.
        Nothing of a block is used but through here, so that one may be compiled, recomputed, or
        fetched from other processes as a whole.
        """
        n = self.attention_norm(h)
        h = h + self.dropout(self.attention(n, cache, values))
        return h + self.dropout(self.mlp(self.mlp_norm(h))), n
