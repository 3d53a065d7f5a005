"""What killed writers leave, and that it is put right."""

import os
import subprocess
import sys
import time

import pytest

from igpt.files import remove_abandoned, written_aside
from tests.system import require_refusals, run
from tests.writing import PROGRAM, names


@pytest.mark.parametrize("kernel", ["of today", "without exchange"])
@pytest.mark.parametrize(
    ("work", "before"),
    [
        ("write(home / 'path', 'new')", "None"),
        ("write(home / 'path', 'new')", "write(home / 'path', 'old')"),
        ("write(home / 'path', 'new', exclusive=True)", "None"),
        ("write_folder(home / 'path', 'new')", "None"),
        ("write_folder(home / 'path', 'new')", "write_folder(home / 'path', 'old')"),
        ("write_folder(home / 'path', 'new')", "(home / 'path').mkdir()"),
    ],
)
def test_a_writer_that_dies_leaves_the_old_or_the_new(quick_disk, kernel, work, before):
    require_refusals()
    code = (
        PROGRAM
        + f"""
if sys.argv[2] == "without exchange":
    refuse("renameat2", errno.ENOSYS)

def state():
    path = home / "path"
    if not path.exists():
        return "nothing"
    if path.is_dir() and not os.listdir(path):
        return "empty"
    return read_folder(path) if path.is_dir() else path.read_text()

def begin():
    if (home / "path").is_dir():
        shutil.rmtree(home / "path")
    (home / "path").unlink(missing_ok=True)
    {before}
    return state()

old = begin()
for event in deaths(lambda: {work}, home):
    remove_abandoned(home, "path")
    assert state() in (old, "new"), (state(), event)
    assert set(os.listdir(home)) <= {{"path"}}, event
    print("died" if event else "done", state())
    begin()
"""
    )
    *died, done = run(code, quick_disk, kernel).splitlines()
    assert done == "done new"
    assert len(died) >= 4
    assert died[0] != "died new"


def test_what_a_killed_process_left_is_removed_and_what_another_is_at_is_not(tmp_path):
    code = PROGRAM + (
        "with written_aside(home / 'x') as aside:\n"
        "    aside.mkdir()\n"
        "    print('begun', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    writer.stdout.readline()
    with written_aside(tmp_path / "x") as mine:
        mine.mkdir()
        remove_abandoned(tmp_path)
        assert len(names(tmp_path)) == 2
        writer.kill()
        writer.communicate()
        remove_abandoned(tmp_path, "another name")
        assert len(names(tmp_path)) == 2
        remove_abandoned(tmp_path)
        assert names(tmp_path) == [mine.name]


def renamed_owner(name, **parts):
    """Return a temporary name with its owner's host, process or start replaced."""
    head, *rest = name.removeprefix(".partial-").split(".")
    fields = {"host": head, "process": rest[0], "start": rest[1], **parts}
    return ".partial-" + ".".join([*fields.values(), *rest[2:]])


def test_a_process_that_got_a_number_again_is_another(tmp_path):
    with written_aside(tmp_path / "x") as mine:
        mine.touch()
        (tmp_path / renamed_owner(mine.name, start="1")).touch()
        remove_abandoned(tmp_path)
        assert names(tmp_path) == [mine.name]


def test_what_comes_from_another_host_is_removed_when_nothing_changed_for_a_day(tmp_path):
    two_days_ago = time.time() - 2 * 24 * 60 * 60
    with written_aside(tmp_path / "x") as mine:
        mine.touch()
    (tmp_path / "x").unlink()
    theirs = tmp_path / renamed_owner(mine.name, host="00000000")
    (theirs / "train").mkdir(parents=True)
    images = theirs / "train" / "images.npy"
    images.touch()
    for path in (theirs / "train", theirs):
        os.utime(path, (two_days_ago, two_days_ago))
    remove_abandoned(tmp_path)
    assert images.exists()  # it is still being written
    os.utime(images, (two_days_ago, two_days_ago))
    remove_abandoned(tmp_path)
    assert names(tmp_path) == []


def test_files_of_like_names_are_left_alone(tmp_path):
    for name in (".partial-1234-x", ".partial-download", ".replaced-by-me-x"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    remove_abandoned(tmp_path)
    assert len(names(tmp_path)) == 3
