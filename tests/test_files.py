import errno
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from igpt.errors import CheckpointError, DataError, IgptError, nearest_name
from igpt.files import (
    digest,
    read_json,
    remove_abandoned,
    require_writable,
    write_json,
    written_aside,
)
from tests.system import require_refusals, run

WRITE = """
import contextlib, errno, os, sys
from pathlib import Path
from igpt.errors import DataError
from igpt.files import remove_abandoned, require_writable, write_json, written_aside
from tests.system import deaths, refuse

def write(path, text, *, exclusive=False):
    with written_aside(path, exclusive=exclusive) as aside:
        aside.write_text(text)

def write_folder(path, text, *, exclusive=False):
    with written_aside(path, exclusive=exclusive) as aside:
        (aside / "train").mkdir(parents=True)
        (aside / "train" / "images").write_text(text)
        (aside / "store.json").write_text(text)

def read_folder(path):
    texts = {file.read_text() for file in (path / "train" / "images", path / "store.json")}
    assert len(texts) == 1, texts
    return texts.pop()

@contextlib.contextmanager
def told():
    try:
        yield
    except DataError as error:
        print(error)
    else:
        print("not refused")
"""


def write(path, text, *, exclusive=False):
    with written_aside(path, exclusive=exclusive) as aside:
        aside.write_text(text)


def write_folder(path, *names, exclusive=False):
    with written_aside(path, exclusive=exclusive) as aside:
        aside.mkdir()
        for name in names:
            (aside / name).write_text(name)


@pytest.fixture
def quick_disk(tmp_path):
    """A folder in memory, where there is such a disk, for what flushes hundreds of times."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
    else:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            yield Path(folder)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": 1})
    assert json.loads(path.read_text()) == {"x": 1}
    with pytest.raises(RuntimeError), written_aside(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"x": 1}
    assert names(path.parent) == ["b.json"]


def test_a_folder_replaces_the_one_before(tmp_path):
    write_folder(tmp_path / "folder", "old")
    write_folder(tmp_path / "folder", "new")
    assert names(tmp_path / "folder") == ["new"]
    assert names(tmp_path) == ["folder"]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(DataError, match=r"could not write .*thesis: Is a directory"):
        write_json(tmp_path / "thesis", 1)
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(DataError, match=r"could not write .*thesis: Is a directory"):
        write_json(tmp_path / "thesis", 1)
    assert names(tmp_path / "thesis") == ["chapter.txt"]


# What is taken


def test_what_is_there_is_not_replaced_when_that_is_not_wanted(tmp_path):
    write(tmp_path / "file", "first")
    write_folder(tmp_path / "folder", "first")
    for name in names(tmp_path):
        for refuse in (
            require_writable,
            lambda path, *, exclusive: write(path, "", exclusive=True),
        ):
            with pytest.raises(DataError, match="File exists; choose another place"):
                refuse(tmp_path / name, exclusive=True)
    assert (tmp_path / "file").read_text() == "first"
    assert names(tmp_path / "folder") == ["first"]


def test_what_appeared_meanwhile_is_not_replaced_when_that_is_not_wanted(tmp_path):
    with (
        pytest.raises(DataError, match="File exists"),
        written_aside(tmp_path / "file", exclusive=True) as aside,
    ):
        aside.write_text("second")
        write(tmp_path / "file", "first")
    with (
        pytest.raises(DataError, match="File exists"),
        written_aside(tmp_path / "folder", exclusive=True) as aside,
    ):
        aside.mkdir()
        write_folder(tmp_path / "folder", "first")
    (tmp_path / "empty").mkdir()
    with (
        pytest.raises(DataError, match="File exists"),
        written_aside(tmp_path / "empty", exclusive=True) as aside,
    ):
        aside.mkdir()
        write_folder(tmp_path / "empty", "first")
    assert (tmp_path / "file").read_text() == "first"
    assert names(tmp_path / "folder") == names(tmp_path / "empty") == ["first"]
    assert names(tmp_path) == ["empty", "file", "folder"]


@pytest.mark.parametrize("place", ["a new file", "a new folder", "an empty folder"])
def test_of_two_processes_one_alone_gets_a_name(quick_disk, place):
    rounds = 60
    if place == "an empty folder":
        for number in range(rounds):
            (quick_disk / f"{number}").mkdir()
    code = WRITE + (
        "writing = write if sys.argv[2] == 'a new file' else write_folder\n"
        "for number in range(int(sys.argv[3])):\n"
        "    with contextlib.suppress(DataError):\n"
        "        writing(Path(sys.argv[1], str(number)), str(os.getpid()), exclusive=True)\n"
        "        print(number)\n"
        "print(os.getpid())\n"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, quick_disk, place, str(rounds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    winners = {}
    for racer in racers:
        *won, process = racer.communicate(timeout=60)[0].split()
        assert not winners.keys() & set(won), "both were told that they had it"
        winners |= dict.fromkeys(won, process)
    assert sorted(winners, key=int) == [str(number) for number in range(rounds)]
    for number, process in winners.items():
        path = quick_disk / number
        files = [path] if path.is_file() else [path / "store.json", path / "train" / "images"]
        assert {file.read_text() for file in files} == {process}
        assert path.is_file() or names(path) == ["store.json", "train"]
    assert len(names(quick_disk)) == rounds


@pytest.mark.parametrize("writing", [write, write_folder])
def test_threads_that_write_one_path_lose_nothing(quick_disk, writing):
    refused = []

    def write_often():
        for _ in range(200):
            try:
                writing(quick_disk / "path", "text")
            except Exception as error:
                refused.append(error)

    threads = [threading.Thread(target=write_often) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == []
    assert names(quick_disk) == ["path"]


# Links and folders that stay


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "disk" / "folder").mkdir(parents=True)
    for name in ("file", "folder", "later"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk" / "file").write_text("old")
    (tmp_path / "disk" / "folder" / "old").touch()
    write(tmp_path / "file", "new")
    write_folder(tmp_path / "folder", "new")
    write_folder(tmp_path / "later", "new", exclusive=True)
    assert all(path.is_symlink() for path in tmp_path.iterdir() if path.name != "disk")
    assert (tmp_path / "disk" / "file").read_text() == "new"
    assert names(tmp_path / "disk" / "folder") == names(tmp_path / "disk" / "later") == ["new"]
    assert names(tmp_path / "disk") == ["file", "folder", "later"]


def test_an_empty_folder_stays_itself(tmp_path):
    (tmp_path / "folder" / "lost+found").mkdir(parents=True)  # as on a new disk
    (tmp_path / "folder").chmod(0o2750)
    before = (tmp_path / "folder").stat()
    require_writable(tmp_path / "folder", exclusive=True)
    write_folder(tmp_path / "folder", "images.npy", "store.json", exclusive=True)
    after = (tmp_path / "folder").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert names(tmp_path / "folder") == ["images.npy", "lost+found", "store.json"]


def test_the_folder_one_is_in_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_folder(Path(), "store.json", exclusive=True)
    assert names(tmp_path / "here") == ["store.json"]
    assert names(tmp_path) == ["here"]


def test_a_mount_point_is_written_inside(tmp_path):
    code = WRITE + (
        "disk = Path(sys.argv[1])\n"
        "require_writable(disk, exclusive=True)\n"
        "write_folder(disk, 'whole', exclusive=True)\n"
        "print(read_folder(disk), sorted(os.listdir(disk)), os.path.ismount(disk))\n"
        "with told():\n"
        "    write_folder(disk, 'again', exclusive=True)\n"
    )
    printed = run(code, tmp_path, mounted=(tmp_path, "size=64k")).splitlines()
    assert printed[0] == "whole ['store.json', 'train'] True"
    assert printed[1].startswith(f"could not write {tmp_path}: File exists; choose another place")


# Disks that refuse


def test_a_full_disk_is_told_and_the_old_file_stays(tmp_path):
    code = WRITE + (
        "disk = Path(sys.argv[1])\n"
        "write(disk / 'file', 'old')\n"
        "with told():\n"
        "    write(disk / 'file', 'new' * 100_000)\n"
        "with told():\n"
        "    write_folder(disk / 'folder', 'new' * 100_000)\n"
        "print((disk / 'file').read_text(), os.listdir(disk))\n"
    )
    full = "No space left on device; free some space or choose another place"
    assert run(code, tmp_path, mounted=(tmp_path, "size=64k")).splitlines() == [
        f"could not write {tmp_path}/file: {full}",
        f"could not write {tmp_path}/folder: {full}",
        "old ['file']",
    ]


def test_a_disk_that_may_only_be_read_is_told_before_the_work_and_after(tmp_path):
    code = WRITE + (
        "disk = Path(sys.argv[1])\n"
        "for path in (disk / 'file', disk / 'above' / 'file', disk):\n"
        "    with told():\n"
        "        require_writable(path)\n"
        "    with told():\n"
        "        write_folder(path, 'text')\n"
    )
    printed = run(code, tmp_path, mounted=(tmp_path, "ro")).splitlines()
    assert len(printed) == 6
    assert all(": Read-only file system" in line for line in printed)


def test_a_disk_that_stops_being_written_to_hides_no_error_behind_its_own(tmp_path):
    code = WRITE + (
        "disk = Path(sys.argv[1])\n"
        "with told(), written_aside(disk / 'file') as aside:\n"
        "    aside.write_text('half')\n"
        "    os.system(f'mount -o remount,ro {disk}')\n"
        "    raise OSError(errno.ENOSPC, 'the first')\n"
    )
    printed = run(code, tmp_path, mounted=(tmp_path, "size=64k"))
    assert printed.startswith(f"could not write {tmp_path}/file: the first; free some space")


def test_a_folder_of_others_is_told_before_the_work_and_after(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o755)
    (tmp_path / "shared").mkdir()
    code = WRITE + (
        "home = Path(sys.argv[1])\n"
        "if os.geteuid() == 0:\n"
        "    os.chmod(home, 0o755)\n"
        "    os.chdir(home)  # the folders above are for their owner alone\n"
        "    home = Path()\n"
        "    os.chown('shared', 65534, 65534)\n"
        "    os.setuid(65534)\n"
        "else:\n"
        "    os.chmod(home / 'theirs', 0o555)\n"
        "with told():\n"
        "    require_writable(home / 'theirs' / 'a' / 'b')\n"
        "with told():\n"
        "    write(home / 'theirs' / 'file', 'text')\n"
        "write_folder(home / 'shared', 'inside, not beside', exclusive=True)\n"
        "print(read_folder(home / 'shared'))\n"
    )
    told_before, told_after, inside = run(code, tmp_path).splitlines()
    assert "theirs/a/b: Permission denied (" in told_before
    assert told_after.endswith("theirs/file: Permission denied; choose another place")
    assert inside == "inside, not beside"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\0b", "embedded null byte"),
        ("\udfff\ud800", "surrogates not allowed"),
        ("x" * 250, "File name too long; choose a shorter name"),
        ("x" * 300 + "/y", "File name too long; choose a shorter name"),
        ("file/x", r"(File exists|Not a directory)"),
        ("loop", "Too many levels of symbolic links"),
        ("loop/x", r"(File exists|Too many levels)"),
        ("a\n" + "x" * 250, "File name too long"),
    ],
)
def test_a_name_that_cannot_be_is_told_before_the_work_and_after(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for writing in (require_writable, lambda path: write(path, "text"), write_folder):
        with pytest.raises(DataError, match=reason) as refused:
            writing(tmp_path / name)
        assert "\n" not in str(refused.value)
        assert ".partial-" not in str(refused.value)
    assert names(tmp_path) == ["file", "loop"]


def test_folders_made_on_trial_do_not_stay(tmp_path):
    require_writable(tmp_path / "a" / "b" / "c", exclusive=True)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("call", "number"), [("fsync", "EIO"), ("fsync", "EDQUOT"), ("rename", "EIO")]
)
def test_a_call_that_the_kernel_refuses_is_told_and_the_old_stays(tmp_path, call, number):
    require_refusals()
    code = WRITE + (
        "home, number = Path(sys.argv[1]), getattr(errno, sys.argv[3])\n"
        "write(home / 'file', 'old')\n"
        "write_folder(home / 'folder', 'old')\n"
        "refuse(sys.argv[2], number)\n"
        "with told():\n"
        "    write(home / 'file', 'new')\n"
        "with told():\n"
        "    write_folder(home / 'new', 'new')\n"
        "print((home / 'file').read_text(), sorted(os.listdir(home)))\n"
    )
    reason = os.strerror(getattr(errno, number))
    *refused, left = run(code, tmp_path, call, number).splitlines()
    assert left == "old ['file', 'folder']"
    assert len(refused) == 2
    assert all(f": {reason}" in line for line in refused)


def test_too_many_open_files_are_told(tmp_path):
    code = WRITE + (
        "import resource\n"
        "write(Path(sys.argv[1], 'file'), 'old')\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
        "files = []\n"
        "with told():\n"
        "    with written_aside(Path(sys.argv[1], 'file')) as aside:\n"
        "        while True:\n"
        "            files.append(open('/dev/null'))\n"
    )
    assert "allow more open files with ulimit -n" in run(code, tmp_path)
    assert (tmp_path / "file").read_text() == "old"


def test_an_array_that_does_not_fit_is_told(tmp_path):
    code = WRITE + (
        "import numpy as np\n"
        "disk = Path(sys.argv[1])\n"
        "with told(), written_aside(disk / 'a.npy') as aside:\n"
        "    np.save(aside, np.zeros(1_000_000))\n"
    )
    printed = run(code, tmp_path, mounted=(tmp_path, "size=64k"))
    assert printed.startswith(f"could not write {tmp_path}/a.npy: ")


def test_errors_of_other_things_pass(tmp_path):
    class ImageError(OSError):
        pass

    for error in (ImageError("no image"), ConnectionResetError(errno.ECONNRESET, "gone")):
        with pytest.raises(type(error)), written_aside(tmp_path / "x"):
            raise error


# What killed writers leave


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
    if kernel == "without exchange":
        require_refusals()
    code = (
        WRITE
        + f"""
import shutil
home = Path(sys.argv[1])
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
for event in deaths(lambda: {work}):
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
    code = WRITE + (
        "with written_aside(Path(sys.argv[1], 'x')) as aside:\n"
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


# JSON and checksums


def test_a_digest_is_the_sha256_of_a_files_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert digest(tmp_path / "abc") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(DataError, match=r"could not read .*gone: No such file .* a whole copy"):
        digest(tmp_path / "gone", error=DataError)


def test_errors_of_ours_are_value_errors():
    assert issubclass(IgptError, ValueError)


def test_the_nearest_name_is_offered_or_else_all():
    assert nearest_name("cifr10", ["cifar10", "digits"]) == "; did you mean 'cifar10'?"
    assert nearest_name("xyz", ["cifar10", "digits"]) == "; choose from cifar10, digits"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"[1]", "holds no JSON object"),
        (b'{"a": ', "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is damaged"),
    ],
)
def test_json_that_holds_no_object_is_one_line(tmp_path, written, message):
    (tmp_path / "a.json").write_bytes(written)
    with pytest.raises(DataError, match=message) as told:
        read_json(tmp_path / "a.json", error=DataError)
    assert "\n" not in str(told.value)


def test_json_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"could not read .*a.json: No such file"):
        read_json(tmp_path / "a.json")
