"""What a training tells while it runs: a line a step in `metrics.jsonl`, and a progress bar.

The file is the record; `igpt report` reads it. On a terminal there is a bar; in a log file, one
plain line now and then.
"""

import contextlib
import json
import re
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from igpt.errors import CheckpointError
from igpt.files import refusals_told, written_aside

PEAK_FLOPS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 80GB HBM3": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10G": 70e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "V100": 125e12,
    "T4": 65e12,
}
"""Dense 16-bit matrix peak, FLOP/s, by a part of the device's name; the makers' data sheets.

Without sparsity, and with float32 accumulation where a card has two figures. "H100 80GB HBM3" is
the SXM form.
"""

_LOG_SECONDS = 30.0


def peak_flops(device: torch.device) -> float | None:
    """Return the device's dense 16-bit peak in FLOP/s, or None if it is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    for part, peak in PEAK_FLOPS.items():
        if re.search(rf"\b{re.escape(part)}\b(?!.*Laptop)", name):
            return peak
    return None


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, one line a step."""

    def __init__(self, path: Path, *, first_step: int) -> None:
        """Open the file to add the lines from `first_step` on.

        Lines of that step and later, which a killed run may have left behind its last saved state,
        are dropped, and so is a last line that was cut off.
        """
        kept = [line for line in read_metrics(path) if line["step"] < first_step]
        with written_aside(path) as aside:
            aside.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._path = path
        self._file = path.open("a", buffering=1)

    def write(self, line: dict[str, Any]) -> None:
        """Add a line.

        Raises:
            DataError: The disk is full.
        """
        with refusals_told(self._path):
            self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # a full disk has been told of by then
            self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a `metrics.jsonl`, numbers by name; one cut off at its end is left out.

    Raises:
        CheckpointError: A line is no object of numbers.
    """
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        numbers = isinstance(line, dict) and all(type(v) in (int, float) for v in line.values())
        if not numbers or type(line.get("step")) is not int:
            raise CheckpointError(f"{path} is damaged: its lines should hold numbers; restore it")
        lines.append(line)
    return lines


class Progress:
    """A bar with loss, speed, time left and, on known devices, model FLOPs utilization (MFU).

    MFU = training FLOP of the tokens seen in a second (`ModelConfig.flops_per_token`) divided by
    the device's dense 16-bit peak; "n/a" where the peak is not known.
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
        self.flops_per_token, self.peak = flops_per_token, peak_flops(device)
        self.bar = tqdm(
            total=steps, initial=start, desc=title, unit="step", disable=None, dynamic_ncols=True
        )
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
        else:
            shown["MFU"] = "n/a"
        if not self.bar.disable:
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update()
        elif now - self.said >= _LOG_SECONDS or step + 1 == self.steps:
            self.said = now
            left = (now - self.began) / (step + 1 - self.start) * (self.steps - step - 1)
            text = " ".join(f"{name}={value}" for name, value in shown.items())
            self.say(f"{self.title}: step {step + 1}/{self.steps} {text} left={left:.0f}s")
        return speeds

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        tqdm.write(text, file=sys.stderr)

    def say_measured(self, updates: int, measured: dict[str, float]) -> None:
        """Print what was measured after so many updates, if anything was."""
        parts = (f"{name.replace('_', ' ')} {value:.4f}" for name, value in measured.items())
        if measured:
            self.say(f"step {updates}: {', '.join(parts)}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.close()
