"""What can be set about a training, apart from the network and the data."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from igpt.errors import ConfigError
from igpt.values import LATER, require_choices, require_seed

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Schedule = Literal["cosine", "linear", "constant"]
Optimizer = Literal["adam", "muon", "normuon"]
Parallel = Literal["auto", "ddp", "fsdp"]

BYTES_A_WEIGHT = 16
"""Of itself, its gradient and two moments, in float32."""
_COMFORTABLE = 0.5
"""Of a device's memory; the rest is for activations, and to measure whole weights."""

_AHEAD_FOR_GPU, _AHEAD = 4, 2


def crowds(parameters: int, memory: int) -> bool:
    """Say whether all of so many weights take up too much of a device for it to have all."""
    return parameters * BYTES_A_WEIGHT > _COMFORTABLE * memory


def sharing(parameters: int, memory: int, *, devices: int, per_machine: int) -> int:
    """Return among how many devices fsdp shares the weights.

    Those of one machine, so that blocks travel by its own links only, unless weights, gradients and
    moments would crowd a device even so; or else all of them.
    """
    several = devices > per_machine and devices % per_machine == 0
    return per_machine if several and not crowds(parameters // per_machine, memory) else devices


def batches_ahead(asked: int | None, *, gpu: bool, idle_cores: bool = True) -> int:
    """Return how many batches are made ready ahead: as many as are asked for, or by this rule.

    For a GPU four, since it computes beside the processor whatever that does. On a processor two if
    it has cores that the arithmetic leaves idle, and otherwise none.
    """
    if asked is not None:
        return asked
    return _AHEAD_FOR_GPU if gpu else _AHEAD if idle_cores else 0


def saves_beside(asked: bool | None, *, gpu: bool) -> bool:
    """Say whether states are copied and written beside the training: as asked for, or on a GPU.

    There the copy goes to the processor's memory. On a processor it would take of the memory that
    the training has, and the writing of the cores.
    """
    return gpu if asked is None else asked


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a network is fitted; the defaults are the paper's (Chen et al. 2020, appendix A.1).

    All but its warm-up, of one epoch, which suits ImageNet.
    """

    steps: int = 1_000_000
    """Optimizer updates in all."""
    batch_size: int = 128
    """Images in each update."""
    microbatch_size: int | None = None
    """Images that a process holds in memory at once; gradients add up over them. All by default."""
    learning_rate: float = 0.003
    head_learning_rate: float | None = None
    """Of the class head in fine-tuning, warmed up and lowered like the other; the same if None."""
    warmup_steps: int = 0
    """Steps over which the rate rises from zero ..."""
    warmup_epochs: float = 0.0
    """... or epochs; the paper's is one epoch."""
    schedule: Schedule = "cosine"
    """After warm-up: down a cosine or a straight line to zero at the last step, or constant."""
    stable: float = field(default=0.0, metadata=LATER)
    """Share of the steps after warm-up that keep the full rate before it goes down."""
    optimizer: Optimizer = field(default="adam", metadata=LATER)
    """adam, or muon for the blocks' matrices, whose steps are made orthogonal, and adam for all
    else; normuon, whose steps are besides as long for every neuron. One rate is for both: muon's
    steps are as long as adam's usually are; its momentum is 0.95, and the betas are adam's."""
    beta1: float = 0.9
    beta2: float = 0.95
    """0.999 gave the authors spikes in the loss."""
    weight_decay: float = 0.0
    """Decoupled, and on the matrices only, not on embeddings, gains or biases."""
    max_gradient_norm: float | None = None
    """Longer gradients are scaled down to this; None to leave them."""
    averaging: float = field(default=0.0, metadata=LATER)
    """Measure and keep not the newest weights but their mean over about this share of the steps so
    far, the newest of which count most; 0 for the newest alone."""
    precision: Precision = "float32"
    """16 bits are autocast: weights and optimizer stay float32, and float16's loss is scaled.
    auto: bfloat16 where the device has it, float16 on older GPUs, or else float32."""
    compile: bool = False
    """Compile the blocks: some 15 to 60 s at the start, each step faster. For long runs."""
    parallel: Parallel = "auto"
    """On several processes: each has all weights (ddp), or a share (fsdp); auto: as memory asks."""
    checkpoint_activations: bool = False
    """Keep only what goes between blocks, and compute the rest again: less memory, more time."""
    prepare_ahead: int | None = field(default=None, metadata=LATER)
    """Batches made ready while others are learned from; 0 for none. By default 4 for a GPU, 2 on a
    processor with idle cores. Losses are the same, to the bit."""
    seed: int = 0
    """Decides the first weights, the order of the data, augmentation and hidden pixels."""
    checkpoint_every: int = 1000
    """Save a state to resume from every so many steps ..."""
    checkpoint_minutes: float = 10.0
    """... and whenever so much time has passed since the last."""
    background_saving: bool | None = field(default=None, metadata=LATER)
    """Copy a state to memory and write it while steps go on; by default on a GPU, where the copy
    goes to other memory than the training's: 12 bytes a weight."""
    keep_checkpoints: int = 2
    """How many of the newest states stay."""
    validate_every: int = 1000
    """Measure on the validation split, and draw samples, every so many steps and at the end."""
    validation_images: int | None = 1000
    """How many of the validation images, always the same ones; all of them if None."""

    def __post_init__(self) -> None:
        """Reject what cannot work."""
        require_choices(self)
        positive = ("steps", "batch_size", "learning_rate", "checkpoint_every", "validate_every",
                    "keep_checkpoints", "checkpoint_minutes")  # fmt: skip
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be more than 0, got {getattr(self, name)}")
        for name in ("warmup_steps", "warmup_epochs", "weight_decay", "averaging"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        require_seed(self.seed)
        for name in ("beta1", "beta2", "stable"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for name in ("microbatch_size", "validation_images"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.prepare_ahead is not None and self.prepare_ahead < 0:
            raise ConfigError(f"prepare_ahead must not be negative, got {self.prepare_ahead}")
        for name in ("max_gradient_norm", "head_learning_rate"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be over 0, got {getattr(self, name)}")
        if self.averaging > 1:
            raise ConfigError(f"averaging is a share of the steps, at most 1, got {self.averaging}")
        if self.needs_whole_matrices and self.parallel == "fsdp":
            raise ConfigError(
                f"{self.optimizer}'s steps are made of whole matrices, and fsdp shares them out; "
                "set training.parallel=ddp, or training.optimizer=adam"
            )
        if self.warmup_steps and self.warmup_epochs:
            raise ConfigError(
                f"warm-up is given twice, warmup_steps={self.warmup_steps} and "
                f"warmup_epochs={self.warmup_epochs:g}; set one of them to 0"
            )
        if self.warmup_steps > self.steps:
            raise ConfigError(
                f"a warm-up of {self.warmup_steps:,} steps takes longer than the run of "
                f"{self.steps:,}; set training.warmup_steps={self.steps // 10}, or more steps"
            )

    @property
    def needs_whole_matrices(self) -> bool:
        """Whether an update of a matrix is made of all of it, so that it cannot be shared out."""
        return self.optimizer != "adam"

    def for_records(self, records: int) -> "TrainingConfig":
        """Return the same for so many training images, with the warm-up counted in steps.

        Raises:
            ConfigError: A warm-up of so many epochs takes longer than the run.
        """
        if not self.warmup_epochs:
            return self
        steps = round(self.warmup_epochs * (records // self.batch_size))
        if steps > self.steps:
            raise ConfigError(
                f"a warm-up of {self.warmup_epochs:g} epochs is {steps:,} steps of "
                f"{self.batch_size} images, and takes longer than the run of {self.steps:,}; set "
                f"training.warmup_epochs=0 training.warmup_steps={self.steps // 10}, or more steps"
            )
        return dataclasses.replace(self, warmup_epochs=0.0, warmup_steps=steps)
