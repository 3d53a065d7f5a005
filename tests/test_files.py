import errno
import json
import os

import pytest

from igpt.errors import CheckpointError, DataError, IgptError, nearest_name
from igpt.files import read_json, write_json, written_aside


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": 1})
    assert json.loads(path.read_text()) == {"x": 1}
    with pytest.raises(RuntimeError), written_aside(path) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == {"x": 1}
    assert [file.name for file in path.parent.iterdir()] == ["b.json"]


def test_a_folder_replaces_the_one_before(tmp_path):
    for content in ("old", "new"):
        with written_aside(tmp_path / "folder") as aside:
            aside.mkdir()
            (aside / content).write_text(content)
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["new"]
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    with written_aside(tmp_path / "folder") as aside:
        aside.mkdir()
    with (
        pytest.raises(DataError, match="No space left on device"),
        written_aside(tmp_path / "folder") as aside,
    ):
        aside.mkdir()
        monkeypatch.setattr(
            type(aside),
            "replace",
            lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
        )
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(DataError, match="there is a folder of that name"):
        write_json(tmp_path / "thesis", 1)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_is_one_line(tmp_path, number):
    with (
        pytest.raises(DataError, match=r"could not write .*; free some space or choose another"),
        written_aside(tmp_path / "x") as aside,
    ):
        aside.write_text("half")
        raise OSError(number, "refused")
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(CheckpointError, match=r"could not read .*a.json: it is no file"):
        read_json(tmp_path / "a.json")


def test_json_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(CheckpointError, match=r"could not read .*a.json: No such file"):
        read_json(tmp_path / "a.json")
