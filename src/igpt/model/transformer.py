"""The pixel transformer: the released iGPT network, and nothing beside it.

It is GPT-2's decoder with these departures, each as in the authors' code
(openai/image-gpt, src/model.py):

- the norm divides by the root mean square and has a gain: no centering, no bias;
- the activation is x * sigmoid(1.702 x);
- no projection has a bias (`ModelConfig.bias` adds them, for weights trained elsewhere);
- input and output embeddings are separate, and the output's start at zero (`ModelConfig.tied` and
  `zero_heads` are for those who want to see what that is worth);
- beside these there are choices that the paper does not make, off by default: QK-norm, squared
  ReLU, embeddings of rows and columns, embeddings of values, capped logits (`ModelConfig`);
- in the causal network a learned start embedding takes the first position and pushes each pixel one
  position on, so that row `i` of the logits is the guess at pixel `i` and every pixel is scored.

    model = ImageGPT(ModelConfig(layers=8, width=256))
    logits = model(tokens)                 # (batch, position, color); row i predicts tokens[:, i]
    for state in model.states(tokens):     # n^0 ... n^L, each (batch, position, width)
        ...

What a batch of logits costs is decided in `igpt.objectives`; what to draw from them, in
`igpt.model.sampling`.
"""

import functools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from igpt.errors import DataError
from igpt.model.block import Block, Dropout, RMSNorm
from igpt.model.class_head import MappedHead
from igpt.model.config import ModelConfig
from igpt.pixels.orders import reading_order
from igpt.randomness import Stream, stream_seed


def seed_weights(seed: int) -> None:
    """Seed torch's global generator, from which fresh weights are drawn."""
    torch.manual_seed(stream_seed(Stream.WEIGHTS, seed))


class ColorHead(nn.Linear):
    """From the last state to the logits of the colors, which may be capped."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config.width, config.colors, bias=False)
        self.cap = config.logit_cap

    def forward(self, input: Float[Tensor, "*shape width"]) -> Float[Tensor, "*shape color"]:
        """Return the logits."""
        logits = super().forward(input)
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


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
        side = (config.image_size, config.width)
        self.row_embedding = nn.Parameter(torch.empty(side)) if config.rows_and_columns else None
        self.column_embedding = nn.Parameter(torch.empty(side)) if config.rows_and_columns else None
        self.value_embedding = (
            nn.Parameter(torch.empty(config.colors, config.width))
            if config.value_embedding
            else None
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_norm = RMSNorm(config.width)
        self.color_head = ColorHead(config)
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
        | zero-outputs | 1/sqrt(d) | 0 | 0.02 | 0 |

        The value embedding starts at zero, too, so that it changes nothing at first.

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
        if self.config.initialization == "zero-outputs":
            attention_out = mlp_out = 0.0
        nn.init.normal_(self.token_embedding, std=0.02)
        nn.init.normal_(self.position_embedding, std=0.01)
        if self.start_embedding is not None:
            nn.init.normal_(self.start_embedding, std=0.02)
        if self.value_embedding is not None:
            nn.init.zeros_(self.value_embedding)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.normal_(block.attention.query_key_value.weight, std=inward)
            nn.init.normal_(block.attention.output.weight, std=attention_out)
            nn.init.normal_(block.mlp.input.weight, std=mlp_in)
            nn.init.normal_(block.mlp.output.weight, std=mlp_out)
            if block.attention.value_gain is not None:
                nn.init.ones_(block.attention.value_gain)
        for module in self.modules():
            if isinstance(module, RMSNorm):
                nn.init.ones_(module.gain)
            elif isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for head in (self.color_head, self.class_head):
            if head is not None and head.weight is not self.token_embedding:
                nn.init.normal_(head.weight, std=0.0 if self.config.zero_heads else 0.02)
        # Last, so that all else starts as without them.
        for embedding in (self.row_embedding, self.column_embedding):
            if embedding is not None:
                nn.init.normal_(embedding, std=0.01)

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
        return content + self.positions()[: tokens.shape[1]]

    def positions(self) -> Float[Tensor, "position width"]:
        """Return what is added at each place of the reading order."""
        if self.row_embedding is None or self.column_embedding is None:
            return self.position_embedding
        side = self.config.image_size
        pixels = torch.tensor(_read_at(self.config.order, side), device=self.device)
        rows = F.embedding(pixels // side, self.row_embedding)
        return self.position_embedding + rows + F.embedding(pixels % side, self.column_embedding)

    def values(
        self,
        tokens: Int[Tensor, "batch position"],
        hidden: Bool[Tensor, "batch position"] | None = None,
    ) -> Float[Tensor, "batch position width"] | None:
        """Return what each position's color adds to the values of attention, before any gain.

        As in `embed` the causal network is one position on, and hidden pixels have no color. None
        in a network without `value_embedding`.
        """
        if self.value_embedding is None:
            return None
        if self.start_embedding is not None:
            return F.pad(F.embedding(tokens[:, :-1], self.value_embedding), (0, 0, 1, 0))
        values = F.embedding(tokens, self.value_embedding)
        return values if hidden is None else values.masked_fill(hidden[..., None], 0)

    def states(
        self,
        tokens: Int[Tensor, "batch position"],
        hidden: Bool[Tensor, "batch position"] | None = None,
    ) -> Iterator[Float[Tensor, "batch position width"]]:
        """Yield n^0 to n^L: each layer's normalized input, then the final norm.

        One after the other, so that whoever pools them need not hold them all.

        Source: Chen et al. 2020, section 2.4.
        """
        h, values = self.embed(tokens, hidden), self.values(tokens, hidden)
        for block in self.blocks:
            h, n = self._through(block, h, values)
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
        h, values = self.embed(tokens, hidden), self.values(tokens, hidden)
        for block in self.blocks:
            h, _ = self._through(block, h, values)
        return self.final_norm(h)

    def _through(
        self,
        block: nn.Module,
        h: Float[Tensor, "batch position width"],
        values: Float[Tensor, "batch position width"] | None,
    ) -> tuple[Float[Tensor, "batch position width"], Float[Tensor, "batch position width"]]:
        if self.recompute and self.training:
            return checkpoint(block, h, None, values, use_reentrant=False)
        return block(h, None, values)


@functools.cache
def _read_at(order: str, side: int) -> tuple[int, ...]:
    """Return the number of the pixel that is read at each place."""
    return tuple(reading_order(order, side))
