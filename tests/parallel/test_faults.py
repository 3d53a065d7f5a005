"""One process of several is killed, hangs, diverges or cannot write: what is lost, and said."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, losses, random_model, random_tokens
from tests.parallel.group import run_in_group

from igpt import processes
from igpt.data.batches import Batch
from igpt.errors import DataError
from igpt.objectives.autoregressive import autoregressive
from igpt.training.config import TrainingConfig
from igpt.training.loop import TrainingDiverged, train
from igpt.training.optimizer import build_optimizer
from igpt.training.parallel import spread_over_processes
from igpt.training.saving import Writer
from igpt.training.state import Checkpoints, Memory, Tensors

ROOT = Path(__file__).parents[2]
SETTINGS = (
    "model.image_size=4", "model.layers=1", "model.width=8", "model.heads=2",
    "training.batch_size=4", "training.warmup_steps=2", "training.validate_every=6",
    "training.checkpoint_every=4", "training.validation_images=8",
)  # fmt: skip


def command(run, given, *, steps):
    """Return the arguments of a pretraining."""
    return [
        "pretrain", "digits-quickstart", "--data", given["data"], "--palette", given["palette"],
        "--out", run, "--device", "cpu", "--steps", str(steps),
        *(f"--set={setting}" for setting in SETTINGS),
    ]  # fmt: skip


def start(*arguments):
    """Start Python with these arguments."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def torchrun(harms, arguments, *, restarts):
    return start(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        f"--max-restarts={restarts}", "-m", "tests.parallel.victim", harms, *arguments,
    )  # fmt: skip


def ended(process):
    """Return how a process ended, and what it said."""
    _, said = process.communicate(timeout=280)
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "settings",
    [(), ("--set=training.background_saving=true", "--set=training.prepare_ahead=2")],
    ids=["one after the other", "side by side"],
)
def test_killed_at_any_moment_it_loses_nothing(given, tmp_path, settings):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    undisturbed = (*command(whole, given, steps=18), "--processes", "2")
    code, said = ended(start("-m", "igpt", *undisturbed))
    assert code == 0, said
    harms = "0 1 kill step 5,1 0 kill saving 2,2 1 kill validation 1"
    disturbed = (*command(broken, given, steps=18), *settings)
    code, said = ended(torchrun(harms, disturbed, restarts=3))
    assert code == 0, said
    assert said.count("(exitcode: -9)") == 3
    assert losses(broken) == losses(whole)
    for name in ("model/model.safetensors", "state/step-000018/optimizer.safetensors"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert not [path for path in broken.rglob(".partial*")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_process_that_hangs_ends_the_run_in_time_and_in_a_line(given, tmp_path):
    arguments = [*command(tmp_path / "run", given, steps=50), "--patience-minutes", "0.1"]
    process = torchrun("0 1 stop step 5", arguments, restarts=0)
    code, said = ended(process)
    assert code == 1
    assert re.search(
        r"igpt: process 1 of 2, from 0 on, has not answered for 0\.1 minutes; see whether its "
        r"machine or disk hangs; igpt resume goes on from what was saved last\n",
        said,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_asked_to_stop_all_save_and_leave_with_the_code_of_the_signal(given, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    arguments = command(stopped, given, steps=2_000)
    process = start("-m", "igpt", *arguments, "--processes", "2")
    metrics = stopped / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_bytes().count(b"\n") < 9:
        time.sleep(0.1)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, said = ended(process)
    assert code == 128 + signal.SIGTERM
    assert said.count("all saved; go on with igpt resume") == 1
    updates = len(losses(stopped))
    assert (stopped / "state" / f"step-{updates:06d}" / "state.json").is_file()
    # what a batch system does once it has room again: the same command
    again = [*arguments, "--processes", "2", "--seconds", "0"]
    assert ended(start("-m", "igpt", *again))[0] == 0
    done = ended(start("-m", "igpt", *command(whole, given, steps=2_000), "--seconds", "0"))
    assert done[0] == 0
    assert len(losses(stopped)) == updates + 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_the_user_can_put_right_is_said_once(given, tmp_path):
    arguments = command(tmp_path / "run", given, steps=5)
    code, said = ended(start("-m", "igpt", *arguments, "--processes", "3"))
    assert code == 2
    assert said == (
        "igpt: batch_size=4 does not divide among 3 processes; set training.batch_size=3 or 6, or "
        "start another number of them\n"
    )
    assert not (tmp_path / "run").exists()


def diverge(strategy):
    """A loss is no number at the second step, in the second process alone."""
    config = TrainingConfig(steps=4, learning_rate=0.01)
    calls = []

    def poisoned(model, tokens, labels, generator):
        calls.append(0)
        factor = float("nan") if len(calls) == 2 and processes.rank() == 1 else 1.0
        return {"loss": autoregressive(model, tokens)["loss"] * factor}

    spread = spread_over_processes(random_model(), poisoned, strategy)
    kept = {}
    steps = train(
        spread.model, build_optimizer(spread.model, config), objective=poisoned,
        batch_at=lambda step: Batch(tokens=random_tokens(2, seed=step), labels=None),
        config=config, spread=spread,
    )  # fmt: skip
    with pytest.raises(TrainingDiverged, match="the loss of step 2 is nan"):
        for _ in steps:
            kept = {name: value.clone() for name, value in spread.model.state_dict().items()}
    for name, value in spread.model.state_dict().items():
        assert torch.equal(value, kept[name]), name


def refuse_room(folder):
    """The disk is full, for the second process alone; all are refused, and nothing is lost."""
    import resource

    spread = spread_over_processes(random_model(TINY), autoregressive, "fsdp")
    optimizer = build_optimizer(spread.model, TrainingConfig())
    states = Checkpoints(folder / "state", fingerprint="a")
    states.save(spread.model, optimizer, Memory(updates=1))
    if processes.rank() == 1:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, most))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with pytest.raises(DataError, match=r"could not write .*step-000002: File too large"):
        states.save(spread.model, optimizer, Memory(updates=2))
    writer, group = Writer(beside=True), processes.second_group()
    copied = Tensors.of(spread.model, optimizer, copied=True)
    writer.begin(lambda: states.write(copied, Memory(updates=2), group))
    with pytest.raises(DataError, match=r"could not write .*step-000002: File too large"):
        writer.wait()
    writer.close()
    processes.agree(0)
    if processes.first():
        assert os.listdir(folder / "state") == ["step-000001"]
        assert states.check(1).updates == 1


def both(folder):
    for strategy in ("ddp", "fsdp"):
        diverge(strategy)
    refuse_room(folder)


def test_a_loss_that_is_no_number_or_a_full_disk_in_one_process_stops_all(tmp_path):
    run_in_group(2, both, tmp_path)
