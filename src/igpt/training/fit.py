"""A run's training from its newest state to its end: what is done after each step, top to bottom.

    memory = fit(folder, pretrained, training=..., objective=..., batch_at=..., validate=...)

A run that is killed goes on from its newest state and repeats, bit for bit on a CPU, the losses it
would have had. Files, in the run's folder:

    metrics.jsonl    a line a step
    state/           what resuming needs (igpt.training.state)
    model/           what others load: the newest weights, or with an early stop the best; with
                     `training.averaging` their means, which are then what is measured, too
    snapshots/       the model as it was on the way, if that is asked for

Nothing of these is shortened or overwritten but what a state accounts for. So the first state is
there before the first line; and a step that is validated has its state first, in which its measures
are pending. If the validation fails, it alone is repeated.
"""

import dataclasses
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from igpt import processes
from igpt.data.ahead import prepared_ahead
from igpt.data.batches import Batch
from igpt.errors import CheckpointError, IgptError
from igpt.files import remove_abandoned
from igpt.model.pretrained import Pretrained
from igpt.objectives.autoregressive import Objective
from igpt.places import resuming
from igpt.training.averaging import averaged
from igpt.training.config import TrainingConfig, batches_ahead, saves_beside
from igpt.training.estimate import Estimate, slow_step
from igpt.training.loop import train
from igpt.training.metrics import MetricsFile, NoMetrics, Progress, read_metrics, require_lines
from igpt.training.optimizer import build_optimizer
from igpt.training.parallel import choose_strategy, spread_over_processes
from igpt.training.precision import settled
from igpt.training.saving import Writer
from igpt.training.schedule import Longer
from igpt.training.signals import Interrupted, StopSignals
from igpt.training.state import Checkpoints, Memory, Tensors
from igpt.training.tracking import draw_if_not_begun

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
    records: int,
    early_stop: EarlyStop | None = None,
    snapshot_steps: Collection[int] = (),
    longer: Sequence[Longer] = (),
    seconds: float | None = None,
) -> Memory:
    """Train from the newest saved state, or from the start, to the end.

    Args:
        folder: The run's; see above for what goes there.
        pretrained: Network to fit in place, and what belongs to it.
        training: How.
        objective: Makes the losses of a batch.
        batch_at: Returns the batch of a step; called ahead, and by several threads at a time, as
            `training.prepare_ahead` says.
        validate: Updates done to measures for the record, on held-out images; called every
            `training.validate_every` steps and at the end, with an early stop also at the start.
        fingerprint: Says which settings a saved state belongs to.
        records: How many images there are to learn from, for what is said of the time it takes.
        early_stop: Publish the best weights rather than the newest, and stop by them.
        snapshot_steps: Updates after which the model is kept as it then is.
        longer: How often the run was given other steps, first to last; `training` has the last.
        seconds: Stop, with a state saved, once this long at it; the run can then be resumed.

    Returns:
        What the run remembers at its last state.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        TrainingDiverged: The loss is no number any more; the last good state is kept.
        CheckpointError: The run cannot go on without overwriting what no state accounts for: its
            states are missing or damaged, or lines of its metrics are; or its files were removed or
            renamed while it was trained.
        DataError: The disk is full, or the place cannot be written to.
    """
    model, device = pretrained.model, pretrained.model.device
    training = settled(training, device, model.config)
    checkpoints = Checkpoints(
        folder / STATE, keep=training.keep_checkpoints, fingerprint=fingerprint
    )
    memory = processes.by_first(
        lambda: _recall(folder, pretrained, checkpoints, training, early_stop)
    )
    strategy, reason = choose_strategy(training, sum(p.numel() for p in model.parameters()), device)
    assert training.precision != "auto"
    spread = spread_over_processes(model, objective, strategy, precision=training.precision)
    optimizer = build_optimizer(spread.model, training)
    if memory.updates in checkpoints.steps():
        checkpoints.load(memory.updates, spread.model, optimizer)
    if memory.finished and (early_stop is not None or memory.updates >= training.steps):
        if processes.first():
            draw_if_not_begun(folder, require_lines(folder / METRICS, memory.lines))
        return memory
    metrics = (
        MetricsFile(folder / METRICS, lines=memory.lines, sha256=memory.metrics_sha256)
        if processes.first()
        else NoMetrics()
    )

    def write_model(place: Path, weights: dict[str, Tensor]) -> None:
        if processes.first():
            metrics.require_in_place()
            pretrained.save(place, weights=weights)

    def save_model(place: Path) -> None:
        with averaged(optimizer):
            write_model(place, spread.whole_weights())

    def measure(updates: int) -> dict[str, float]:
        with averaged(optimizer), spread.whole():
            return validate(updates)

    beside = saves_beside(training.background_saving, gpu=device.type == "cuda")
    writer = Writer(beside=beside)
    group = processes.second_group() if beside and strategy == "fsdp" else None

    def save(memory: Memory) -> None:
        writer.wait()  # so that there is never more than one copy
        metrics.sync()
        tensors = Tensors.of(spread.model, optimizer, copied=beside)
        weights = None
        if early_stop is None:
            weights = tensors.weights
            if tensors.in_shares or training.averaging:
                with averaged(optimizer):
                    weights = {name: w.clone() for name, w in spread.whole_weights().items()}

        def write() -> None:
            if weights is not None:  # first, so that no "finished" has an older model
                write_model(folder / MODEL, weights)
            metrics.require_in_place()
            checkpoints.write(tensors, memory, group)

        writer.begin(write)

    progress = Progress(
        folder.name,
        steps=training.steps,
        start=memory.updates,
        images_per_step=training.batch_size,
        tokens_per_image=model.config.positions,
        flops_per_token=model.config.flops_per_token,
        device=device,
    )
    if said := slow_step(model.config, training, device):
        progress.say(f"{folder}: {said}")
    if reason:
        progress.say(f"{folder}: {reason}")
    ends = {training.steps, *(change.before for change in longer)}
    spent_before = memory.seconds
    began = saved = time.monotonic()
    estimate = Estimate(
        title=str(folder), training=training, records=records, start=memory.updates, began=began
    )
    ahead = batches_ahead(
        training.prepare_ahead, gpu=device.type == "cuda", idle_cores=processes.has_idle_cores()
    )
    steps = range(memory.updates, training.steps)
    signals = StopSignals(repeated=processes.launched())
    try:
        with (
            signals.caught(),
            prepared_ahead(batch_at, steps, ahead=ahead, device=device) as batch_at,
        ):
            at_start: dict[str, float] = {}
            if early_stop is not None and memory.updates == 0:
                at_start = measure(0)
                progress.say_measured(0, at_start)
                memory = memory.with_score(at_start[early_stop.measure], 0)
                save_model(folder / MODEL)
            for done in train(
                spread.model, optimizer, objective=objective, batch_at=batch_at, config=training,
                longer=longer, start=memory.updates, again=memory.pending,
                loss_scale=memory.loss_scale, spread=spread,
            ):  # fmt: skip
                updates, measures = done.step + 1, dict(done.measures)
                finished = updates == training.steps
                validated = updates in ends or updates % training.validate_every == 0
                if updates > memory.updates:  # or else only what is pending is to be done
                    measures |= progress.update(done.step, done.measures)
                    if said := estimate.after(done.step, time.monotonic()):
                        progress.say(said)
                    if "skipped" in measures:
                        progress.say(
                            f"step {updates}: a gradient overflowed float16, and the update was "
                            f"skipped; the loss was scaled by {measures['loss_scale']:g}, and is "
                            "by half of that from now on"
                        )
                    if done.step == 0:
                        measures |= {name + AT_START: value for name, value in at_start.items()}
                    if validated:
                        spent = spent_before + time.monotonic() - began
                        memory = dataclasses.replace(
                            memory, updates=updates, seconds=spent, pending=measures,
                            metrics_sha256=metrics.sha256, loss_scale=done.loss_scale,
                        )  # fmt: skip
                        save(memory)
                        saved = time.monotonic()

                line = {"step": done.step, **measures}
                if validated:
                    measured = measure(updates)
                    line |= measured
                    progress.say_measured(updates, measured)
                    if early_stop is not None:
                        memory = memory.with_score(measured[early_stop.measure], updates)
                        if memory.without_gain == 0:
                            save_model(folder / MODEL)
                        finished = finished or memory.without_gain >= early_stop.patience
                if updates in snapshot_steps:
                    save_model(folder / SNAPSHOTS / snapshot_name(updates))

                now = time.monotonic()
                line["seconds"] = spent_before + now - began
                metrics.write(line)
                writer.check()
                received, out_of_time, late = processes.agree(
                    signals.received or 0,
                    seconds is not None and now - began >= seconds,
                    now - saved >= training.checkpoint_minutes * 60,
                )
                stop = finished or out_of_time or received
                memory = dataclasses.replace(
                    memory, updates=updates, seconds=line["seconds"], finished=finished,
                    pending=None, metrics_sha256=metrics.sha256, loss_scale=done.loss_scale,
                )  # fmt: skip
                if validated:
                    metrics.sync()
                    writer.wait()
                    if processes.first():
                        checkpoints.settle(memory)
                elif stop or late or updates % training.checkpoint_every == 0:
                    save(memory)
                    saved = time.monotonic()
                if stop:
                    break
            writer.wait()
            (received,) = processes.agree(signals.received or 0)
    except (OSError, IgptError):
        metrics.require_in_place()  # or else that is why
        raise
    finally:
        writer.close()
        progress.close()
        metrics.close()
    if received:  # also at the end, or else the caller would go on with what comes next
        done = f"{memory.updates:,} of {training.steps:,} steps"
        raise Interrupted(
            f"stopped after {'the last step' if memory.finished else done}, all saved",
            signal_number=received,
            again=resuming(folder),
        )
    return memory


def _recall(
    folder: Path,
    pretrained: Pretrained,
    checkpoints: Checkpoints,
    training: TrainingConfig,
    early_stop: EarlyStop | None,
) -> Memory:
    """Return what the run remembers at its newest whole state, of which its files then are.

    A damaged state is set aside for the one before. A run that finished is left as it is, even if
    its states are gone; but its model is made again if that is missing.

    Raises:
        CheckpointError: As in `fit`.
    """
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        remove_abandoned(place)
    metrics, model = folder / METRICS, folder / MODEL
    memory, damaged = checkpoints.newest()
    if memory is None or damaged:
        told = _remembered_by(read_metrics(metrics), training.steps, early_stop)
        if told.finished and model.is_dir():
            return told
    if memory is None:
        if damaged:
            raise CheckpointError(
                f"{damaged[max(damaged)]}, and there is no whole state before it; put back a copy "
                "of it to go on, or start a new run (a model/ that is there can be used as it is)"
            )
        present = [path.name for path in (metrics, model) if path.exists()]
        if present:
            raise CheckpointError(
                f"{folder} has {' and '.join(present)} but no {STATE}/ to go on from, and would "
                f"lose them by starting again; put {STATE}/ back, or start a new run elsewhere (a "
                "model/ that is there can be used, and fine-tuned, as it is)"
            )
        checkpoints.begin()
        return Memory()
    require_lines(metrics, memory.lines, memory.metrics_sha256)
    for step, error in damaged.items():
        aside = checkpoints.set_aside(step)
        warnings.warn(
            f"{error}; it is kept as {aside.name}, and the run goes on from the state of step "
            f"{memory.updates}",
            stacklevel=2,
        )
    checkpoints.remove_old()
    if not model.is_dir():
        _make_model(model, pretrained, checkpoints, memory, training, early_stop)
    return memory


def _make_model(
    folder: Path,
    pretrained: Pretrained,
    checkpoints: Checkpoints,
    memory: Memory,
    training: TrainingConfig,
    early_stop: EarlyStop | None,
) -> None:
    """Make a model folder that is missing anew, of the state that has its weights.

    Raises:
        CheckpointError: There is no such state any more.
    """
    step = memory.updates if early_stop is None else memory.best_updates
    if early_stop is not None and step == 0:  # the weights before the first update
        pretrained.save(folder)
    if not step:  # or else there was none yet
        return
    if step not in checkpoints.steps():
        raise CheckpointError(
            f"{folder} is missing, and the best weights, those of step {step}, are in no other "
            "place; put it back, or start a new run"
        )
    checkpoints.check(step)
    optimizer = build_optimizer(pretrained.model, training)
    checkpoints.load(step, pretrained.model, optimizer if training.averaging else None)
    with averaged(optimizer):
        pretrained.save(folder)


def _remembered_by(lines: list[dict[str, Any]], steps: int, early_stop: EarlyStop | None) -> Memory:
    """Return what a run remembers as far as its metrics tell it."""
    memory = Memory()
    for line in lines:
        updates = line["step"] + 1
        finished = updates == steps
        if early_stop is not None and early_stop.measure + AT_START in line:
            memory = memory.with_score(line[early_stop.measure + AT_START], 0)
        if early_stop is not None and early_stop.measure in line:
            memory = memory.with_score(line[early_stop.measure], updates)
            finished = finished or memory.without_gain >= early_stop.patience
        memory = dataclasses.replace(
            memory, updates=updates, seconds=line.get("seconds", 0.0), finished=finished
        )
    return memory
