"""A command that a launcher started again goes on with the run that it began before.

torchrun starts the same command anew after one of its processes has died, and a batch system after
it took the machine away. So where a launcher is at work, a run of the very same settings is no
obstacle, but what there is to go on with.
"""

from pathlib import Path

from igpt import processes
from igpt.places import require_room
from igpt.runs.run import RunFolder, Settings


def require_room_or_begun(path: Path) -> None:
    """Check that a run could be made at `path`; one that is there is left to `run_begun`.

    Raises:
        ConfigError: There is something at `path`, and no launcher may have begun it.
        DataError: The place cannot be written to.
    """
    if not (processes.launched() and RunFolder.is_at(path)):
        processes.by_first(lambda: require_room(path))


def run_begun(path: Path, settings: Settings) -> RunFolder | None:
    """Return the run of these very settings at `path`, if a launcher may have begun it before."""
    if not processes.launched() or not processes.by_first(lambda: RunFolder.is_at(path)):
        return None
    run = RunFolder(path)
    return run if run.settings == settings else None
