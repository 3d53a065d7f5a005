"""What is there: what a run or store is, whether its files are whole, whether the machine is."""

import sys
from pathlib import Path

from igpt.commands.options import Json, show


def info(path: Path, /, *, as_json: Json = False) -> None:
    """Say what a run, search, store, model folder or palette is, and what of it can go.

        igpt info runs/a

    That is: what was done with it (recipe, steps, results that are kept), what it takes on the
    disk, and what is lost by removing which part. Of a folder with several of these, a line each.

    Args:
        path: What to describe.
    """
    from igpt.runs.info import info as described

    result = described(path)
    show(result, as_json=as_json, text=result.table())


def verify(path: Path, /, *, as_json: Json = False) -> None:
    """Read every file of a run, store, model folder or palette, and tell which were changed.

        igpt verify runs/a

    Exit code 0: none was changed and none is missing; 1: some were; 2: PATH is none of these.

    Args:
        path: What to verify.
    """
    from igpt.runs.verify import verify as verified

    result = verified(path)
    show(result, as_json=as_json, text=result.table())
    if not result.whole:
        sys.exit(1)


def doctor(*, hub: bool = False, as_json: Json = False) -> None:
    """Say what igpt finds here: versions, devices, threads, disk; and what is wrong with it.

        igpt doctor

    Exit code 1: something is wrong that stops igpt; its line says what to do.

    Args:
        hub: Also ask whether the Hugging Face hub can be reached.
    """
    from igpt.doctor import examine

    result = examine(hub=hub)
    show(result, as_json=as_json, text=result.table())
    if not result.well:
        sys.exit(1)
