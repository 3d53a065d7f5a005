"""What pretraining and fine-tuning share around the loop: resume, measure, save, stop.

    fit(run, pretrained, training=..., objective=..., batch_at=..., validate=...)

A run that is killed goes on from its newest state and repeats, bit for bit on a CPU, the losses it
would have had.
"""

import time
from collections.abc import Callable
from typing import Any

from igpt.data.batches import Batch
from igpt.files import remove_abandoned
from igpt.model.pretrained import Pretrained
from igpt.objectives.autoregressive import Objective
from igpt.runs.run import Interrupted, RunFolder, StopSignals
from igpt.training.config import TrainingConfig
from igpt.training.loop import StepDone, train
from igpt.training.metrics import MetricsFile, Progress
from igpt.training.optimizer import build_optimizer
from igpt.training.state import Checkpoints

Validate = Callable[[int, dict[str, Any]], tuple[dict[str, float], bool]]
"""Updates done and the run's memory (saved with its state, to be changed in place) to measures for
the record, and whether to stop here."""

FOLDED = "train+validation"
"""The split that a run learns from once its settings are chosen (Chen et al. 2020, section 3.1)."""


def fit(
    run: RunFolder,
    pretrained: Pretrained,
    *,
    training: TrainingConfig,
    objective: Objective,
    batch_at: Callable[[int], Batch],
    validate: Validate,
    publish: bool,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Train from the newest saved state, or from the start, to the end.

    Args:
        run: Where states, metrics and the model go.
        pretrained: Network to fit in place.
        training: How.
        objective: Makes the losses of a batch.
        batch_at: Returns the batch of a step.
        validate: Measures every `training.validate_every` steps and at the end.
        publish: Write the model folder at every checkpoint, and snapshots of it as
            `training.snapshots` tells; or else `validate` does it.
        seconds: Stop, with a state saved, once this long at it; the run can then be resumed.

    Returns:
        What the run remembers: `updates`, `seconds`, and what `validate` put there.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingDiverged: The loss is no number any more; the last good state is kept.
        CheckpointError: The newest state is damaged.
    """
    model = pretrained.model
    optimizer = build_optimizer(model, training)
    checkpoints = Checkpoints(
        run.path / "state", keep=training.keep_checkpoints, fingerprint=run.fingerprint
    )
    for folder in (run.path, checkpoints.folder):
        remove_abandoned(folder)
    start, memory = checkpoints.restore(model, optimizer)
    if memory.get("finished"):
        return memory
    spent_before = memory.get("seconds", 0.0)
    metrics = MetricsFile(run.metrics, first_step=start)
    progress = Progress(
        run.path.name,
        steps=training.steps,
        start=start,
        images_per_step=training.batch_size,
        tokens_per_image=model.config.positions,
        flops_per_token=model.config.flops_per_token,
        device=model.device,
    )
    began = saved = time.monotonic()
    signals = StopSignals()

    def save(updates: int, *, finished: bool) -> None:
        nonlocal saved
        memory.update(
            updates=updates, seconds=spent_before + time.monotonic() - began, finished=finished
        )
        if publish:  # first, so that a state which says "finished" never has an older model
            pretrained.save(run.model)
        checkpoints.save(updates, model, optimizer, memory)
        saved = time.monotonic()

    def after_step(done: StepDone) -> bool:
        updates = done.step + 1
        speeds = progress.update(done.step, done.measures)
        line = {"step": done.step, **done.measures, **speeds}
        finished = updates == training.steps
        validated = finished or updates % training.validate_every == 0
        if validated:
            model.eval()
            measured, enough = validate(updates, memory)
            model.train()
            line.update(measured)
            finished = finished or enough
            if measured:
                progress.say(
                    f"step {updates}: "
                    + ", ".join(
                        f"{name.replace('_', ' ')} {value:.4f}" for name, value in measured.items()
                    )
                )
        if publish and updates in training.snapshot_steps:
            pretrained.save(run.snapshot(updates))
        line["seconds"] = spent_before + time.monotonic() - began
        metrics.write(line)
        late = time.monotonic() - saved >= training.checkpoint_minutes * 60
        out_of_time = seconds is not None and time.monotonic() - began >= seconds
        stop = finished or signals.received is not None or out_of_time
        # `validate` may have kept this step's weights as the best: the memory must say so too.
        if stop or late or validated or updates % training.checkpoint_every == 0:
            save(updates, finished=finished)
        return stop

    try:
        with signals.caught():
            train(
                model,
                optimizer,
                objective=objective,
                batch_at=batch_at,
                config=training,
                after_step=after_step,
                start=start,
            )
    finally:
        progress.close()
        metrics.close()
    if signals.received is not None and not memory["finished"]:
        raise Interrupted(
            f"stopped after {memory['updates']} of {training.steps} steps, all saved; go on with "
            f"--resume {run.path}",
            signal_number=signals.received,
        )
    return memory
