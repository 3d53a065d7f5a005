"""Where a command is tried again and again: undisturbed, disturbed, and gone on with."""

import contextlib
import importlib
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.changes import Change, changes, killed
from tests.crash.commands import Command, RefusedError, make_inputs
from tests.crash.outcome import differences, outcome

HEAD = "command                          changes   tried untouched   whole   equal  faults"
_HIDDEN = re.compile(r"(^|/)\.(partial|replaced|complete|lock)\b")
"""What is under way, and no part yet of what others see."""
_TOLD = re.compile(r"^igpt: (?!note: )", re.MULTILINE)
"""How the line begins that says why a command ended."""


@dataclass
class Account:
    """What came of the trials of a command."""

    command: str
    changes: int
    """That it makes to the disk."""
    tried: int = 0
    untouched: int = 0
    """After so many disturbances all was as before; what would be new was not there."""
    whole: int = 0
    """After so many the outcome was whole already."""
    equal: int = 0
    """After so many the outcome was whole once it had been gone on with, and nothing was lost."""
    faults: list[str] = field(default_factory=list)
    """What came of the others."""

    def __str__(self) -> str:
        """Return a line below `HEAD`."""
        return (
            f"{self.command:32} {self.changes:7} {self.tried:7} {self.untouched:9} {self.whole:7} "
            f"{self.equal:7} {len(self.faults):7}"
        )


class Bench:
    """A command, the folders it reads and writes, and what it does if nothing disturbs it.

    Every work is done in a process of its own, forked from this one, so that none has to wait for
    its imports.
    """

    def __init__(self, command: Command, given: Path, work: Path, *, printed: Path) -> None:
        """See what the command does: again and again the same.

        Args:
            command: That is tried.
            given: Folder of what it reads; made if it is empty.
            work: Folder it writes into, the same for all trials, since runs know their paths.
            printed: File for what is printed.
        """
        self.command, self.given, self.work, self.printed = command, given, work, printed
        self.old: dict[str, str] = {}
        self._before = printed.with_name("before")
        self._imported = printed.with_name("imported")
        self._clear()
        assert self.run(self._set_up) == 0, self.output
        shutil.rmtree(self._before, ignore_errors=True)
        shutil.copytree(work, self._before)
        self.old = outcome(work)
        assert self.run(self._first_of_all) == 0, self.output
        self.new = outcome(work)
        _import(self._imported.read_text().split())
        self.begin()
        began = time.monotonic()
        assert self.run(self.first) == 0, self.output
        self.seconds = time.monotonic() - began
        self.begin()
        self.changes = changes(lambda: self._printing(self.first), work)
        differing = differences(outcome(work), self.new)
        assert not differing, f"{command.name} does not always give the same {differing}"
        self.account = Account(command.name, len(self.changes))

    def begin(self) -> None:
        """Put the folder back to what it was before."""
        self._clear()
        shutil.copytree(self._before, self.work, dirs_exist_ok=True)

    def first(self) -> None:
        """Make the call; in a process of its own."""
        self.command.first(self.given, self.work)

    def again(self) -> None:
        """Go on after a disturbance; in a process of its own."""
        self.command.again(self.given, self.work)

    def run(self, work: Callable[[], object], *, kill_after: float | None = None) -> int:
        """Do some work in a process of its own and return its exit code, negative if killed."""
        process = os.fork()
        if process == 0:
            code = 1
            try:
                self._printing(work)
                code = 0
            except RefusedError as error:
                code = error.code
            finally:
                os._exit(code)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(process, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def kill(self, number: int, *, half: bool) -> Change | None:
        """Make the call and kill it, as `tests.changes.killed` does."""
        return killed(lambda: self._printing(self.first), self.work, number, half=half)

    def judge(self, what: str, *, told: bool = False) -> None:
        """Go on after a disturbance, and see that nothing was lost and all comes out the same.

        Args:
            what: The disturbance, in words.
            told: Whether the command had to say, in one line, why it ended.
        """
        account, faults = self.account, []
        account.tried += 1
        at_once = {
            path: facts for path, facts in outcome(self.work).items() if not _HIDDEN.search(path)
        }
        account.untouched += at_once == self.old
        account.whole += at_once == self.new
        if told and (len(_TOLD.findall(self.output)) != 1 or "Traceback" in self.output):
            faults.append(f"it told {self.output[-600:]}")
        lost = [path for path in self.old if self._is_lost(path, at_once.get(path))]
        if lost:
            faults.append(f"{lost} were lost")
        code = self.run(self.again)  # refused where all is there already, or is so by now
        if differing := differences(outcome(self.work), self.new):
            faults.append(
                f"going on ended with {code}, and {differing[:6]} differ: {self.output[-600:]}"
            )
        account.equal += not faults
        if faults:
            account.faults.append(f"{account.command}, {what}: " + "; ".join(faults))

    @property
    def output(self) -> str:
        """What the last work printed."""
        return self.printed.read_text(errors="replace")

    def _is_lost(self, path: str, now: str | None) -> bool:
        """Say whether a file that was there before is neither that any more nor what it becomes."""
        if now in (self.old[path], self.new.get(path)):
            return False
        return path not in (self.command.made_anew if now is None else self.command.carried_on)

    def _printing(self, work: Callable[[], object]) -> None:
        """Do some work, in a process of its own, that prints into the file, also why it failed."""
        with self.printed.open("w") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        try:
            work()
        except RefusedError:
            raise
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()

    def _set_up(self) -> None:
        if not any(self.given.iterdir()):
            make_inputs(self.given)
        self.command.set_up(self.given, self.work)

    def _first_of_all(self) -> None:
        self.first()
        self._imported.write_text(" ".join(sys.modules))

    def _clear(self) -> None:
        self.work.mkdir(exist_ok=True)
        for path in self.work.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _import(names: Iterable[str]) -> None:
    """Import here what a work imported, so that no process has to wait for that again."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
