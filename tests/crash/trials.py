"""A command that is killed and gone on with, again and again, and what came of it each time.

    python -m tests.crash.trials points --every 7 --seed 0 prepare convert
    python -m tests.crash.trials kills --number 200

The first kills before every change to the disk, and in the middle of every writing, or at every
seventh of those points. The second kills at random moments, sometimes the going on as well. Either
goes on then as a user would, and compares all files with those of the command undisturbed. It
prints an account, and what went wrong; where anything did, it ends with code 1.
"""

import argparse
import contextlib
import importlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.changes import changes, killed
from tests.crash.commands import COMMANDS, Command, make_inputs
from tests.crash.outcome import differences, outcome


@dataclass
class Account:
    """What came of the trials of a command."""

    command: str
    changes: int
    """That it makes to the disk."""
    tried: int = 0
    untouched: int = 0
    """After so many kills all was as before; what would be new was not there."""
    whole: int = 0
    """After so many the outcome was whole already."""
    equal: int = 0
    """After so many the outcome was whole once it had been gone on with."""
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return a line."""
        return (
            f"{self.command:32} {self.changes:7} {self.tried:7} {self.untouched:9} {self.whole:7} "
            f"{self.equal:7} {len(self.faults):7}"
        )


_HIDDEN = re.compile(r"(^|/)\.(partial|replaced|complete|lock)\b")
"""What is under way, and no part yet of what others see."""
HEAD = "command                          changes   tried untouched   whole   equal  faults"


class Bench:
    """Where one command is tried."""

    def __init__(self, command: Command, home: Path) -> None:
        """See what the command does if nothing disturbs it, again and again the same."""
        self.command, self.home = command, home
        self.given, self.work, self.before = home / "given", home / "work", home / "before"
        self._clear()
        assert self.run(self._set_up) == 0, self.output
        shutil.rmtree(self.before, ignore_errors=True)
        shutil.copytree(self.work, self.before)
        self.old = outcome(self.work)
        assert self.run(self._first_of_all) == 0, self.output
        self.new = outcome(self.work)
        import_all((home / "imported").read_text().split())
        self.begin()
        began = time.monotonic()
        assert self.run(self.first) == 0, self.output
        self.seconds = time.monotonic() - began
        self.begin()
        self.changes = changes(lambda: self.printing(self.first), self.work)
        differing = differences(outcome(self.work), self.new)
        assert not differing, f"{command.name} does not always give the same {differing}"
        self.account = Account(command.name, len(self.changes))

    def begin(self) -> None:
        """Put the folder back to what it was before."""
        self._clear()
        shutil.copytree(self.before, self.work, dirs_exist_ok=True)

    def first(self) -> None:
        """Make the call."""
        self.command.first(self.given, self.work)

    def again(self) -> None:
        """Go on after a kill."""
        self.command.again(self.given, self.work)

    def run(self, work: Callable[[], object], *, kill_after: float | None = None) -> int:
        """Do some work in a process of its own and return how it ended, as `os.waitpid` does."""
        process = os.fork()
        if process == 0:
            code = 1
            try:
                self.printing(work)
                code = 0
            finally:
                os._exit(code)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(process, signal.SIGKILL)
        return os.waitpid(process, 0)[1]

    def printing(self, work: Callable[[], object]) -> None:
        """Do some work, in a process of its own, that prints into a file, also why it failed."""
        with (self.home / "printed").open("w") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()

    def judge(self, what: str) -> None:
        """Go on after a kill, and see that nothing was lost and all comes out the same."""
        account = self.account
        account.tried += 1
        at_once = {
            path: facts for path, facts in outcome(self.work).items() if not _HIDDEN.search(path)
        }
        account.untouched += at_once == self.old
        account.whole += at_once == self.new
        lost = [
            path for path in self.old
            if at_once.get(path) not in (self.old[path], self.new.get(path))
            and not (path in self.command.made_anew and path not in at_once)
        ]  # fmt: skip
        status = self.run(self.again)
        differing = differences(outcome(self.work), self.new)
        refused = bool(status) and at_once != self.new
        if not lost and not differing and not refused:
            account.equal += 1
            return
        account.faults.append(
            f"{self.command.name}, killed {what}: lost {lost}, then differing {differing[:6]}, "
            f"ended with {status}: {self.output[-600:]}"
        )

    @property
    def output(self) -> str:
        """What the last work printed."""
        return (self.home / "printed").read_text(errors="replace")

    def _set_up(self) -> None:
        if not any(self.given.iterdir()):
            make_inputs(self.given)
        self.command.set_up(self.given, self.work)

    def _first_of_all(self) -> None:
        self.first()
        (self.home / "imported").write_text(" ".join(sys.modules))

    def _clear(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()


def try_points(bench: Bench, *, every: int, seed: int) -> None:
    """Kill before every change, and halfway through every writing; or at a part of these points."""
    points = [(number, False) for number in range(len(bench.changes))]
    points += [
        (number, True) for number, change in enumerate(bench.changes) if change.call == "write"
    ]
    start = random.Random(f"{seed} {bench.command.name}").randrange(every)
    for number, half in sorted(points)[start::every]:
        bench.begin()
        change = killed(lambda: bench.printing(bench.first), bench.work, number, half=half)
        bench.judge(f"{'in' if half else 'before'} change {number}, {change}")


def try_moments(bench: Bench, *, number: int, seed: int) -> None:
    """Kill at random moments; one time of three the going on too."""
    moments = random.Random(f"{seed} {bench.command.name}")
    while bench.account.tried < number:
        bench.begin()
        moment = moments.uniform(0, 1.1 * bench.seconds)
        if bench.run(bench.first, kill_after=moment) == 0:
            continue  # it was done before
        what = f"after {moment:.3f} s"
        if moments.random() < 1 / 3:
            moment = moments.uniform(0, 1.1 * bench.seconds)
            bench.run(bench.again, kill_after=moment)
            what += f", and going on after {moment:.3f} s"
        bench.judge(what)


def import_all(names: Iterable[str]) -> None:
    """Import here what a work imported, so that no process has to wait for that again."""
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def main() -> None:
    """Try commands as the arguments say, and end with code 1 if there were faults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["points", "kills"])
    parser.add_argument("commands", nargs="*", default=list(COMMANDS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--number", type=int, default=len(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_intermixed_args()
    commands = [COMMANDS[name] for name in asked.commands]
    disk = "/dev/shm" if os.path.isdir("/dev/shm") else None
    accounts = []
    with tempfile.TemporaryDirectory(dir=disk) as folder:
        home = Path(folder)
        (home / "given").mkdir()
        print(HEAD)
        for index, command in enumerate(commands):
            bench = Bench(command, home)
            if asked.how == "points":
                try_points(bench, every=asked.every, seed=asked.seed)
            else:
                number = len(range(index, asked.number, len(commands)))
                try_moments(bench, number=number, seed=asked.seed)
            accounts.append(bench.account)
            print(bench.account, flush=True)
    faults = [fault for account in accounts for fault in account.faults]
    print(*faults, sep="\n\n", file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
