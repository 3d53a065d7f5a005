"""What a training will take on some devices: memory, time, and what they send each other.

    plan = make_plan("igpt-l", recipe.model, recipe.training, kind=KINDS["H100"], devices=64)
    print(plan_text(plan))  # of igpt.planning.tables

All of it is reckoned from shapes and from figures of the devices; nothing is run. What is not known
before is the share of the peak that is reached (MFU), which is asked for, or else one measured.
"""

from dataclasses import dataclass, replace

from igpt.errors import ConfigError
from igpt.hardware import Arithmetic, Hardware
from igpt.model.config import MASK_PROBABILITY, AskedObjective, ModelConfig, ObjectiveName
from igpt.planning.memory import Memory, Step, Strategy
from igpt.training.config import (
    TrainingConfig,
    batches_ahead,
    crowds,
    saves_beside,
    sharing,
)

MEASURED_MFU = 0.38
"""Of iGPT-S, 32 images a step, compiled, in bfloat16 on one H200 (docs/log.md, 2026-11-26)."""

MEASURED_MFU_CPU = 0.5
"""Of the speed of a large multiplication, what a step on a processor reaches: 0.59 in row 1 of
benchmarks/RESULTS.md, where two cores multiply at 171 GFLOP/s (docs/log.md), rounded down."""

_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a step does, beside its network and training, that its memory depends on."""

    objective: AskedObjective = "auto"
    mask_probability: float = MASK_PROBABILITY
    """For the masked objective: how many of the pixels are hidden, and so have logits."""
    pixels: bool = True
    """Whether logits of pixels are computed; not in classification alone."""
    dropout: bool = False
    """Whether there is any."""


@dataclass(frozen=True, kw_only=True)
class Communication:
    """What a device sends, and gets, in each step, and how long its slowest link takes for it."""

    gathered_bytes: int
    """Weights, for forward and backward passes: fsdp."""
    reduced_bytes: int
    """Gradients: all-reduced with ddp, reduced and scattered with fsdp."""
    bandwidth: float
    """Bytes/s each way of the slowest link that those take; 0 for one device."""
    between_bytes: int = 0
    """Gradients of a share, all-reduced between machines that each have all: fsdp."""
    network: float = 0.0
    """Bytes/s each way of the link that those take."""

    @property
    def seconds(self) -> float:
        """Time of a step's, if nothing else is to be sent."""
        sent = self.gathered_bytes + self.reduced_bytes
        seconds = sent / self.bandwidth if sent else 0.0
        return seconds + (self.between_bytes / self.network if self.between_bytes else 0.0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be expected of one training on so many devices of a kind."""

    name: str
    model: ModelConfig
    objective: ObjectiveName
    training: TrainingConfig
    kind: Hardware
    devices: int
    strategy: Strategy
    precision: Arithmetic
    mfu: float
    microbatch: int
    """Images at a time on each device."""
    memory: Memory
    """Of each device."""
    other_memory: Memory
    """The same with `checkpoint_activations` the other way."""
    fits: bool
    remedies: tuple[str, ...]
    """Settings that would make it fit; none where it does, or where nothing helps."""
    step_flops: float
    """Model FLOPs of a step, on all devices."""
    compute_seconds: float
    """Of a step, at this MFU; what `checkpoint_activations` computes again is counted."""
    communication: Communication

    step_seconds: tuple[float, float]
    """Of a step: if what is sent hides behind the arithmetic, and if none of it does."""
    tokens_per_second: tuple[float, float]
    """Of all devices together, for either."""
    days: tuple[float, float]
    """Of the whole training, for either; measuring and saving on the way not counted."""


def make_plan(
    name: str,
    model: ModelConfig,
    training: TrainingConfig,
    *,
    kind: Hardware,
    devices: int = 1,
    mfu: float | None = None,
    workload: Workload | None = None,
) -> Plan:
    """Reckon what a training takes.

    Args:
        name: What it is called.
        model: The network.
        training: Steps, batches, precision and how processes share them.
        kind: Of every device.
        devices: How many, a process each.
        mfu: Share of the devices' peak that is reached; by default one that was measured.
        workload: What each step does; by default what a recipe that says nothing of it has.

    Raises:
        ConfigError: The batch does not divide among so many devices.
    """
    workload = workload or Workload()
    step = training_step(model, training, kind=kind, devices=devices, workload=workload)
    require_share(step)
    mfu = mfu if mfu is not None else (MEASURED_MFU if kind.is_gpu else MEASURED_MFU_CPU)
    memory = step.peak()
    other = not training.checkpoint_activations
    tokens = training.batch_size * model.positions
    flops = float(tokens * model.flops_per_token)
    peak = kind.peak(step.precision) * mfu * devices
    fits = memory.total <= kind.usable
    compute = (flops + tokens * again_per_token(step)) / peak
    sent = communication(step, kind)
    seconds = max(compute, sent.seconds), compute + sent.seconds
    return Plan(
        name=name, model=model, objective=model.objective(workload.objective), training=training,
        kind=kind, devices=devices,
        strategy=step.strategy, precision=step.precision, mfu=mfu, microbatch=step.microbatch,
        memory=memory, other_memory=with_training(step, checkpoint_activations=other).peak(),
        fits=fits, remedies=() if fits else remedies(step, kind), step_flops=flops,
        compute_seconds=compute, communication=sent, step_seconds=seconds,
        tokens_per_second=(tokens / seconds[0], tokens / seconds[1]),
        days=(training.steps * seconds[0] / _DAY, training.steps * seconds[1] / _DAY),
    )  # fmt: skip


def training_step(
    model: ModelConfig,
    training: TrainingConfig,
    *,
    kind: Hardware,
    devices: int = 1,
    workload: Workload | None = None,
) -> Step:
    """Return a step as one of so many devices of a kind does it; arguments as in `make_plan`."""
    workload = workload or Workload()
    precision = kind.precision if training.precision == "auto" else training.precision
    step = Step(
        model=model, training=training, precision=precision, devices=devices,
        strategy=_strategy(training, model.parameters, kind, devices),
        copies=_copies(model, kind, devices),
        fused_norms=kind.is_gpu, dropout=workload.dropout,
        ahead=batches_ahead(training.prepare_ahead, gpu=kind.is_gpu),
        copied_to_save=not kind.is_gpu and saves_beside(training.background_saving, gpu=False),
    )  # fmt: skip
    scored: dict[ObjectiveName, float] = {
        "autoregressive": 1.0,
        "masked": workload.mask_probability,
        "diffusion": 0.5 + 0.5 / max(1, step.microbatch),  # spread evenly, from one pixel to all
    }
    objective = model.objective(workload.objective)
    return replace(step, scored=scored[objective] if workload.pixels else 0.0)


def require_share(step: Step) -> None:
    """See that a batch divides among the devices.

    Raises:
        ConfigError: It does not.
    """
    if step.training.batch_size % step.devices:
        raise ConfigError(
            f"batch_size={step.training.batch_size} does not divide among {step.devices} devices; "
            f"choose another number of them, or --set training.batch_size="
            f"{-(-step.training.batch_size // step.devices) * step.devices}"
        )


def _strategy(training: TrainingConfig, parameters: int, kind: Hardware, devices: int) -> Strategy:
    if devices == 1:
        return "alone"
    if training.parallel != "auto":
        return training.parallel
    return "fsdp" if _can_share(training) and crowds(parameters, kind.memory) else "ddp"


def _can_share(training: TrainingConfig) -> bool:
    """Say whether weights can be shared out, which Muon's steps of whole matrices cannot be."""
    return not training.needs_whole_matrices


def _copies(model: ModelConfig, kind: Hardware, devices: int) -> int:
    """Return how often fsdp has all weights."""
    return devices // sharing(
        model.parameters, kind.memory, devices=devices, per_machine=kind.per_machine
    )


def with_training(step: Step, **settings: object) -> Step:
    """Return the step under other settings of its training."""
    return replace(step, training=replace(step.training, **settings))  # type: ignore[arg-type]


def again_per_token(step: Step) -> int:
    """Return the FLOPs a token that `checkpoint_activations` adds: the blocks' forward pass."""
    if not step.training.checkpoint_activations:
        return 0
    model = step.model
    attention = 4 * model.layers * model.width * model.positions
    return 2 * 12 * model.layers * model.width**2 + attention


def communication(step: Step, kind: Hardware) -> Communication:
    """Return what a device sends in a step, in a ring: a share of (N - 1)/N, twice to all-reduce.

    With fsdp, blocks are gathered for the forward and for the backward pass of each microbatch, at
    the precision at which they are multiplied, and what is outside them once; where each machine
    has all weights in its shares, gradients are all-reduced between machines once. With ddp,
    gradients are sent after the last microbatch only. All but the blocks goes in float32.
    """
    weights = 4 * step.model.parameters
    gathered, reduced, between = 0.0, 0.0, 0.0
    sharing = step.shares if step.strategy == "fsdp" else step.devices
    others = (sharing - 1) / sharing
    if step.strategy == "ddp":
        reduced = 2 * others * weights
    elif step.strategy == "fsdp":
        blocks = step.model.layers * step.block_weights
        gathered = step.microbatches * others * (4 * step.other_weights + 2 * step.element * blocks)
        reduced = step.microbatches * others * weights
        between = 2 * (step.copies - 1) / step.copies * weights / step.shares
    return Communication(
        gathered_bytes=round(gathered),
        reduced_bytes=round(reduced),
        bandwidth=kind.bandwidth(sharing) if step.devices > 1 else 0.0,
        between_bytes=round(between),
        network=kind.bandwidth(step.devices) if between else 0.0,
    )


def largest_microbatch(step: Step, room: int) -> int:
    """Return the most images at a time with which a step fits `room`; 0 if none do.

    They are as many as it has, or those halved until it fits.
    """
    images = step.microbatch
    while images:
        if with_training(step, microbatch_size=images).peak().total <= room:
            return images
        images //= 2
    return 0


def remedies(step: Step, kind: Hardware, room: int | None = None) -> tuple[str, ...]:
    """Return what would make a step fit, each by itself if it can: the setting, as it is given.

    More processes are no help on a processor: those of one machine share its memory.

    Args:
        step: One that does not fit.
        kind: Of its devices.
        room: Bytes that it has on each; by default all that can be used of them.
    """
    room = kind.usable if room is None else room
    found = []
    if images := largest_microbatch(step, room):
        found.append(f"training.microbatch_size={images}")
    if not step.training.checkpoint_activations:
        checkpointed = with_training(step, checkpoint_activations=True)
        if checkpointed.peak().total <= room:
            found.append("training.checkpoint_activations=true")
        elif not images and (images := largest_microbatch(checkpointed, room)):
            found.append(
                f"training.checkpoint_activations=true with training.microbatch_size={images}"
            )
    if kind.is_gpu and (more := _processes_that_fit(step, kind, room)):
        found.append(more)
    return tuple(found)


def _processes_that_fit(step: Step, kind: Hardware, room: int) -> str:
    """Return the fewest processes, in doubles, among which a step fits; empty if none do."""
    checkpointed = with_training(step, checkpoint_activations=True)
    ways: tuple[tuple[Step, Strategy, str], ...] = (
        (step, "ddp", "training.parallel=ddp"),
        (step, "fsdp", "training.parallel=fsdp"),
        (checkpointed, "fsdp", "training.parallel=fsdp and training.checkpoint_activations=true"),
    )
    for attempt, strategy, settings in ways:
        if strategy == "fsdp" and not _can_share(step.training):
            continue
        devices = max(2, 2 * step.devices)
        while step.training.batch_size % devices == 0:
            copies = _copies(step.model, kind, devices)
            more = replace(attempt, devices=devices, strategy=strategy, copies=copies)
            if more.peak().total <= room:
                return f"{devices} processes and {settings}"
            devices *= 2
    return ""


def fitted(
    model: ModelConfig,
    training: TrainingConfig,
    *,
    kind: Hardware,
    devices: int,
    workload: Workload | None = None,
) -> TrainingConfig | None:
    """Return the training as it fits, changed as little as that takes; None if it cannot.

    Arguments as in `make_plan`.

    First the microbatch shrinks, which costs nothing to speak of. Then activations are computed
    again, then weights are shared, if there are several devices.

    Raises:
        ConfigError: The batch does not divide among so many devices.
    """
    ways = [training.parallel, *(["fsdp"] if devices > 1 and _can_share(training) else [])]
    for parallel in ways:
        for checkpointed in sorted({training.checkpoint_activations, True}):
            attempt = replace(training, parallel=parallel, checkpoint_activations=checkpointed)  # type: ignore[arg-type]
            step = training_step(model, attempt, kind=kind, devices=devices, workload=workload)
            require_share(step)
            if images := largest_microbatch(step, kind.usable):
                return replace(attempt, microbatch_size=images)
    return None
