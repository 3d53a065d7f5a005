"""A long training by several processes, of which a random one is killed again and again.

    python -m tests.parallel.soak --minutes 20 --every 60

torchrun starts them anew each time. At the end all are asked to stop, and the same training is done
once more, undisturbed, by as many processes: every figure of every step must be the same, bit for
bit. Ends with code 1 if one is not, or the run did not outlive a kill.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tests.conftest import losses, write_shapes

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.pixels.palette import Palette
from igpt.runs.verify import verify

_SETTINGS = (
    "model.image_size=8", "model.layers=2", "model.width=32", "model.heads=2",
    "training.batch_size=12", "training.warmup_steps=50", "training.validate_every=20",
    "training.checkpoint_every=5", "training.validation_images=14",
)  # fmt: skip
_STEPS = 1_000_000  # more than there is time for


def start(run: Path, given: Path, asked: argparse.Namespace) -> subprocess.Popen:
    """Start the training, or go on with it, under a torchrun that always starts it again."""
    with given.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            [
                sys.executable, "-m", "torch.distributed.run", "--standalone",
                f"--nproc-per-node={asked.processes}", "--max-restarts=10000", "-m", "igpt",
                "pretrain", "digits-quickstart", "--data", given / "store",
                "--palette", given / "palette.npy", "--out", run, "--device=cpu",
                f"--steps={_STEPS}", f"--set=training.parallel={asked.parallel}",
                *(f"--set={setting}" for setting in _SETTINGS),
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log,
        )  # fmt: skip


def workers(launcher: subprocess.Popen) -> list[int]:
    """Return the numbers of the processes that a launcher has started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
    return [int(child) for child in children.split()]


def steps_of(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def wait_for_steps(launcher: subprocess.Popen, run: Path, steps: int) -> None:
    """Wait until so many steps are done, or the launcher ends."""
    while steps_of(run) < steps and launcher.poll() is None:
        time.sleep(0.2)


def stop(launcher: subprocess.Popen) -> None:
    """Ask all to save and end."""
    launcher.send_signal(signal.SIGTERM)
    launcher.wait(timeout=120)


def disturb(launcher: subprocess.Popen, run: Path, asked: argparse.Namespace) -> int:
    """Kill a random process now and then until time is up, and return how many were.

    Time begins with the first step, which on a busy machine is long in coming.
    """
    wait_for_steps(launcher, run, 1)
    draws, kills = random.Random(asked.seed), 0
    until = time.monotonic() + asked.minutes * 60
    while (left := until - time.monotonic()) > 0:
        wait = draws.uniform(0.5, 1.5) * asked.every
        time.sleep(min(left, wait))
        if wait > left:
            break
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(draws.choice(workers(launcher)), signal.SIGKILL)
            kills += 1
            print(f"killed one after {steps_of(run)} steps", flush=True)
        if launcher.poll() is not None:
            sys.exit(f"the launcher ended with {launcher.returncode}")
    return kills


def main() -> None:
    """Soak as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--every", type=float, default=60, help="seconds between two kills")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--parallel", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "given")
        images = write_shapes(given / "images", images=80)
        config = StoreConfig(image_size=8, validation_fraction=0.2, test_fraction=0.2)
        prepare_store(str(images), given / "store", config)
        colors = np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)
        Palette(colors).save(given / "palette.npy")
        disturbed, whole = Path(folder, "disturbed"), Path(folder, "whole")
        launcher = start(disturbed, given, asked)
        kills = disturb(launcher, disturbed, asked)
        stop(launcher)
        steps, sound = steps_of(disturbed), verify(disturbed).whole
        print(f"{kills} kills in {asked.minutes:g} minutes, {steps} steps; now undisturbed")
        launcher = start(whole, given, asked)
        wait_for_steps(launcher, whole, steps)
        stop(launcher)
        pairs = list(zip(losses(disturbed), losses(whole), strict=False))
        differing = [ours["step"] for ours, theirs in pairs if ours != theirs]
        print(
            f"{len(pairs)} steps compared, {len(differing)} differ"
            + (f", the first at step {differing[0]}" if differing else "")
            + f"; igpt verify finds the run {'whole' if sound else 'damaged'}"
        )
        if differing or not sound or len(pairs) < steps or not kills:
            print(given.with_suffix(".log").read_text()[-4000:], file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
