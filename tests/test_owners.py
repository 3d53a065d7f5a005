import os
import re
import subprocess
import sys
import threading
import time

from igpt.owners import OWNER, is_abandoned, owner


def test_a_process_has_one_owner_in_all_its_threads(tmp_path):
    owners = [owner()]
    thread = threading.Thread(target=lambda: owners.append(owner()))
    thread.start()
    thread.join()
    assert owners[0] == owners[1]
    assert str(os.getpid()) in owners[0].split(".")
    assert not is_abandoned(tmp_path, owners[0])


def test_a_killed_process_is_gone_before_its_parent_has_noticed(tmp_path):
    code = "import sys; from igpt.owners import owner; print(owner(), flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    name = child.stdout.readline().strip()
    assert not is_abandoned(tmp_path, name)
    child.kill()
    until = time.monotonic() + 10
    while not is_abandoned(tmp_path, name) and time.monotonic() < until:
        time.sleep(0.01)
    assert is_abandoned(tmp_path, name)
    child.communicate()


def test_the_pattern_is_of_owners_only():
    assert re.fullmatch(OWNER, owner())
    assert not re.fullmatch(OWNER, "1234")
