"""The README's commands are commands that there are."""

import re
import shlex
from pathlib import Path

import click
import pytest

from igpt import cli

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
PAGES = TEXT + (ROOT / "docs" / "released-weights.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.partition("#")[0].strip()
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    if line.startswith("igpt ")
]


@pytest.mark.parametrize("line", COMMANDS)
def test_each_command_has_the_arguments_it_is_shown_with(line):
    command, arguments = cli._igpt, shlex.split(line)[1:]
    while isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    command.make_context("igpt", arguments)  # parses, and fails where something is unknown


def test_the_readme_shows_the_commands_of_the_work():
    shown = {shlex.split(line)[1] for line in COMMANDS}
    assert {"data", "palette", "pretrain", "evaluate", "probe", "finetune", "complete", "sample",
            "features", "report", "convert", "push"} <= shown  # fmt: skip


def test_the_make_targets_it_names_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"^make ([\w-]+)", TEXT, flags=re.MULTILINE)) <= targets


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / target).exists(), target
