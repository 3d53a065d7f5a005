"""The record of at most ten million weights, within the minutes of a GPU that is only lent.

    python -m benchmarks.gpu.record --source SOURCE --out OUT --seconds 420
    python -m benchmarks.gpu.record --source SOURCE --out OUT --seconds 120     # goes on

SOURCE is what `igpt data prepare` takes: CIFAR-10 in parquet, say. A call does what is not done:
a store, a palette fitted to its train split, a few steps to see how long one takes, a pretraining
of as many steps as `--train-seconds` have room for, likelihood, completions, the probe of every
layer, fine-tuning. Each is a command of `igpt`, which the next call goes on with as long as the
machine keeps WORK; one that fails does not end the others.

Every two minutes, and after each command, what there is comes home to OUT as a parcel
(`benchmarks.gpu.parcel`): metrics, logs and results, and of the weights those of the last state.
`python -m benchmarks.record` makes a record of it. The same at toy size:

    python -m benchmarks.gpu.record --source digits --image-size 8 --colors 8 \\
        --recipe claims-tiny --set model.image_size=8 \\
        --pace-steps 6 --train-seconds 5 --seconds 120 --work WORK --out OUT --device cpu
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from benchmarks.gpu.parcel import pack
from igpt.runs.run import RunFolder
from igpt.training.metrics import read_metrics

HOME_EVERY = 120.0
"""Seconds between parcels."""
LIGHT = {".json", ".jsonl", ".txt", ".png", ".npy", ".md"}
HEAVY = {"state", "snapshots", "data", "pace"}
"""Folders that stay there."""
MARGIN = 0.95
"""Of the seconds, that steps are to take; the rest is for saving and four validations."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Where a record is tried for, and until when."""

    work: Path
    out: Path
    device: str
    end: float
    """By `time.monotonic`."""

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    def igpt(self, *arguments: str | Path) -> bool:
        """Run a command until its end or that of the seconds; say whether it did what it should."""
        if self.left <= 0:
            return False
        line = ["igpt", *map(str, arguments)]
        print(f"$ {' '.join(line)}", flush=True)
        began = brought = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", *line])
        while process.poll() is None:
            time.sleep(0.2)
            if time.monotonic() - brought > HOME_EVERY:
                self.bring_home()
                brought = time.monotonic()
            if self.left <= 0:
                process.terminate()  # which saves what can be gone on with
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        print(f"  code {process.returncode}, {time.monotonic() - began:.0f} s", flush=True)
        self.bring_home()
        return process.returncode == 0

    def bring_home(self) -> None:
        """Pack what is worth it; a file that goes away meanwhile is in the next parcel."""
        try:
            pack(self.work, self._worth(), self.out)
        except FileNotFoundError as error:
            print(f"  not brought home this time: {error}", flush=True)

    def _worth(self) -> Iterator[Path]:
        for file in self.work.rglob("*"):
            inner = file.relative_to(self.work)
            light = file.suffix in LIGHT or file.parent.name == "probe"
            if light and not HEAVY & set(inner.parts[:-1]) and file.is_file():
                yield file
        run = self.work / "run"
        weights = [*run.glob("model/*.safetensors"), *self.work.glob("tuned/model/*.safetensors")]
        states = sorted(run.glob("state/step-*"))
        if states and not weights:
            weights = [states[-1] / "model.safetensors", states[-1] / "state.json"]
        yield from weights


def seconds_per_step(metrics: Path) -> float:
    """Return what a step takes, once all is compiled and warm: the median of the later half."""
    seconds = [line["seconds"] for line in read_metrics(metrics)]
    steps = [after - before for before, after in pairwise(seconds)]
    return statistics.median(steps[len(steps) // 2 :])


def for_steps(steps: int, *, validations: int) -> list[str]:
    """Return the options for so many steps: a twentieth of them to warm up, as our recipes have."""
    training = {"steps": steps, "validate_every": -(-steps // validations),
                "warmup_steps": steps // 20, "warmup_epochs": 0}  # fmt: skip
    return [
        word for name, value in training.items() for word in ("--set", f"training.{name}={value}")
    ]


def attempt(given: argparse.Namespace) -> None:
    """Do what is not done yet."""
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    at = Attempt(work=work, out=given.out, device=given.device,
                 end=time.monotonic() + given.seconds)  # fmt: skip
    store, palette, pace, run = work / "data", work / "palette.npy", work / "pace", work / "run"
    size = ("--image-size", str(given.image_size))
    if not (store / "store.json").is_file():
        at.igpt("data", "prepare", given.source, *size, "--out", store)
    if given.palette and not palette.is_file():
        shutil.copyfile(given.palette, palette)
    if not palette.is_file():
        at.igpt("palette", "fit", store, "--size", str(given.colors), *size, "--out", palette)

    settings = [word for setting in given.settings for word in ("--set", setting)]
    device = ("--device", given.device)
    learn = ("pretrain", given.recipe, "--data", store, "--palette", palette, *device, *settings)
    if not (run / "recipe.json").is_file():
        few = given.pace_steps
        shutil.rmtree(pace, ignore_errors=True)
        if not at.igpt(*learn, *for_steps(few, validations=1), "--out", pace):
            return
        step = seconds_per_step(pace / "metrics.jsonl")
        steps = max(1, round(MARGIN * given.train_seconds / step))
        print(f"{1000 * step:.2f} ms a step; {steps} steps", flush=True)
        at.igpt(*learn, *for_steps(steps, validations=4), "--out", run)
    elif not RunFolder(run).ended:
        at.igpt("resume", run, "--data", store, *device)
    if not RunFolder.is_at(run) or not RunFolder(run).ended:
        return
    of_run = (run, "--data", store, *device)
    for name, command in measures(given.images):
        if not (run / name).exists():
            at.igpt(command[0], *of_run, *command[1:])
    if not given.no_finetuning and not (work / "tuned" / "finetune.json").is_file():
        if (work / "tuned" / "recipe.json").is_file():
            at.igpt("resume", work / "tuned", "--data", store, *device)
            return
        words = [word for setting in given.tuning_settings for word in ("--set", setting)]
        at.igpt("finetune", *of_run, "--out", work / "tuned", *words)


def measures(images: int) -> Sequence[tuple[str, tuple[str, ...]]]:
    """Return what is measured of the run: the file that says that it was, and the command."""
    return (
        ("evaluation.json", ("evaluate",)),
        ("completions.png", ("complete", "--count", str(images))),
        ("probe.json", ("probe",)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", required=True)
    parser.add_argument("--palette", type=Path, help="by default fitted there")
    parser.add_argument("--recipe", default="modern")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--set-tuning", action="append", default=[], dest="tuning_settings")
    parser.add_argument("--no-finetuning", action="store_true")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--colors", type=int, default=512)
    parser.add_argument("--images", type=int, default=16, help="that are completed")
    parser.add_argument("--pace-steps", type=int, default=60)
    parser.add_argument("--train-seconds", type=float, default=300, help="of steps alone")
    parser.add_argument("--seconds", type=float, default=420, help="of this call")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "record"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    attempt(parser.parse_args())


if __name__ == "__main__":
    main()
