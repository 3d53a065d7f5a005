"""Disks that are full, for reading only, other people's, or are themselves what is asked for."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from tests.crash.commands import COMMANDS
from tests.system import run

NEW = {
    "prepare": "store", "palette": "palette.npy", "pretrain": "run", "finetune": "tuned",
    "search": "rates", "convert": "exported", "convert, to igpt's own": "model",
    "sample": "samples.png", "features": "a.npz", "classify": "classes.csv",
    "similar": "similar.png", "show": "sheet.png", "report": "report.html",
    "push": "pushed",
}  # fmt: skip
"""What each makes."""
FOLDERS = ["prepare", "pretrain", "finetune", "convert", "convert, to igpt's own", "push"]
"""Those that make a folder of their own."""
MEASURES = ["evaluate", "probe", "few-labels", "along", "outliers"]
DRAWN = ["complete", "surprise"]

_PLACES = f"""
import contextlib, io, json, os, sys
from pathlib import Path
from tests.crash.commands import COMMANDS, RefusedError, make_inputs
from tests.crash.outcome import outcome
given, disk, folders = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
measured, new = {MEASURES + DRAWN}, {NEW}

def told(name, work):
    "Make a call and return its code and the lines it told."
    said, command = io.StringIO(), COMMANDS[name]
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = command.first(given, work) or 0
        except RefusedError as error:
            code = error.code
    lines = [line for line in said.getvalue().splitlines() if line.startswith("igpt: ")]
    return code, list(dict.fromkeys(lines))

def without_writing(where):
    "See what is told where nothing can be written, and that nothing is."
    before = outcome(where)
    said = {{name: told(name, where / name) for name in measured}}
    said |= {{name: told(name, where / "new") for name in new}}
    assert outcome(where) == before
    return said

make_inputs(given)
results = {{"itself": {{}}}}
for name in {FOLDERS}:
    place = folders / new[name]
    place.mkdir()
    assert os.system(f"mount -t tmpfs -o size=1m none {{place}}") == 0
    said = told(name, folders)
    results["itself"][name] = *said, os.path.ismount(place), sorted(os.listdir(place))
for where in (disk, folders / "theirs"):
    for name in measured:
        (where / name).mkdir(parents=True)
        COMMANDS[name].set_up(given, where / name)
os.system(f"mount -o remount,ro {{disk}}")
results["for reading"] = without_writing(disk)
for path in (folders / "theirs", *(folders / "theirs").rglob("*")):
    path.chmod(0o555 if path.is_dir() else 0o444)
if os.geteuid() == 0:
    os.setuid(65534)
results["others'"] = without_writing(folders / "theirs")
print(json.dumps(results))
"""


def test_what_a_place_allows_is_done_and_the_rest_is_told():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        places = [Path(folder, name) for name in ("given", "disk", "folders")]
        for place in places:
            place.mkdir()
        printed = run(_PLACES, *places, mounted=(places[1], "size=8m"))
    told = json.loads(printed.splitlines()[-1])  # of all places, in one program
    check_written_inside(told["itself"])
    check_not_written(told["for reading"], "Read-only file system")
    check_not_written(told["others'"], "Permission denied")


def check_written_inside(told):
    """See that a disk which is itself the folder that is wanted got what goes there."""
    assert list(told) == FOLDERS
    for code, messages, mounted, names in told.values():
        assert (code, messages, mounted) == (0, [], True)
        assert len(names) >= 3
        assert not any(name.startswith(".") for name in names)


def check_not_written(told, reason):
    """See that figures were shown with notes, and all else was refused in a line."""
    assert {*told} == {*MEASURES, *DRAWN, *NEW}
    for name, (code, messages) in told.items():
        measured = name in MEASURES
        assert code == (0 if measured else 2), name
        assert messages, name
        assert measured or len(messages) == 1, name
        for message in messages:
            assert reason in message
            assert message.startswith("igpt: note: ") == measured


def run_spaces(disk, *arguments, seconds=120):
    code = "from tests.crash.trials import main; main()"
    print(
        run(code, "spaces", *arguments, "--disk", disk, mounted=(disk, "size=8m"), seconds=seconds)
    )


def test_a_full_disk_is_told_and_later_all_comes_to_the_same(tmp_path):
    run_spaces(tmp_path, "prepare", "pretrain", "--every", 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_of_any_space_is_told_and_later_all_comes_to_the_same(tmp_path, command):
    every = 50 if command in ("quickstart", "reproduce") else 1  # which write megabytes
    run_spaces(tmp_path, command, "--every", every, seconds=1800)
