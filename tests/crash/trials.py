"""Commands that are disturbed and gone on with, again and again, and what came of it each time.

    python -m tests.crash.trials points prepare convert --most 10
    python -m tests.crash.trials kills --number 200
    python -m tests.crash.trials spaces pretrain --disk /mnt/small

`points` kills before every change to the disk, and in the middle of every writing, or at ten of
those points, evenly spread. `kills` kills at random moments, sometimes the going on as well.
`spaces` lets the disk have more and more space left, until it is enough.

Each goes on then as a user would, and compares all files with those of the command undisturbed. It
prints an account, and what went wrong; where anything did, it ends with code 1.
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.crash.bench import HEAD, Bench
from tests.crash.commands import COMMANDS


def try_points(bench: Bench, *, most: int | None, seed: int) -> None:
    """Kill before every change, and halfway through every writing; or at some of these points."""
    points = [(number, False) for number in range(len(bench.changes))]
    points += [
        (number, True) for number, change in enumerate(bench.changes) if change.call == "write"
    ]
    every = 1 if most is None else -(-len(points) // most)
    start = random.Random(f"{seed} {bench.command.name}").randrange(every)
    for number, half in sorted(points)[start::every]:
        bench.begin()
        change = bench.kill(number, half=half)
        bench.judge(f"killed {'in' if half else 'before'} change {number}, {change}")


def try_moments(bench: Bench, *, number: int, seed: int) -> None:
    """Kill at random moments; one time of three the going on too."""
    moments = random.Random(f"{seed} {bench.command.name}")
    while bench.account.tried < number:
        bench.begin()
        moment = moments.uniform(0, 1.1 * bench.seconds)
        if bench.run(bench.first, kill_after=moment) == 0:
            continue  # it was done before
        what = f"killed after {moment:.3f} s"
        if moments.random() < 1 / 3:
            moment = moments.uniform(0, 1.1 * bench.seconds)
            bench.run(bench.again, kill_after=moment)
            what += f", and going on after {moment:.3f} s"
        bench.judge(what)


def try_spaces(bench: Bench, *, every: int) -> None:
    """Leave no block of the disk free, then some, and so on, until that is enough."""
    ballast = bench.work.with_name("ballast")
    free = 0
    while True:
        bench.begin()
        disk = os.statvfs(bench.work)
        with ballast.open("wb") as file:
            file.write(bytes((disk.f_bavail - free) * disk.f_bsize))
        code = bench.run(bench.first)
        ballast.unlink()
        if code == 0:
            return
        bench.judge(f"ended with {code} where {free} blocks were free", told=True)
        free += every


def main() -> None:
    """Try commands as the arguments say, and end with code 1 if there were faults."""
    parser = argparse.ArgumentParser()
    parser.add_argument("how", choices=["points", "kills", "spaces"])
    parser.add_argument("commands", nargs="*", default=list(COMMANDS))
    parser.add_argument("--most", type=int, help="points of a command; all by default")
    parser.add_argument("--every", type=int, default=1, help="blocks from one space to the next")
    parser.add_argument("--number", type=int, default=len(COMMANDS), help="kills of all commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--disk", type=Path, help="folder to work in")
    asked = parser.parse_intermixed_args()
    commands = [COMMANDS[name] for name in asked.commands]
    accounts = []
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        given, printed = Path(folder, "given"), Path(folder, "printed")
        given.mkdir()
        print(HEAD)
        for index, command in enumerate(commands):
            bench = Bench(command, given, (asked.disk or Path(folder)) / "work", printed=printed)
            if asked.how == "points":
                try_points(bench, most=asked.most, seed=asked.seed)
            elif asked.how == "spaces":
                try_spaces(bench, every=asked.every)
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
