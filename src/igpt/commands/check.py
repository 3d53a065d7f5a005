"""Seeing that files are still what igpt wrote."""

import sys
from pathlib import Path

from igpt.commands.options import Json, show


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
