"""Going on with a run of any kind, from its newest state; and starting one unless it is there."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from igpt import processes
from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, ConfigError
from igpt.files import remove_abandoned
from igpt.paths import AnyPath, as_path
from igpt.places import SEARCH
from igpt.processes import choose_device
from igpt.runs import finetune, pretrain
from igpt.runs.run import PretrainSettings, RunFolder, training_of, with_training
from igpt.training.config import Parallel
from igpt.training.fit import STATE
from igpt.training.schedule import Longer, learning_rate_at
from igpt.training.state import Checkpoints
from igpt.training.tracking import Tracker, begin_tracking, require_tracker


def resume(
    path: AnyPath,
    *,
    steps: int | None = None,
    data: AnyPath | None = None,
    device: str = "auto",
    seconds: float | None = None,
    parallel: Parallel | None = None,
    track: Tracker | None = None,
) -> RunFolder:
    """Go on with a run from its newest state; a finished one is left as it is.

    What is missing and can be made, its model or a picture, is made in either case.

    With `steps`, the run gets that many in all, for good, and goes on to there. What becomes of its
    learning rate is said in `igpt.training.schedule`; the run keeps the change as `longer.json`,
    and its `settings` have the new number. What was measured of its model is then of an earlier
    one.

    Args:
        path: Folder of the run.
        steps: Other steps than it began with; more than it has done.
        data: Where its images are, if they have moved.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.
        parallel: How several processes share the weights from now on, if not as the run was told.
        track: Draw the curves there from now on, and what came before as well; a run that is
            tracked stays so.

    Raises:
        CheckpointError: No run there, another process is at work on it, its states or metrics are
            missing or damaged, or `data` holds other images than it began with.
        ConfigError: So many steps are done already or are too few for its warm-up, or the run
            cannot have others; or its batches do not divide among so many processes, or the extra
            of `track` is missing.
        DataError: The run cannot be written to.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    path = Path(path)
    data = as_path(data)
    require_tracker(track)
    if processes.first():
        remove_abandoned(path.parent, path.name)
    run = RunFolder.open(path)
    with run.held():
        begin_tracking(run.path, track)
        store, chosen = run.settings.data.reopen(data), choose_device(device)
        if steps is not None:
            processes.by_first(lambda: _lengthen(run, steps, store, chosen))
        settings = run.settings
        run.say(f"going on with {run.path}")
        training = training_of(settings)
        processes.require_divisible(training.batch_size)
        settings = with_training(settings, parallel=parallel or training.parallel)
        if isinstance(settings, PretrainSettings):
            return pretrain.go_on(run, settings, store, chosen, seconds)
        return finetune.go_on(run, settings, store, chosen, seconds)


def _lengthen(run: RunFolder, steps: int, store: RecordStore, device: torch.device) -> None:
    """Give a run another number of steps, unless it has that many.

    Raises:
        CheckpointError: It has no whole state to go on from.
        ConfigError: As in `resume`.
    """
    settings = run.settings
    before = training_of(settings)
    if steps == before.steps:
        return
    memory, _ = Checkpoints(run.path / STATE, fingerprint=run.fingerprint).newest()
    if memory is None:
        raise CheckpointError(f"{run.path} has no whole state to go on from; start a new run")
    if memory.updates >= steps:
        raise ConfigError(
            f"{run.path} has done {memory.updates:,} steps already; give more than that with "
            "--steps, or start a new run"
        )
    if (run.path.parent / SEARCH).is_file():
        raise ConfigError(
            f"{run.path} is a run of the search {run.path.parent}, which has told its outcome; "
            "begin a run of its own, with its rate and more steps"
        )
    if isinstance(settings, PretrainSettings) and settings.recipe.snapshots:
        raise ConfigError(
            f"{run.path} keeps snapshots at shares of the steps it began with; begin a run of its "
            "own with more"
        )
    if not isinstance(settings, PretrainSettings) and memory.finished:
        raise ConfigError(
            f"{run.path} has ended, and the test images were measured with what it learned; "
            f"fine-tune {settings.source} anew, with --steps {steps} and another --out"
        )
    longer = Longer.of(before, after=memory.updates, steps=steps)
    try:
        after = dataclasses.replace(before, steps=steps)
        after = after.for_records(len(store.split(settings.split)))
        learning_rate_at(steps - 1, after, [*run.longer, longer])  # by way of all changes
    except ConfigError as error:
        raise ConfigError(
            f"{run.path} would come to its end, at step {steps:,}, before its warm-up does; give "
            "more with --steps, or start a new run"
        ) from error
    run.lengthen(longer, device)
    run.say(f"{run.path}: {steps:,} steps instead of {before.steps:,}; {longer.described(before)}")


def ensure(
    path: Path,
    start: Callable[[], RunFolder],
    *,
    data: Path | None = None,
    device: str = "auto",
    seconds: float | None = None,
) -> RunFolder:
    """Go on with the run at `path`, or `start` it if there is none; arguments as in `resume`."""
    remove_abandoned(path.parent, path.name)
    if not RunFolder.is_at(path):
        return start()
    return resume(path, data=data, device=device, seconds=seconds)
