"""Damaged files of every kind that commands read, and what reading them came to.

    python -m tests.hostile.files WORLD FIRST COUNT

Damages a file of a copy of the world that `tests.hostile.world` built, reads what it belongs to,
and mends it again; prints as JSON how often that was read, and how often refused, and all that is
no refusal of igpt's own. Image files have tests of their own (`tests.pixels.damage`).
"""

import contextlib
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.arguments import ADDRESS_SPACE
from tests.hostile.world import SEARCH, SECONDS, Hangs, bounded

from igpt.claims.laboratory import Laboratory
from igpt.claims.page import read_result
from igpt.claims.scale import find_scale
from igpt.data.store import RecordStore
from igpt.errors import IgptError
from igpt.files import parse_json, read_json
from igpt.formats.load import load
from igpt.pixels.palette import Palette
from igpt.report.read import read_runs
from igpt.runs.resume import resume
from igpt.runs.search import search_pretraining
from igpt.training.metrics import read_metrics
from igpt.training.signals import Interrupted

SPLICES = [
    b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 50_000, b'{"a":' * 3000, b"true",
    b"\xff\xfe", b"\0", b'"\\ud800"', b"-1", b"0", b"18446744073709551616", b"2.0", b'"no"', b"{}",
    b"[]", b"\n", b"\x93NUMPY", b"PK\x03\x04", b"(" * 100, b"True", b"'|O'", b"'<U9'", b"-8,",
]  # fmt: skip
VALUES = [
    None, True, False, -1, 0, 1, 2.0, 0.5, 1e308, 2**32, 2**63, 2**64, 10**30, -(10**30), "", "no",
    "x" * 70_000, "\0", "../../etc", [], {}, [[]], [None], {"": 1}, ["a"] * 1000, float("nan"),
]  # fmt: skip


def read_store(folder: Path) -> None:
    """Read all of a store."""
    store = RecordStore.open(folder)
    for name in store.splits:
        records = store.split(name)
        assert len(records.names) == len(records.images[:]) == len(records)


def read_run(folder: Path) -> None:
    """Read what a report reads of a run."""
    (run,) = read_runs([folder])
    assert run.steps >= 0
    read_metrics(folder / "metrics.jsonl")


def read_state(folder: Path) -> None:
    """Go on from a run's state, a step."""
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    try:
        with contextlib.suppress(Interrupted):
            resume(folder, data=folder.parent / "store", device="cpu", seconds=0)
    finally:
        shutil.rmtree(folder)
        kept.rename(folder)


def read_search(folder: Path) -> None:
    """Go on with a search that is finished."""
    given = {"data": folder.parent / "store", "palette": folder.parent / "palette.npy"}
    search_pretraining(out=folder, device="cpu", **given, **SEARCH)


def read_laboratory(folder: Path) -> None:
    """Read what claims are made of."""
    store = folder.parents[1] / "store"
    Laboratory.open(folder, find_scale("tiny"), data=store, labelled=store)
    read_result(folder / "depth.json")
    read_json(folder / "depth.plan.json")


READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("store/*", read_store),
    ("store/store.json", read_store),
    ("run/*.json*", read_run),
    ("run/palette.npy", read_run),
    ("bert/*.json", read_run),
    ("tuned/*.json*", read_run),
    ("half/state/*/*", read_state),
    ("model/*", load),
    ("exported/*", load),
    ("rates/search.json", read_search),
    ("claims/tiny/*.json", read_laboratory),
    ("palette.npy", Palette.load),
]
"""Which files there are, and who reads the first folder of their path, or else the file."""


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Return bytes that were changed in one of many ways."""
    if whole.startswith(b"{") and chance.random() < 0.5:
        *lines, last = whole.split(b"\n{")  # metrics have an object a line
        value = parse_json(last if not lines else b"{" + last)
        return (
            b"\n{".join(lines) + b"\n" * bool(lines) + json.dumps(changed(value, chance)).encode()
        )
    at = chance.randrange(len(whole) + 1)
    splice = chance.choice(SPLICES)
    kind = chance.randrange(6)
    if kind == 0:
        return whole[:at]
    if kind == 1:
        return whole[:at] + splice + whole[at:]
    if kind == 2:
        return whole[:at] + splice + whole[at + len(splice) :]
    if kind == 3:
        return whole[:at] + whole[at + chance.randrange(1, 64) :]
    flipped = bytearray(whole)
    for _ in range(chance.choice([1, 1, 1, 4, 40])):
        first = min(len(whole), 400) if chance.random() < 0.5 else len(whole)  # most is in headers
        if whole:
            flipped[chance.randrange(first)] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def changed(value: Any, chance: random.Random) -> Any:
    """Return a JSON value of which something is left out, or is something else."""
    if isinstance(value, dict | list) and value and chance.random() < 0.85:
        copy = value.copy()
        key = chance.choice(list(copy) if isinstance(copy, dict) else range(len(copy)))
        if chance.random() < 0.2:
            del copy[key]
        else:
            copy[key] = changed(copy[key], chance)
        return copy
    return chance.choice(VALUES)


def outcome_of(read: Callable[[Path], object], path: Path) -> str:
    """Return what reading came to: "read", "refused" or what is wrong."""
    began = time.process_time()
    try:
        with bounded():
            read(path)
        outcome = "read"
    except IgptError as error:
        outcome = "refused" if len(str(error).splitlines()) == 1 else f"lines: {error}"
    except (Exception, Hangs) as error:
        outcome = f"{type(error).__name__}: {str(error)[:300]}"
    seconds = time.process_time() - began
    return outcome if seconds < SECONDS else f"took {seconds:.0f} s"


def main() -> None:
    """Damage and read."""
    source, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    warnings.simplefilter("ignore")
    outcomes, wrong = Counter[str](), []
    with tempfile.TemporaryDirectory() as temporary:
        world = Path(temporary) / "world"
        shutil.copytree(source, world)
        files = [
            (file, read)
            for pattern, read in READERS
            for file in sorted(world.glob(pattern))
            if file.is_file() and file.stat().st_size
        ]
        with open(os.devnull, "w") as nowhere:
            sys.stderr = nowhere
            for number in range(first, first + count):
                chance = random.Random(number)
                file, read = files[number % len(files)]
                path = file.relative_to(world)
                folder = world / (path.parts[0] if path.parts[0] != "claims" else "claims/tiny")
                whole = file.read_bytes()
                file.write_bytes(damaged(whole, chance))
                outcome = outcome_of(read, folder)
                file.write_bytes(whole)
                outcomes[outcome if outcome in ("read", "refused") else "wrong"] += 1
                if outcome not in ("read", "refused"):
                    wrong.append([number, str(path), outcome])
            sys.stderr = sys.__stderr__
    print(json.dumps({"outcomes": outcomes, "wrong": wrong}))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
