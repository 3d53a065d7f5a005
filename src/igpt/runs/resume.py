"""Going on with a run of any kind, from its newest state; and starting one unless it is there."""

from collections.abc import Callable
from pathlib import Path

from igpt import locks
from igpt.files import remove_abandoned
from igpt.processes import choose_device
from igpt.runs import finetune, pretrain
from igpt.runs.run import PretrainSettings, RunFolder


def resume(
    path: Path, *, data: Path | None = None, device: str = "auto", seconds: float | None = None
) -> RunFolder:
    """Go on with a run from its newest state; a finished one is left as it is.

    What is missing and can be made, its model or a picture, is made in either case.

    Args:
        path: Folder of the run.
        data: Where its images are, if they have moved.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.

    Raises:
        CheckpointError: No run there, another process is at work on it, its states or metrics are
            missing or damaged, or `data` holds other images than it began with.
        DataError: The run cannot be written to.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    remove_abandoned(path.parent, path.name)
    run = RunFolder.open(path)
    with locks.held(run.path):
        settings = run.settings
        store, chosen = settings.data.reopen(data), choose_device(device)
        run.say(f"going on with {run.path}")
        if isinstance(settings, PretrainSettings):
            return pretrain.go_on(run, settings, store, chosen, seconds)
        return finetune.go_on(run, settings, store, chosen, seconds)


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
