"""Job files start trainings, stop them in time and go on: tried with a stand-in for SLURM."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import losses
from tests.parallel.test_faults import command

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "launch").glob("*.sh"))
STEPS = 60
STAND_INS = {
    # as many torchruns as there are machines, all of them here
    "srun": """\
while [[ $1 == --* ]]; do shift; done
for _ in $(seq "$SLURM_JOB_NUM_NODES"); do "$@" & echo $! >> "$STAND_IN/steps"; done
code=0
for step in $(jobs -p); do wait "$step" || code=$?; done
exit "$code"
""",
    "scancel": """\
[[ $* == "--signal=TERM 77" ]] && kill -TERM $(cat "$STAND_IN/steps")
""",
    "scontrol": """\
case "$1" in
    show) printf 'localhost\\nlocalhost\\n' ;;
    *) echo "$@" >> "$STAND_IN/said" ;;
esac
""",
}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_job_file_is_sound_bash(file):
    assert os.access(file, os.X_OK)
    checker = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([checker, file], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def start(file, arguments, log, **environment):
    """Start a job file; what it prints is added to the log."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    with log.open("a") as printed:
        return subprocess.Popen(
            ["bash", ROOT / "launch" / file, *map(str, arguments)],
            cwd=ROOT, stdout=printed, stderr=printed,
            env={
                **os.environ, "PYTHONPATH": paths, "IGPT_ENVIRONMENT": sys.prefix, **environment,
            },
        )  # fmt: skip


def stop_after(process, run, log, lines=9):
    """Send the notice once so many steps are done, and return the code that the job ends with."""
    metrics = run / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_bytes().count(b"\n") < lines:
        time.sleep(0.1)
        assert process.poll() is None, log.read_text()
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=280)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_slurm_job_saves_at_the_notice_queues_itself_again_and_goes_on(given, tmp_path):
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "bin").mkdir()
    for name in STAND_INS:
        shutil.move(tmp_path / name, tmp_path / "bin" / name)
    run, log, said = tmp_path / "run", tmp_path / "log", tmp_path / "said"
    cluster = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "STAND_IN": str(tmp_path),
        "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "here[1-2]", "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "1", "SLURM_CPUS_PER_TASK": "1",
    }  # fmt: skip
    arguments = command(run, given, steps=STEPS)
    job = start("slurm.sh", arguments, log, **cluster)
    code = stop_after(job, run, log)
    assert code == 1  # as torchrun ends that was asked to
    assert said.read_text() == "requeue 77\n", log.read_text()
    updates = len(losses(run))
    assert (run / "state" / f"step-{updates:06d}" / "state.json").is_file()
    (tmp_path / "steps").unlink()
    job = start("slurm.sh", arguments, log, **cluster, SLURM_RESTART_COUNT="1")
    assert job.wait(timeout=400) == 0, log.read_text()
    assert said.read_text() == "requeue 77\n"
    assert [line["step"] for line in losses(run)] == list(range(STEPS))
    assert "2 processes by ddp" in log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_machine_that_goes_and_comes_back_goes_on(given, tmp_path):
    run, log = tmp_path / "run", tmp_path / "log"
    arguments = command(run, given, steps=STEPS)
    code = stop_after(start("one-machine.sh", arguments, log, PROCESSES="2"), run, log)
    assert code == 128 + signal.SIGTERM, log.read_text()
    assert "all saved; go on with igpt resume" in log.read_text()
    again = start("one-machine.sh", arguments, log, PROCESSES="2")
    assert again.wait(timeout=400) == 0, log.read_text()
    assert [line["step"] for line in losses(run)] == list(range(STEPS))
