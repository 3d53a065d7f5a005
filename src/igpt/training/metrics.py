"""What a training tells while it runs: a line a step in `metrics.jsonl`, and a progress bar.

The file is the record; `igpt report` reads it, and `igpt.training.tracking` draws it elsewhere. On
a terminal there is a bar; in a log file, one plain line now and then.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from igpt import processes
from igpt.amounts import spoken
from igpt.errors import CheckpointError
from igpt.files import refusals_told, written_aside
from igpt.hardware import recognize
from igpt.training.tracking import Curves

_LOG_SECONDS = 30.0


def peak_flops(device: torch.device) -> float | None:
    """Return the device's dense 16-bit peak in FLOP/s, or None if its kind is not known."""
    if device.type != "cuda":
        return None
    kind = recognize(torch.cuda.get_device_name(device))
    return None if kind is None else kind.float16


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, one line a step."""

    def __init__(self, path: Path, *, lines: int = 0, sha256: str = "") -> None:
        """Open the file to add to its first `lines`; those after them are dropped.

        A killed run may have left lines behind its last saved state, and it will write them again.

        Raises:
            CheckpointError: As in `require_lines`.
            DataError: The place cannot be written to.
        """
        kept = require_lines(path, lines, sha256)
        if not path.is_file() or path.stat().st_size != len(kept):
            with written_aside(path) as aside:
                aside.write_bytes(kept)
        self._path = path
        self._digest = hashlib.sha256(kept)
        with refusals_told(path):
            self._file = path.open("ab")
        self._opened = os.fstat(self._file.fileno())
        self._curves = Curves(path.parent, kept)

    @property
    def sha256(self) -> str:
        """Checksum of all that was written, in hexadecimal."""
        return self._digest.hexdigest()

    def require_in_place(self) -> None:
        """See that the path still leads to the file that was opened.

        Raises:
            CheckpointError: The file, or the folder it lies in, was removed, renamed or replaced.
        """
        try:
            there = os.stat(self._path)
        except OSError:
            there = None
        if there is None or not os.path.samestat(there, self._opened):
            raise CheckpointError(
                f"{self._path} was removed, renamed or replaced while the run was being trained, "
                "so that training stopped; put it back, with the folder it lies in, and go on "
                "from the last saved state with igpt resume"
            )

    def write(self, line: dict[str, Any]) -> None:
        """Add a line.

        Raises:
            CheckpointError: As in `require_in_place`.
            DataError: The disk is full.
        """
        self.require_in_place()
        text = (json.dumps(line) + "\n").encode()
        with refusals_told(self._path):
            self._file.write(text)
            self._file.flush()
        self._digest.update(text)
        self._curves.write(line)

    def sync(self) -> None:
        """Have the disk hold all that was written, before a state says that it is there.

        Raises:
            DataError: The disk refuses.
        """
        with refusals_told(self._path):
            os.fsync(self._file.fileno())
        self._curves.flush()

    def close(self) -> None:
        """Close the file."""
        self._curves.close()
        with contextlib.suppress(OSError):  # a full disk has been told of by then
            self._file.close()


class NoMetrics(MetricsFile):
    """Where the lines of processes that do not write go: nowhere."""

    sha256 = ""

    def __init__(self) -> None:
        """Open nothing."""

    def require_in_place(self) -> None:
        """See nothing."""

    def write(self, line: dict[str, Any]) -> None:
        """Drop the line."""

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a `metrics.jsonl`, numbers by name; one cut off at its end is left out.

    Raises:
        CheckpointError: Another line is no object of numbers, or not that of its step; the message
            has its number.
    """
    return [line for line, _ in _read_lines(path)]


def require_lines(path: Path, count: int, sha256: str = "") -> bytes:
    """Return the first `count` lines of a `metrics.jsonl`, as they are.

    Args:
        path: The file; none is as one without a line.
        count: How many a saved state tells there were.
        sha256: Their checksum when it was saved; empty if it is not known.

    Raises:
        CheckpointError: There are fewer, they are others, or any line of the file is damaged.
    """
    texts = [text for _, text in _read_lines(path)]
    if len(texts) < count:
        raise CheckpointError(
            f"{path} has {len(texts)} of the {count} lines that were written before the run's "
            "newest state; put the whole file back to go on (the run's model/ can be used as it is)"
        )
    kept = b"".join(texts[:count])
    if sha256 and hashlib.sha256(kept).hexdigest() != sha256:
        raise CheckpointError(
            f"{path} was changed in its first {count} lines since the run's newest state was "
            "saved; put it back as it was to go on (the run's model/ can be used as it is)"
        )
    return kept


def _read_lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield each line's numbers by name, and its text with the line's end."""
    if not path.exists():
        return
    try:
        *whole, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise CheckpointError(f"could not read {path}: {error.strerror}") from error
    for step, text in enumerate([*whole, last]):
        line = _parse(text)
        if line is not None and line["step"] == step:
            yield line, text + b"\n"
        elif step < len(whole):
            raise CheckpointError(
                f"{path} is damaged: line {step + 1} should hold the numbers of step {step}; put "
                "a whole copy of the file in its place"
            )


def _parse(text: bytes) -> dict[str, Any] | None:
    """Return a line's numbers by name; None if it holds anything else."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    numbers = isinstance(line, dict) and all(type(v) in (int, float) for v in line.values())
    return line if numbers and type(line.get("step")) is int else None


class Progress:
    """A bar with loss, speed, time left and, on known devices, model FLOPs utilization (MFU).

    MFU = training FLOP of the tokens seen in a second (`ModelConfig.flops_per_token`) divided by
    the device's dense 16-bit peak; left out where the peak is not known.
    """

    def __init__(
        self,
        title: str,
        *,
        steps: int,
        start: int,
        images_per_step: int,
        tokens_per_image: int,
        flops_per_token: int,
        device: torch.device,
    ) -> None:
        self.title, self.steps = title, steps
        self.images_per_step, self.tokens_per_image = images_per_step, tokens_per_image
        peak = peak_flops(device)
        self.flops_per_token, self.peak = flops_per_token, peak and peak * processes.count()
        self.silent = not processes.first()
        self.bar = tqdm(
            total=steps, initial=start, desc=title, unit="step", dynamic_ncols=True,
            disable=self.silent or None,
        )  # fmt: skip
        self.start, self.began = start, time.monotonic()
        self.said = self.began
        self.recent: deque[tuple[int, float]] = deque([(start, self.began)], maxlen=50)

    def update(self, step: int, measures: dict[str, float]) -> dict[str, float]:
        """Show that `step` is done; return the speeds of late, for the record."""
        now = time.monotonic()
        self.recent.append((step + 1, now))
        (first, then), (last, _) = self.recent[0], self.recent[-1]
        images = (last - first) * self.images_per_step / max(now - then, 1e-9)
        tokens = images * self.tokens_per_image
        speeds = {"images_per_second": images, "tokens_per_second": tokens}
        shown = {"loss": f"{measures['loss']:.4f}", "tok/s": f"{tokens:,.0f}"}
        shown["img/s"] = f"{images:,.1f}"
        if self.peak is not None:
            speeds["mfu"] = tokens * self.flops_per_token / self.peak
            shown["MFU"] = f"{speeds['mfu']:.1%}"
        if not self.bar.disable:
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update()
        elif now - self.said >= _LOG_SECONDS or step + 1 == self.steps:
            self.said = now
            left = (now - self.began) / (step + 1 - self.start) * (self.steps - step - 1)
            text = " ".join(f"{name}={value}" for name, value in shown.items())
            self.say(f"{self.title}: step {step + 1}/{self.steps} {text}, {spoken(left)} left")
        return speeds

    def say(self, text: str) -> None:
        """Print a line above the bar, in the first process alone."""
        if self.silent:
            return
        tqdm.write(text, file=sys.stderr)

    def say_measured(self, updates: int, measured: dict[str, float]) -> None:
        """Print what was measured after so many updates, if anything was."""
        parts = (f"{name.replace('_', ' ')} {value:.4f}" for name, value in measured.items())
        if measured:
            self.say(f"step {updates}: {', '.join(parts)}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()
