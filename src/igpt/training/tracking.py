"""Curves of a training in somebody else's viewer, beside `metrics.jsonl`, which stays the record.

    begin_tracking(folder, "tensorboard")    # the run is tracked from now on, and when resumed
    tensorboard --logdir runs                # shows all tracked runs below that folder

What is drawn are the numbers of the record, by its names. A run that goes on from a saved state
draws the steps after it again; those drawn before are marked as void then, so that no point is
there twice. A run that was begun without curves gets all of them once it is tracked.
"""

import importlib.util
import json
import time
import warnings
from pathlib import Path
from typing import Any, Literal

from igpt.errors import ConfigError

Tracker = Literal["tensorboard"]

TENSORBOARD = "tensorboard"
"""The folder in a run that is tracked."""

_INSTALL = "pip install 'igpt[track]'"


def require_tracker(tracker: Tracker | None) -> None:
    """See that a tracker, if one is wanted, is installed.

    Raises:
        ConfigError: It is not.
    """
    if tracker is not None and importlib.util.find_spec(tracker) is None:
        raise ConfigError(f"--track {tracker} needs an extra; {_INSTALL}")


def begin_tracking(run: Path, tracker: Tracker | None) -> None:
    """Have a run be tracked from now on; None changes nothing."""
    if tracker is not None:
        (run / TENSORBOARD).mkdir(exist_ok=True)


def draw_if_not_begun(run: Path, lines: bytes) -> None:
    """Draw all of a record that gets no more lines, if the run is tracked but has no curves yet."""
    folder = run / TENSORBOARD
    if folder.is_dir() and not any(folder.iterdir()):
        Curves(run, lines).close()


class Curves:
    """Where the lines of a run's record are drawn: nowhere, unless it is tracked."""

    def __init__(self, run: Path, kept: bytes) -> None:
        """Go on after the lines that are kept of the record; what was drawn after them is void."""
        self._writer = None
        folder = run / TENSORBOARD
        if not folder.is_dir():
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            warnings.warn(
                f"the curves in {folder} stop here, as what draws them is not installed; "
                f"{_INSTALL} (all numbers are in the run's metrics.jsonl)",
                stacklevel=2,
            )
            return
        lines = [json.loads(text) for text in kept.splitlines()]
        begun = any(folder.iterdir())
        self._zero = time.time() - (lines[-1].get("seconds", 0.0) if lines else 0.0)
        self._writer = SummaryWriter(str(folder), purge_step=len(lines) if begun else 0)
        if not begun:
            for line in lines:
                self.write(line)

    def write(self, line: dict[str, Any]) -> None:
        """Draw the numbers of a line at its step, at the time of training that it tells."""
        if self._writer is None:
            return
        then = self._zero + line.get("seconds", 0.0)
        for name, value in line.items():
            if name not in ("step", "seconds"):
                self._writer.add_scalar(name, value, line["step"], walltime=then)

    def flush(self) -> None:
        """Have all that was drawn be in the files."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """End it."""
        if self._writer is not None:
            self._writer.close()
