"""Which commit a result comes from."""

import subprocess
import sys

import pytest
import torch

from igpt.runs.provenance import commit_of, provenance


@pytest.fixture
def repository(tmp_path):
    """A git repository with one file that it tracks."""
    (tmp_path / "mine.py").write_text("mine = 1\n")
    person = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    for command in (["init", "-q"], ["add", "mine.py"], [*person, "commit", "-qm", "Mine"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_the_commit_is_that_of_the_checkout_which_tracks_the_file(repository):
    head = subprocess.run(
        ["git", "-C", str(repository), "rev-parse", "HEAD"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert commit_of(repository / "mine.py") == head[:12]
    (repository / "mine.py").write_text("mine = 2\n")
    assert commit_of(repository / "mine.py") == f"{head[:12]}-dirty"


def test_the_repository_around_an_installed_copy_is_not_its_own(repository):
    installed = repository / ".venv" / "site-packages" / "igpt" / "module.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    assert commit_of(installed) is None


def test_outside_of_a_repository_there_is_no_commit(tmp_path):
    (tmp_path / "module.py").write_text("")
    assert commit_of(tmp_path / "module.py") is None


@pytest.mark.parametrize(
    ("program", "typed"),
    [("/usr/bin/igpt", "igpt"), ("/site/igpt/__main__.py", "python -m igpt")],
)
def test_the_command_is_kept_as_one_would_type_it(program, typed, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, "probe", "my run"])
    assert provenance(torch.device("cpu")).command == f"{typed} probe 'my run'"
