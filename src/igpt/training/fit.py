"""A run's training from its newest state to its end: what is done after each step, top to bottom.

    memory = fit(folder, pretrained, training=..., objective=..., batch_at=..., validate=...)

A run that is killed goes on from its newest state and repeats, bit for bit on a CPU, the losses it
would have had. Files, in the run's folder:

    metrics.jsonl    a line a step
    state/           what resuming needs (igpt.training.state)
    model/           what others load: the newest weights, or with an early stop the best
    snapshots/       the model as it was on the way, if that is asked for
"""

import dataclasses
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from igpt.data.batches import Batch
from igpt.files import remove_abandoned
from igpt.model.pretrained import Pretrained
from igpt.objectives.autoregressive import Objective
from igpt.training.config import TrainingConfig
from igpt.training.loop import train
from igpt.training.metrics import MetricsFile, Progress
from igpt.training.optimizer import build_optimizer
from igpt.training.signals import Interrupted, StopSignals
from igpt.training.state import Checkpoints, Memory

METRICS, STATE, MODEL, SNAPSHOTS = "metrics.jsonl", "state", "model", "snapshots"
AT_START = "_at_start"
"""Ends the names of what was measured before the first step, in the line of that step."""


@dataclass(frozen=True, kw_only=True)
class EarlyStop:
    """Keep the weights with the highest score, and stop once it has not risen for long.

    The weights before the first step are measured like any others.
    """

    measure: str
    """Name of the score among what is measured."""
    patience: int
    """Measurements in a row without a gain that end the training."""


def snapshot_name(updates: int) -> str:
    """Return the name of the folder of the model after so many updates."""
    return f"step-{updates:06d}"


def fit(
    folder: Path,
    pretrained: Pretrained,
    *,
    training: TrainingConfig,
    objective: Objective,
    batch_at: Callable[[int], Batch],
    validate: Callable[[int], dict[str, float]],
    fingerprint: str,
    early_stop: EarlyStop | None = None,
    snapshot_steps: Collection[int] = (),
    seconds: float | None = None,
) -> Memory:
    """Train from the newest saved state, or from the start, to the end.

    Args:
        folder: The run's; see above for what goes there.
        pretrained: Network to fit in place, and what belongs to it.
        training: How.
        objective: Makes the losses of a batch.
        batch_at: Returns the batch of a step.
        validate: Updates done to measures for the record, on held-out images; called every
            `training.validate_every` steps and at the end, with an early stop also at the start.
        fingerprint: Says which settings a saved state belongs to.
        early_stop: Publish the best weights rather than the newest, and stop by them.
        snapshot_steps: Updates after which the model is kept as it then is.
        seconds: Stop, with a state saved, once this long at it; the run can then be resumed.

    Returns:
        What the run remembers at its last state.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingDiverged: The loss is no number any more; the last good state is kept.
        CheckpointError: The newest state is damaged.
    """
    model = pretrained.model
    optimizer = build_optimizer(model, training)
    checkpoints = Checkpoints(
        folder / STATE, keep=training.keep_checkpoints, fingerprint=fingerprint
    )
    for place in (folder, checkpoints.folder):
        remove_abandoned(place)
    memory = checkpoints.restore(model, optimizer)
    if memory.finished:
        return memory
    metrics = MetricsFile(folder / METRICS, first_step=memory.updates)
    progress = Progress(
        folder.name,
        steps=training.steps,
        start=memory.updates,
        images_per_step=training.batch_size,
        tokens_per_image=model.config.positions,
        flops_per_token=model.config.flops_per_token,
        device=model.device,
    )
    spent_before = memory.seconds
    began = saved = time.monotonic()
    signals = StopSignals()
    try:
        with signals.caught():
            at_start: dict[str, float] = {}
            if early_stop is not None and memory.updates == 0:
                at_start = validate(0)
                progress.say_measured(0, at_start)
                memory = memory.with_score(at_start[early_stop.measure], 0)
                pretrained.save(folder / MODEL)
            for done in train(
                model, optimizer,
                objective=objective, batch_at=batch_at, config=training, start=memory.updates,
            ):  # fmt: skip
                updates = done.step + 1
                line = {"step": done.step, **done.measures}
                if done.step == 0:
                    line |= {name + AT_START: value for name, value in at_start.items()}
                line |= progress.update(done.step, done.measures)
                finished = updates == training.steps

                validated = finished or updates % training.validate_every == 0
                if validated:
                    measured = validate(updates)
                    line |= measured
                    progress.say_measured(updates, measured)
                    if early_stop is not None:
                        memory = memory.with_score(measured[early_stop.measure], updates)
                        if memory.without_gain == 0:
                            pretrained.save(folder / MODEL)
                        finished = finished or memory.without_gain >= early_stop.patience
                if updates in snapshot_steps:
                    pretrained.save(folder / SNAPSHOTS / snapshot_name(updates))

                now = time.monotonic()
                line["seconds"] = spent_before + now - began
                metrics.write(line)
                out_of_time = seconds is not None and now - began >= seconds
                stop = finished or out_of_time or signals.received is not None
                late = now - saved >= training.checkpoint_minutes * 60
                memory = dataclasses.replace(
                    memory, updates=updates, seconds=line["seconds"], finished=finished
                )
                # Also when validated: this step's weights may be the best, and the state says so.
                if stop or late or validated or updates % training.checkpoint_every == 0:
                    if early_stop is None:  # first, so that no "finished" has an older model
                        pretrained.save(folder / MODEL)
                    checkpoints.save(model, optimizer, memory)
                    saved = time.monotonic()
                if stop:
                    break
    finally:
        progress.close()
        metrics.close()
    if signals.received is not None and not memory.finished:
        raise Interrupted(
            f"stopped after {memory.updates} of {training.steps} steps, all saved; go on with "
            f"igpt resume {folder}",
            signal_number=signals.received,
        )
    return memory
