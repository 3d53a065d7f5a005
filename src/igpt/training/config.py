"""What can be set about a training, apart from the network and the data."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from igpt.errors import ConfigError, nearest_name

Precision = Literal["float32", "bfloat16"]
Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is fitted; the defaults are the paper's (Chen et al. 2020, appendix A.1)."""

    steps: int = 1_000_000
    """Optimizer updates in all."""
    batch_size: int = 128
    """Images in each update."""
    microbatch_size: int | None = None
    """Images held in memory at once; gradients add up over them. The whole batch by default."""
    learning_rate: float = 0.003
    warmup_steps: int = 10_000
    """Steps over which the rate rises from zero; the paper's is one epoch (10,000 of ImageNet)."""
    schedule: Schedule = "cosine"
    """After warm-up: down a cosine to zero at the last step, or constant."""
    beta1: float = 0.9
    beta2: float = 0.95
    """0.999 gave the authors spikes in the loss."""
    weight_decay: float = 0.0
    """Decoupled, and on the matrices only, not on embeddings, gains or biases."""
    max_gradient_norm: float | None = None
    """Longer gradients are scaled down to this; None to leave them."""
    precision: Precision = "float32"
    """bfloat16 is autocast: weights and optimizer stay float32."""
    compile: bool = False
    """Compile the blocks: some 15 to 60 s at the start, each step faster. For long runs."""
    seed: int = 0
    """Decides the first weights, the order of the data, augmentation and hidden pixels."""
    checkpoint_every: int = 1000
    """Save a state to resume from every so many steps ..."""
    checkpoint_minutes: float = 10.0
    """... and whenever so much time has passed since the last."""
    keep_checkpoints: int = 2
    """How many of the newest states stay."""
    validate_every: int = 1000
    """Measure on the validation split, and draw samples, every so many steps and at the end."""
    validation_images: int = 1000
    """How many of the validation images, from the first on."""
    online_probe_images: int = 0
    """Pretraining only, with labels: at each validation, fit a ridge probe to every layer's
    features of so many training images and score it on the validation images; 0 for none."""
    snapshots: int = 0
    """Pretraining only: keep the model as it is at a half of the steps, a quarter, and so on, so
    many times, for `igpt along` (the paper's figure 3 has four: 65K to 524K of 1M steps)."""

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        positive = ("steps", "batch_size", "learning_rate", "checkpoint_every", "validate_every",
                    "validation_images", "keep_checkpoints", "checkpoint_minutes")  # fmt: skip
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be more than 0, got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "seed", "online_probe_images", "snapshots"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.microbatch_size is not None and self.microbatch_size < 1:
            raise ConfigError(f"microbatch_size must be at least 1, got {self.microbatch_size}")
        if self.max_gradient_norm is not None and not self.max_gradient_norm > 0:
            raise ConfigError(f"max_gradient_norm must be over 0, got {self.max_gradient_norm}")
        for name, choices in (
            ("schedule", ("cosine", "constant")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"there is no {name} {getattr(self, name)!r}"
                    + nearest_name(str(getattr(self, name)), choices)
                )

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """Updates after which a snapshot is kept, first to last; the end is not one of them."""
        halvings = (self.steps >> halving for halving in range(self.snapshots, 0, -1))
        return tuple(step for step in halvings if step > 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, for JSON."""
        return dataclasses.asdict(self)
