"""Whenever a command is killed, nothing is lost, and going on leads to the same, bit for bit."""

import pytest
from tests.crash.commands import COMMANDS
from tests.system import require_refusals, run

_CODE = "from tests.crash.trials import main; main()"
_POINTS = [
    "prepare", "prepare, into an empty folder", "prepare, in shards", "palette", "palette, anew",
    "pretrain", "pretrain, into an empty folder", "pretrain, saving beside", "finetune", "convert",
    "convert, to igpt's own",
]  # fmt: skip


def test_a_command_killed_at_some_points_comes_to_the_same():
    require_refusals()
    commands = ["prepare", "pretrain, saving beside", "convert"]
    print(run(_CODE, "points", *commands, "--most", 3))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", _POINTS)
def test_a_command_killed_at_any_point_comes_to_the_same(command):
    require_refusals()
    print(run(_CODE, "points", command, seconds=3600))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [200])
def test_commands_killed_at_random_come_to_the_same(number):
    require_refusals()
    print(run(_CODE, "kills", *COMMANDS, "--number", number, seconds=3600))
