import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.pixels.damage import damaged, whole_files

ROOT = Path(__file__).parents[2]


def read_damaged(first, count):
    """Read damaged files in a process of their own, with a bound on its memory."""
    command = [sys.executable, "-m", "tests.pixels.damage", str(first), str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def check(result, count):
    assert result["wrong"] == []
    assert sum(result["outcome"].values()) == count
    assert result["slowest_seconds"] < 5
    assert result["peak_bytes"] < 2.2 * 2**30  # the budget, and Python with its libraries


def test_damaged_files_are_read_or_left_out_with_a_reason_and_nothing_else_happens():
    result = read_damaged(0, 200)
    check(result, 200)
    assert {"read", "broken"} <= result["outcome"].keys()


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_read_or_left_out_with_a_reason():
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda first: read_damaged(first, 1_000), range(0, 10_000, 1_000)):
            check(result, 1_000)


def test_damage_depends_on_the_number_alone():
    files = whole_files()
    assert damaged(files, 5) == damaged(files, 5) != damaged(files, 5 + len(files))
