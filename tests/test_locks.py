import os
import platform
import signal
import subprocess
import sys

import pytest

from igpt.errors import CheckpointError, DataError
from igpt.locks import held
from tests.system import require_refusals, run

HOLD = """
import sys
from pathlib import Path
from igpt.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_who_the_first_is(tmp_path):
    me = rf"process {os.getpid()} on {platform.node()}, since 20\d\d-\d\d-\d\d \d\d:\d\d"
    with held(tmp_path):
        with pytest.raises(CheckpointError, match=rf"is being written to by {me}"), held(tmp_path):
            pass
        with pytest.raises(CheckpointError, match=me), held(tmp_path):
            pass  # having been asked for, the lock is still held


def test_a_lock_leaves_nothing_and_can_be_taken_again(tmp_path):
    for _ in range(2):
        with held(tmp_path):
            pass
    with pytest.raises(ZeroDivisionError), held(tmp_path):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    holder.stdout.readline()
    with pytest.raises(CheckpointError, match=f"by process {holder.pid} on"), held(tmp_path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with held(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_no_two_processes_ever_hold_one_lock(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from igpt.errors import CheckpointError\n"
        "from igpt.locks import held\n"
        "folder = Path(sys.argv[1])\n"
        "count, done = folder / 'count', 0\n"
        "while done < 100:\n"
        "    try:\n"
        "        with held(folder):\n"
        "            count.write_text(str(int(count.read_text()) + 1))\n"
        "    except CheckpointError:\n"
        "        continue\n"
        "    done += 1\n"
    )
    (tmp_path / "count").write_text("0")
    holders = [subprocess.Popen([sys.executable, "-c", code, tmp_path]) for _ in range(2)]
    assert [holder.wait(timeout=60) for holder in holders] == [0, 0]
    assert (tmp_path / "count").read_text() == "200"


def test_a_run_one_may_not_write_is_told(tmp_path):
    code = HOLD.replace("with held", "from igpt.errors import DataError\ntry:\n  with held")
    code = code.replace("print(", " print(").replace("sys.stdin", " sys.stdin")
    code += "except DataError as error:\n  print(error)\n"
    printed = run(code, tmp_path, mounted=(tmp_path, "ro"))
    assert printed.startswith(f"could not write {tmp_path}/.lock: Read-only file system")


def test_a_folder_that_is_gone_is_told(tmp_path):
    with pytest.raises(DataError, match="No such file"), held(tmp_path / "gone"):
        pass


def test_a_folder_removed_meanwhile_lets_go_quietly(tmp_path):
    (tmp_path / "run").mkdir()
    with held(tmp_path / "run"):
        (tmp_path / "run").rename(tmp_path / "elsewhere")
        (tmp_path / "run").mkdir()
        with held(tmp_path / "run"):
            pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_disk_without_locks_is_noted(tmp_path):
    require_refusals()
    code = (
        "import errno, sys, warnings\n"
        "from pathlib import Path\n"
        "from igpt.locks import held\n"
        "from tests.system import refuse\n"
        "refuse('flock', errno.ENOLCK)\n"
        "with warnings.catch_warnings(record=True) as noted, held(Path(sys.argv[1])):\n"
        "    print(noted[0].message)\n"
    )
    assert "has no locks; see that nothing else writes there" in run(code, tmp_path)


def test_a_lock_holds_on_windows_too(tmp_path):
    windows = (
        "import fcntl, sys, types\n"
        "def locking(descriptor, mode, count):\n"
        "    real.flock(descriptor, real.LOCK_EX | real.LOCK_NB)\n"
        "real, sys.modules['fcntl'] = fcntl, None\n"
        "sys.modules['msvcrt'] = types.SimpleNamespace(LK_NBLCK=2, locking=locking)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", windows + HOLD, tmp_path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(CheckpointError, match=f"by process {holder.pid} on"), held(tmp_path):
        pass
    holder.communicate()
    assert holder.returncode == 0
    assert list(tmp_path.iterdir()) == []
