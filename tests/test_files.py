import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from igpt.errors import CheckpointError, DataError, IgptError, nearest_name
from igpt.files import digest, discard, read_json, require_writable, write_json, written_aside
from tests.system import run
from tests.writing import PROGRAM, names, read_folder, write, write_folder


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
    assert read_folder(tmp_path / "folder") == "new"
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
    assert read_folder(tmp_path / "folder") == "first"


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
    assert read_folder(tmp_path / "folder") == read_folder(tmp_path / "empty") == "first"
    assert names(tmp_path) == ["empty", "file", "folder"]


@pytest.mark.parametrize("place", ["a new file", "a new folder", "an empty folder"])
def test_of_two_processes_one_alone_gets_a_name(quick_disk, place):
    rounds = 60
    if place == "an empty folder":
        for number in range(rounds):
            (quick_disk / f"{number}").mkdir()
    code = PROGRAM + (
        "writing = write if sys.argv[2] == 'a new file' else write_folder\n"
        "for number in range(int(sys.argv[3])):\n"
        "    with suppress(DataError):\n"
        "        writing(home / str(number), str(os.getpid()), exclusive=True)\n"
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
    for name in ("folder", "later"):
        assert read_folder(tmp_path / "disk" / name) == "new"
    assert names(tmp_path / "disk") == ["file", "folder", "later"]


def test_an_empty_folder_stays_itself(tmp_path):
    (tmp_path / "folder" / "lost+found").mkdir(parents=True)  # as on a new disk
    (tmp_path / "folder").chmod(0o2750)
    before = (tmp_path / "folder").stat()
    require_writable(tmp_path / "folder", exclusive=True)
    write_folder(tmp_path / "folder", "text", exclusive=True)
    after = (tmp_path / "folder").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert names(tmp_path / "folder") == ["lost+found", "store.json", "train"]


def test_the_folder_one_is_in_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_folder(Path(), "text", exclusive=True)
    assert read_folder(tmp_path / "here") == "text"
    assert names(tmp_path) == ["here"]


def test_a_mount_point_is_written_inside(tmp_path):
    code = PROGRAM + (
        "require_writable(home, exclusive=True)\n"
        "write_folder(home, 'whole', exclusive=True)\n"
        "print(read_folder(home), sorted(os.listdir(home)), os.path.ismount(home))\n"
        "with told():\n"
        "    write_folder(home, 'again', exclusive=True)\n"
    )
    printed = run(code, tmp_path, mounted=(tmp_path, "size=64k")).splitlines()
    assert printed[0] == "whole ['store.json', 'train'] True"
    assert printed[1].startswith(f"could not write {tmp_path}: File exists; choose another place")


def test_files_are_written_where_only_what_python_promises_is_there(tmp_path):
    code = (
        "import ctypes, sys\n"
        "sys.platform, sys.modules['fcntl'] = 'other', None\n"
        "del ctypes.CDLL\n"
        "from pathlib import Path\n"
        "import igpt.locks\n"
        "from tests.writing import names, read_folder, write, write_folder\n"
        "home = Path(sys.argv[1])\n"
        "write(home / 'file', 'new', exclusive=True)\n"
        "for text in ('old', 'new'):\n"
        "    write_folder(home / 'folder', text)\n"
        "print((home / 'file').read_text(), read_folder(home / 'folder'), names(home))\n"
    )
    assert run(code, tmp_path) == "new new ['file', 'folder']"


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
        (b"[" * 100_000, "is damaged: it is nested without end"),
        (b'{"a": "\xff"}', "byte 7 is no UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5,000 digits"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1e999}', "1e999 is larger than any number"),
        (b'{"a": 1, "b": 2, "a": 3}', "'a' stands in it twice"),
        (b"null", "holds no JSON object"),
        (b"", "is damaged"),
    ],
)
def test_json_that_holds_no_object_is_one_line(tmp_path, written, message):
    (tmp_path / "a.json").write_bytes(written)
    with pytest.raises(DataError, match=message) as told:
        read_json(tmp_path / "a.json", error=DataError)
    assert "\n" not in str(told.value)


def test_a_pipe_in_the_place_of_json_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(CheckpointError, match=r"could not read .*a.json: Invalid argument"):
        read_json(tmp_path / "a.json")


def test_json_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"could not read .*a.json: No such file"):
        read_json(tmp_path / "a.json")


def test_what_is_discarded_is_gone_with_all_that_is_in_it(tmp_path):
    (tmp_path / "store" / "notes" / "more").mkdir(parents=True)
    (tmp_path / "store" / "notes" / "more" / "a.json").write_text("{}")
    discard(tmp_path / "store" / "notes")
    assert list((tmp_path / "store").iterdir()) == []
    with pytest.raises(DataError, match=r"could not write .*notes: No such file"):
        discard(tmp_path / "store" / "notes")
