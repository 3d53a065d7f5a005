"""The shape of a pixel transformer, the published sizes by name, and how pixels are drawn.

No torch here, so that the command line can list sizes and read a run's settings at once.
"""

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from igpt.errors import ConfigError
from igpt.pixels.orders import RASTER, check_order
from igpt.values import LATER, require_choices

MASK_PROBABILITY = 0.15
"""Share of the pixels that are hidden from a network that is not causal (section 2.1: 15 %)."""

_MOST = {"image_size": 1024, "layers": 1024, "width": 65_536, "heads": 65_536}
"""Far above anything trained so far: a config of others that says more is not to be built."""

Initialization = Literal["sparse-transformer", "released", "zero-outputs"]
Activation = Literal["gelu", "squared-relu"]

ObjectiveName = Literal["autoregressive", "masked", "diffusion"]
AskedObjective = Literal["auto", "autoregressive", "masked", "diffusion"]
"""An objective, or "auto" for that which the network's shape decides."""

OBJECTIVE_WORDS: dict[ObjectiveName, str] = {
    "autoregressive": "autoregressive",
    "masked": "BERT",
    "diffusion": "masked diffusion",
}
"""What people call networks that were trained so."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The shape of one `ImageGPT`; the defaults are iGPT-S (Chen et al. 2020, section 3.3)."""

    image_size: int = 32
    """Side of the square image, in pixels; its square is the number of positions."""
    colors: int = 512
    """Size of the palette."""
    layers: int = 24
    width: int = 512
    """Features at each position; a multiple of `heads`."""
    heads: int = 8
    causal: bool = True
    """Each pixel sees only those before it (autoregressive); or else all of them (BERT and
    diffusion)."""
    order: str = field(default=RASTER, metadata=LATER)
    """In which order pixels are read: raster (row by row), columns, spiral, hilbert or
    random:SEED."""
    bias: bool = False
    """Add biases to the projections inside the blocks; the published networks have none."""
    initialization: Initialization = "released"
    """Standard deviations of the fresh weights: those of the released code; or, slower to
    learn, those of the authors' training code; or the released code's, but zero for what blocks
    add to the residual stream (`ImageGPT.initialize` has them)."""
    tied: bool = False
    """Read colors off with the token embedding itself (appendix A.1 found that slightly worse)."""
    zero_heads: bool = True
    """Start the matrices that produce logits at zero (appendix A.1: slightly better)."""
    activation: Activation = field(default="gelu", metadata=LATER)
    """Inside the MLP: x sigmoid(1.702 x), or the square of what is positive of x."""
    query_key_norm: bool = field(default=False, metadata=LATER)
    """Normalize each head's queries and keys, with gains of their own."""
    rows_and_columns: bool = field(default=False, metadata=LATER)
    """Add an embedding of its row and one of its column to each position's own."""
    value_embedding: bool = field(default=False, metadata=LATER)
    """Add a second embedding of the token to the values of every block's attention, with a gain for
    each head; at first zero."""
    logit_cap: float | None = field(default=None, metadata=LATER)
    """Keep logits of colors within plus and minus this, by cap tanh(logit / cap); None for no
    bound."""

    def __post_init__(self) -> None:
        """Reject a shape that no model can have."""
        for name, most in _MOST.items():
            if not 1 <= (value := getattr(self, name)) <= most:
                bound = "at least 1" if value < 1 else f"at most {most:,}"
                raise ConfigError(f"{name} must be {bound}, got {value:,}")
        if not 2 <= self.colors <= 65536:
            raise ConfigError(f"colors must lie between 2 and 65536, got {self.colors}")
        if self.width % self.heads:
            raise ConfigError(
                f"width must be a multiple of heads, got width={self.width} and "
                f"heads={self.heads}; try width={max(1, self.width // self.heads) * self.heads}"
            )
        require_choices(self)
        check_order(self.order)
        if self.logit_cap is not None and not self.logit_cap > 0:
            raise ConfigError(f"logit_cap must be over 0, got {self.logit_cap}")

    @property
    def positions(self) -> int:
        """Pixels in one image, which is tokens in one sequence."""
        return self.image_size**2

    @property
    def parameters(self) -> int:
        """Weights of the network without a class head: 76,571,648 for iGPT-S."""
        tables = self.colors * ((1 if self.tied else 2) + self.value_embedding)
        places = self.positions + (2 * self.image_size if self.rows_and_columns else 0)
        embeddings = (tables + places + self.causal) * self.width
        return self.layers * self.block_parameters + embeddings + self.width

    @property
    def block_parameters(self) -> int:
        """Weights of one block."""
        projections = 4 * self.width**2 + 8 * self.width**2
        biases = (4 + 4 + 1) * self.width if self.bias else 0
        head_gains = 2 * (self.width // self.heads) if self.query_key_norm else 0
        head_gains += self.heads if self.value_embedding else 0
        return projections + biases + 2 * self.width + head_gains

    @property
    def flops_per_token(self) -> int:
        """Multiply-adds times two of a training step, for each token: 6 N + 12 L d n.

        N counts the weights that are multiplied (blocks and color head, no embedding tables); the
        attention term is counted in full although a causal mask skips half of it, as in the PaLM
        paper's definition of model FLOPs utilization.
        """
        multiplied = self.layers * 12 * self.width**2 + self.colors * self.width
        return 6 * multiplied + 12 * self.layers * self.width * self.positions

    def objective(self, asked: AskedObjective = "auto") -> ObjectiveName:
        """Return what a network of this shape learns by: what was asked for, or else the usual.

        Raises:
            ConfigError: It cannot learn by that.
        """
        if asked == "auto":
            return "autoregressive" if self.causal else "masked"
        if (asked == "autoregressive") != self.causal:
            seen, causal = ("those before it", "true") if not self.causal else ("all", "false")
            raise ConfigError(
                f"objective={asked} is for a network of which each pixel sees {seen}; set "
                f"model.causal={causal} with it"
            )
        return asked

    @property
    def beyond_the_paper(self) -> tuple[str, ...]:
        """Names of the settings that make it compute otherwise than the paper's network.

        Other code that computes the published networks cannot compute this one.
        """
        later = (field for field in fields(self) if field.metadata == LATER)
        return tuple(field.name for field in later if getattr(self, field.name) != field.default)

    def require_causal(self) -> None:
        """Check that a network of this shape predicts each pixel from those before it.

        Raises:
            ConfigError: It is trained with hidden pixels instead.
        """
        if not self.causal:
            raise ConfigError(
                "only an autoregressive network predicts each pixel from those before it; this one "
                "was trained with hidden pixels (BERT or diffusion), so choose another run"
            )

    def require_bert(self) -> None:
        """Check that a network of this shape knows hidden pixels.

        Raises:
            ConfigError: It is autoregressive.
        """
        if self.causal:
            raise ConfigError(
                "masks are for networks that were trained with hidden pixels (BERT or diffusion), "
                "and this one is autoregressive; leave them out"
            )

    def check_layer(self, layer: int | None) -> int:
        """Return the layer meant, counted from 0 (the embeddings) to L (the final norm).

        Args:
            layer: One of these numbers, or None for the last.

        Raises:
            ConfigError: The network has no such layer.
        """
        if layer is None:
            return self.layers
        if not 0 <= layer <= self.layers:
            raise ConfigError(
                f"layer must lie between 0 and {self.layers} for this network, got {layer}"
            )
        return layer


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How pixels are drawn; the defaults draw from all of each one's distribution, as it is."""

    temperature: float = 1.0
    """Divides the logits; below 1 for safer colors, 0 (below 0.000001) for always the likeliest."""
    top_k: int | None = None
    """Draw from the k likeliest colors only."""
    top_p: float | None = None
    """Draw from the fewest likeliest colors that together have this probability."""
    passes: int | None = None
    """Of a network that hides pixels: draw so many at a time that it takes so many passes; one at a
    time by default, which is slowest and best."""
    most_certain_first: bool = False
    """Of such a network: draw those pixels first whose likeliest color is likeliest; by default in
    random order, which is what its likelihood is of."""
    compile: bool = False
    """Compile the step from pixel to pixel first: takes seconds, and pays for many calls, on a CPU
    only for those with a few sequences each, whose steps are mostly overhead."""
    one_at_a_time: bool = False
    """Of an autoregressive network: draw pixel by pixel, even where reading many at a time would be
    faster, which gives the same pixels."""

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest color is taken, and nothing left to chance."""
        return self.temperature < 1e-6  # logits divided by less may be no numbers

    def __post_init__(self) -> None:
        """Reject settings that leave no color to draw."""
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature must be 0 or a number above, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k must be at least 1, got {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.passes is not None and self.passes < 1:
            raise ConfigError(f"passes must be at least 1, got {self.passes}")

    def require_fitting(self, model: ModelConfig) -> None:
        """Check that a network draws pixels in such a way.

        Raises:
            ConfigError: It does not.
        """
        if model.causal and (self.passes is not None or self.most_certain_first):
            raise ConfigError(
                "passes and most_certain_first are for networks that were trained with hidden "
                "pixels (BERT or diffusion), and this one is autoregressive; leave them out"
            )
        if not model.causal and (self.compile or self.one_at_a_time):
            raise ConfigError(
                "compile and one_at_a_time are for autoregressive networks, and this one was "
                "trained with hidden pixels; leave them out, and say passes"
            )


SIZES: dict[str, ModelConfig] = {
    "igpt-s": ModelConfig(layers=24, width=512, heads=8),
    "igpt-m": ModelConfig(layers=36, width=1024, heads=8),
    "igpt-l": ModelConfig(layers=48, width=1536, heads=16),
    "igpt-l-48": ModelConfig(layers=48, width=1536, heads=16, image_size=48),
    # The paper does not give the heads of iGPT-XL; 24 heads of 128 features is our choice.
    "igpt-xl": ModelConfig(layers=60, width=3072, heads=24, image_size=64),
}
"""The published networks (Chen et al. 2020, sections 3.3 and 4.4), at their input resolutions."""
