"""What the system refuses, for real: disks that are full, read-only or failing, names, rights."""

import errno
import os
from functools import partial

import pytest

from igpt.errors import DataError
from igpt.files import require_writable, written_aside
from tests.system import require_refusals, run
from tests.writing import PROGRAM, names, write, write_folder


def test_a_full_disk_is_told_and_the_old_file_stays(tmp_path):
    code = PROGRAM + (
        "write(home / 'file', 'old')\n"
        "with told():\n"
        "    write(home / 'file', 'new' * 100_000)\n"
        "with told():\n"
        "    write_folder(home / 'folder', 'new' * 100_000)\n"
        "print((home / 'file').read_text(), os.listdir(home))\n"
    )
    full = "No space left on device; free some space or choose another place"
    assert run(code, tmp_path, mounted=(tmp_path, "size=64k")).splitlines() == [
        f"could not write {tmp_path}/file: {full}",
        f"could not write {tmp_path}/folder: {full}",
        "old ['file']",
    ]


def test_a_disk_that_may_only_be_read_is_told_before_the_work_and_after(tmp_path):
    code = PROGRAM + (
        "for path in (home / 'file', home / 'above' / 'file', home):\n"
        "    with told():\n"
        "        require_writable(path)\n"
        "    with told():\n"
        "        write_folder(path, 'text')\n"
    )
    printed = run(code, tmp_path, mounted=(tmp_path, "ro")).splitlines()
    assert len(printed) == 6
    assert all(": Read-only file system" in line for line in printed)


def test_a_disk_that_stops_being_written_to_hides_no_error_behind_its_own(tmp_path):
    code = PROGRAM + (
        "with told(), written_aside(home / 'file') as aside:\n"
        "    aside.write_text('half')\n"
        "    os.system(f'mount -o remount,ro {home}')\n"
        "    raise OSError(errno.ENOSPC, 'the first')\n"
    )
    printed = run(code, tmp_path, mounted=(tmp_path, "size=64k"))
    assert printed.startswith(f"could not write {tmp_path}/file: the first; free some space")


def test_a_folder_of_others_is_told_before_the_work_and_after(tmp_path):
    (tmp_path / "theirs").mkdir(mode=0o755)
    (tmp_path / "shared").mkdir()
    code = PROGRAM + (
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
        ("x" * 250, "File name too long.*; choose a shorter name"),
        ("x" * 300 + "/y", "File name too long.*; choose a shorter name"),
        ("file/x", r"(File exists|Not a directory)"),
        ("loop", "Too many levels of symbolic links"),
        ("loop/x", r"(File exists|Too many levels)"),
        ("a\n" + "x" * 250, "File name too long"),
    ],
)
def test_a_name_that_cannot_be_is_told_before_the_work_and_after(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for writing in (require_writable, partial(write, text=""), partial(write_folder, text="")):
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
    code = PROGRAM + (
        "number = getattr(errno, sys.argv[3])\n"
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
    code = PROGRAM + (
        "import resource\n"
        "write(home / 'file', 'old')\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\n"
        "files = []\n"
        "with told():\n"
        "    with written_aside(home / 'file') as aside:\n"
        "        while True:\n"
        "            files.append(open('/dev/null'))\n"
    )
    assert "allow more open files with ulimit -n" in run(code, tmp_path)
    assert (tmp_path / "file").read_text() == "old"


def test_an_array_that_does_not_fit_is_told(tmp_path):
    code = PROGRAM + (
        "import numpy as np\n"
        "with told(), written_aside(home / 'a.npy') as aside:\n"
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
