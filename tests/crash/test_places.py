"""Disks that are full, for reading only, other people's, or are themselves what is asked for."""

import pytest
from tests.system import run

_SPACES = "from tests.crash.trials import main; main()"
_CALLS = """
import contextlib, io, os, shutil, sys, tempfile
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
    print(name, code, *dict.fromkeys(lines), sep="|")
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


_WITHOUT_WRITING = (
    _CALLS
    + f"""
for name in {MEASURES + DRAWN}:
    (home / name).mkdir()
    COMMANDS[name].set_up(given, home / name)
close()
before = outcome(home)
for name in {MEASURES + DRAWN}:
    told(name, home / name)
for name in {NEW}:
    told(name, home / 'new')
assert outcome(home) == before
"""
)


def test_on_a_disk_for_reading_what_can_be_shown_is_and_the_rest_told(tmp_path, given):
    code = _WITHOUT_WRITING.replace("close()", "os.system(f'mount -o remount,ro {home}')")
    printed = run(code, tmp_path, given, mounted=(tmp_path, "size=8m"))
    check_told(printed, "Read-only file system")


def test_where_one_may_not_write_what_can_be_shown_is_and_the_rest_told(quick_disk, given):
    close = f"""
with tempfile.TemporaryDirectory() as other, contextlib.redirect_stdout(None):
    # so that all is imported: it may be for the administrator alone
    for name in {MEASURES + DRAWN}:
        shutil.copytree(home / name, Path(other, name))
        told(name, Path(other, name))
    for name in {NEW}:
        told(name, Path(other))
for path in (home, *home.rglob("*")):
    path.chmod(0o555 if path.is_dir() else 0o444)
if os.geteuid() == 0:
    given.chmod(0o755)
    os.chdir(given)
    given = Path()
    os.setuid(65534)
"""
    printed = run(_WITHOUT_WRITING.replace("close()", close), quick_disk, given)
    check_told(printed, "Permission denied")


def check_told(printed, reason):
    """See that measures were printed with notes, and all others refused in a line."""
    lines = printed.splitlines()
    assert len(lines) == len(MEASURES + DRAWN + NEW)
    for line in lines:
        name, code, *messages = line.split("|")
        measured = name in MEASURES
        assert code == ("0" if measured else "2"), line
        assert messages, line
        assert measured or len(messages) == 1, line
        for message in messages:
            assert reason in message
            assert message.startswith("igpt: note: ") == measured, line


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
