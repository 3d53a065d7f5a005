"""What nobody should give to igpt, given to it: arguments, damaged files, and both together.

Each runs in a process of its own, with a bound on its memory; a sample here, and all of it among
the slow tests.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CALLS, FILES = 3_000, 10_000


def python(
    module: str, *arguments: object, seconds: float = 280
) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        f"tests.hostile.{module}",
        *map(str, arguments),
    ]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    done = python("world", folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def wrong(module: str, *arguments: object) -> list[object]:
    """Return what must not be."""
    done = python(module, *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)["wrong"]


def test_no_argument_is_answered_with_more_than_a_line(world):
    assert wrong("arguments", world, 0, 50) == []


def test_no_damaged_file_is_answered_with_more_than_a_line(world):
    assert wrong("files", world, 0, 100) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, CALLS, 250))
def test_three_thousand_calls_are_answered_in_a_line_and_leave_nothing(world, first):
    assert wrong("arguments", world, first, 250) == []


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, FILES, 500))
def test_ten_thousand_damaged_files_are_read_or_refused(world, first):
    assert wrong("files", world, first, 500) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "files",
    [
        "run/*.json*",
        "run/m*/*",
        "run/p*/*",
        "run/s*",
        "run/*.npy",
        "half/*",
        "tuned/*",
        "store/*",
        "[emp]*",
    ],
)
def test_no_damage_changes_a_figure_unnoticed(world, files):
    done = python("matrix", world, files, seconds=1700)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
