"""The pixel transformer: the released iGPT network, and nothing beside it.

It is GPT-2's decoder with these departures, each as in the authors' code
(openai/image-gpt, src/model.py):

- the norm divides by the root mean square and has a gain: no centering, no bias;
- the activation is x * sigmoid(1.702 x);
- no projection has a bias (`ModelConfig.bias` adds them, for weights trained elsewhere);
- input and output embeddings are separate, and the output's start at zero (`ModelConfig.tied` and
  `zero_heads` are for those who want to see what that is worth);
- in the causal network a learned start embedding takes the first position and pushes each pixel one
  position on, so that row `i` of the logits is the guess at pixel `i` and every pixel is scored.

    model = ImageGPT(ModelConfig(layers=8, width=256))
    logits = model(tokens)                 # (batch, position, color); row i predicts tokens[:, i]
    for state in model.states(tokens):     # n^0 ... n^L, each (batch, position, width)
        ...

What a batch of logits costs is decided in `igpt.objectives`; what to draw from them, in
`igpt.model.sampling`.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from igpt import processes
from igpt.errors import DataError
from igpt.model.class_head import MappedHead
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

    def forward(
        self,
        x: Float[Tensor, "batch position width"],
        cache: Float[Tensor, "2 batch head room feature"] | None = None,
    ) -> Float[Tensor, "batch position width"]:
        """Mix in the earlier positions if causal, or else all.

        Their keys and values go into the first positions of the `cache`, if there is one.
        """
        qkv = self.query_key_value(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (batch, head, position, feature)
        if cache is not None:
            cache[0, :, :, : k.shape[2]] = k
            cache[1, :, :, : v.shape[2]] = v
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.output(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two projections, four times as wide in between, with the sigmoid form of GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input = nn.Linear(config.width, 4 * config.width, bias=config.bias)
        self.output = nn.Linear(4 * config.width, config.width, bias=config.bias)

    def forward(
        self, x: Float[Tensor, "batch position width"]
    ) -> Float[Tensor, "batch position width"]:
        """Transform each position by itself."""
        x = self.input(x).mul_(1.702)
        # x * sigmoid(1.702 x), in the form that has one kernel each for forward and backward,
        # written over its input where that is not wanted back
        return self.output(F.silu(x, inplace=not x.requires_grad).div_(1.702))


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
    ) -> tuple[Float[Tensor, "batch position width"], Float[Tensor, "batch position width"]]:
        """Return the next residual stream from this one, `h`, and the norm of `h`.

        The norm is also the layer's feature (section 2.4). Nothing of a block is used but through
        here, so that one may be compiled, recomputed, or fetched from other processes as a whole.
        """
        n = self.attention_norm(h)
        h = h + self.dropout(self.attention(n, cache))
        return h + self.dropout(self.mlp(self.mlp_norm(h))), n


class ImageGPT(nn.Module):
    """The network: tokens in, logits over the palette (and, with a class head, classes) out."""

    def __init__(self, config: ModelConfig, *, classes: int | None = None) -> None:
        """Make a network with fresh weights, drawn from torch's global generator.

        Args:
            config: Its shape.
            classes: Number of classes of a class head; None for a network without one.
        """
        super().__init__()
        self.config = config
        self.classes = classes
        self.recompute = False
        """Whether training keeps only what goes between blocks, and computes the rest again when
        gradients need it: less memory for about a third more arithmetic."""
        self.token_embedding = nn.Parameter(torch.empty(config.colors, config.width))
        self.position_embedding = nn.Parameter(torch.empty(config.positions, config.width))
        self.start_embedding = nn.Parameter(torch.empty(config.width)) if config.causal else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = RMSNorm(config.width)
        self.color_head = nn.Linear(config.width, config.colors, bias=False)
        if config.tied:
            self.color_head.weight = self.token_embedding
        self.class_head: nn.Linear | MappedHead | None = (
            nn.Linear(config.width, classes, bias=False) if classes else None
        )
        self.initialize()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.position_embedding.device

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw fresh weights.

        Both heads start at zero, so a new network gives every color the same chance; without
        `config.zero_heads` they start like the token embedding, which a tied head is. Embeddings
        have the released code's standard deviations. Projections follow `config.initialization`:

        | | query, key, value | attention out | mlp in | mlp out |
        | --- | --- | --- | --- | --- |
        | sparse-transformer | sqrt(1/8d) | sqrt(1/16dL) | sqrt(1/8d) | sqrt(1/64dL) |
        | released | 1/sqrt(d) | 1/sqrt(dL) | 0.02 | 0.02 |

        Sources: openai/distribution_augmentation, train.py and hyperparams.py (variance
        0.125 / inputs, and halved and divided by the layers for what is added to the residual
        stream); openai/image-gpt, src/model.py.
        """
        width, layers = self.config.width, self.config.layers
        if self.config.initialization == "sparse-transformer":
            inward, attention_out = math.sqrt(0.125 / width), math.sqrt(0.0625 / (width * layers))
            mlp_in, mlp_out = inward, math.sqrt(0.0625 / (4 * width * layers))
        else:
            inward, attention_out = 1 / math.sqrt(width), 1 / math.sqrt(width * layers)
            mlp_in = mlp_out = 0.02
        nn.init.normal_(self.token_embedding, std=0.02)
        nn.init.normal_(self.position_embedding, std=0.01)
        if self.start_embedding is not None:
            nn.init.normal_(self.start_embedding, std=0.02)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.normal_(block.attention.query_key_value.weight, std=inward)
            nn.init.normal_(block.attention.output.weight, std=attention_out)
            nn.init.normal_(block.mlp.input.weight, std=mlp_in)
            nn.init.normal_(block.mlp.output.weight, std=mlp_out)
        for module in self.modules():
            if isinstance(module, RMSNorm):
                nn.init.ones_(module.gain)
            elif isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for head in (self.color_head, self.class_head):
            if head is not None and head.weight is not self.token_embedding:
                nn.init.normal_(head.weight, std=0.0 if self.config.zero_heads else 0.02)

    def set_dropout(self, probability: float) -> None:
        """Zero so much of what each block adds to the residual stream, in training only.

        The published networks have none; it is for the baseline trained from scratch (section 4.5).
        """
        for module in self.modules():
            if isinstance(module, Dropout):
                module.probability = probability

    def embed(
        self,
        tokens: Int[Tensor, "batch position"],
        hidden: Bool[Tensor, "batch position"] | None = None,
    ) -> Float[Tensor, "batch position width"]:
        """Return the input of the first block.

        The causal network puts the start embedding first and leaves the last pixel out. Where
        `hidden` is true, the other network sees a pixel's position but not its color.

        Raises:
            DataError: More tokens than positions.
        """
        if tokens.shape[1] > self.config.positions:
            raise DataError(
                f"the model has {self.config.positions} positions "
                f"({self.config.image_size}x{self.config.image_size} pixels), but each image has "
                f"{tokens.shape[1]} tokens; resize the images to the model's size"
            )
        if self.start_embedding is not None:
            assert hidden is None, "only a network that is not causal has hidden pixels"
            content = F.embedding(tokens[:, :-1], self.token_embedding)
            first = self.start_embedding.to(content.dtype).expand(len(tokens), 1, -1)
            content = torch.cat([first, content], dim=1)
        else:
            content = F.embedding(tokens, self.token_embedding)
            if hidden is not None:
                content = content.masked_fill(hidden[..., None], 0)
        return content + self.position_embedding[: tokens.shape[1]]

    def states(
        self,
        tokens: Int[Tensor, "batch position"],
        hidden: Bool[Tensor, "batch position"] | None = None,
    ) -> Iterator[Float[Tensor, "batch position width"]]:
        """Yield n^0 to n^L: each layer's normalized input, then the final norm.

        One after the other, so that whoever pools them need not hold them all.

        Source: Chen et al. 2020, section 2.4.
        """
        h = self.embed(tokens, hidden)
        for block in self.blocks:
            h, n = self._through(block, h)
            yield n
        yield self.final_norm(h)

    def forward(
        self,
        tokens: Int[Tensor, "batch position"],
        hidden: Bool[Tensor, "batch position"] | None = None,
    ) -> Float[Tensor, "batch position color"]:
        """Return the logits of every pixel; row `i` predicts `tokens[:, i]`.

        Args:
            tokens: The images in raster order, or, for a causal network, their first rows.
            hidden: Pixels whose color the network is not shown; for a network that is not causal.
        """
        return self.color_head(self.final_state(tokens, hidden))

    def final_state(
        self,
        tokens: Int[Tensor, "batch position"],
        hidden: Bool[Tensor, "batch position"] | None = None,
    ) -> Float[Tensor, "batch position width"]:
        """Return n^L, from which both heads read."""
        h = self.embed(tokens, hidden)
        for block in self.blocks:
            h, _ = self._through(block, h)
        return self.final_norm(h)

    def _through(
        self, block: nn.Module, h: Float[Tensor, "batch position width"]
    ) -> tuple[Float[Tensor, "batch position width"], Float[Tensor, "batch position width"]]:
        if self.recompute and self.training:
            return checkpoint(block, h, use_reentrant=False)
        return block(h)
