"""Disks that are full, for reading only, other people's, or are themselves what is asked for."""

import pytest
from tests.system import run

_SPACES = "from tests.crash.trials import main; main()"
_CALLS = """
import contextlib, io, os, sys
from pathlib import Path
from tests.crash.commands import COMMANDS, RefusedError, make_inputs
from tests.crash.outcome import outcome
home, given = Path(sys.argv[1]), Path(sys.argv[2])

def told(name, work):
    "Make a call and print what it told, after its name and code."
    told, command = io.StringIO(), COMMANDS[name]
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = command.first(given, work) or 0
        except RefusedError as error:
            code = error.code
    lines = [line for line in told.getvalue().splitlines() if line.startswith("igpt: ")]
    print(name, code, *lines, sep="|")
"""
NEW = ["prepare", "palette", "pretrain", "finetune", "search", "convert", "convert, to igpt's own",
       "sample", "features", "show", "report", "push"]  # fmt: skip
MEASURES = ["evaluate", "probe", "few-labels", "along", "outliers"]
DRAWN = ["complete", "surprise"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What the calls read; anybody may."""
    folder = tmp_path_factory.mktemp("given")
    run(_CALLS + "make_inputs(given)", folder, folder)
    return folder


@pytest.mark.parametrize("commands", [["prepare", "palette", "convert"], ["pretrain"]])
def test_a_full_disk_is_told_and_later_all_comes_to_the_same(tmp_path, commands):
    arguments = ("--every", 9, "--disk", tmp_path)
    print(run(_SPACES, "spaces", *commands, *arguments, mounted=(tmp_path, "size=8m")))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_disk_of_any_space_is_told_and_later_all_comes_to_the_same(tmp_path):
    disk = (tmp_path, "size=8m")
    print(run(_SPACES, "spaces", "--disk", tmp_path, mounted=disk, seconds=1800))


def test_on_a_disk_for_reading_what_can_be_shown_is_and_the_rest_told(tmp_path, given):
    code = _CALLS + (
        f"for name in {MEASURES + DRAWN}:\n"
        "    (home / name).mkdir()\n"
        "    COMMANDS[name].set_up(given, home / name)\n"
        "os.system(f'mount -o remount,ro {home}')\n"
        "before = outcome(home)\n"
        f"for name in {MEASURES + DRAWN}:\n"
        "    told(name, home / name)\n"
        f"for name in {NEW}:\n"
        "    told(name, home / 'new')\n"
        "assert outcome(home) == before\n"
    )
    lines = run(code, tmp_path, given, mounted=(tmp_path, "size=8m")).splitlines()
    assert len(lines) == len(MEASURES + DRAWN + NEW)
    for line in lines:
        name, code, *messages = line.split("|")
        assert code == ("0" if name in MEASURES else "2"), line
        assert len(messages) == 1, line
        assert "Read-only file system" in messages[0]
        assert messages[0].startswith("igpt: note: ") == (name in MEASURES)


def test_where_one_may_not_write_what_can_be_shown_is_and_the_rest_told(quick_disk, given):
    code = _CALLS + (
        f"for name in {MEASURES + DRAWN}:\n"
        "    (home / name).mkdir()\n"
        "    COMMANDS[name].set_up(given, home / name)\n"
        "for path in (home, *home.rglob('*')):\n"
        "    path.chmod(0o555 if path.is_dir() else 0o444)\n"
        "if os.geteuid() == 0:\n"
        "    os.setuid(65534)\n"
        "before = outcome(home)\n"
        f"for name in {MEASURES + DRAWN}:\n"
        "    told(name, home / name)\n"
        f"for name in {NEW}:\n"
        "    told(name, home / 'new')\n"
        "assert outcome(home) == before\n"
    )
    lines = run(code, quick_disk, given).splitlines()
    assert len(lines) == len(MEASURES + DRAWN + NEW)
    for line in lines:
        name, code, *messages = line.split("|")
        assert code == ("0" if name in MEASURES else "2"), line
        assert len(messages) == 1, line
        assert "Permission denied" in messages[0]


@pytest.mark.parametrize(
    ("name", "folder"),
    [("prepare", "store"), ("pretrain", "run"), ("finetune", "tuned"), ("convert", "exported")],
)
def test_a_disk_itself_is_written_inside(tmp_path, given, name, folder):
    (tmp_path / folder).mkdir()
    code = _CALLS + (
        "told(sys.argv[3], home)\n"
        "assert os.path.ismount(home / sys.argv[4])\n"
        "print(*sorted(os.listdir(home / sys.argv[4])))\n"
    )
    disk = (tmp_path / folder, "size=8m")
    told, names = run(code, tmp_path, given, name, folder, mounted=disk).splitlines()
    assert told.split("|")[:2] == [name, "0"]
    assert not any(entry.startswith(".") for entry in names.split())
