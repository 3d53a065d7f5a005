"""Every file of a run, a store and a model, damaged, against every command that reads it.

    python -m tests.hostile.matrix WORLD [PATTERN]

Prints a table in Markdown, a row a kind of file, of the files of the world that
`tests.hostile.world` built whose names match. Each is flipped (a bit, at two places), cut (in half,
and by a byte) and emptied. What a command makes of that is

    refused     one line, exit code 2
    mended      the same figures as from whole files, and the file is whole again
    the same    the same figures, since none of them comes from there
    CHANGED     other figures, and not a word
    TRACEBACK   or a refusal of several lines

The last two must not be. `igpt verify` has a column of its own: damage that it finds. Folders of
other people's formats are not here: they have no checksums, and get none.
"""

import base64
import fnmatch
import hashlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.world import Outcome, igpt

from igpt.pixels.images import read_image

FLIPS = 2
_CLOCKS = {"seconds", "images_per_second", "tokens_per_second", "started", "command", "mfu"}
_TINY = ("--set=training.steps=4", "--set=training.batch_size=8", "--set=training.validate_every=4")
_NEW = ("--set=model.image_size=4", "--set=model.layers=1", "--set=model.width=8",
        "--set=model.heads=2", "--set=training.warmup_steps=1", *_TINY)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command, and which files hold its figures beside what it prints."""

    line: str
    files: tuple[str, ...] = ("out",)

    @property
    def name(self) -> str:
        """What the table calls it."""
        first, second = self.line.split()[:2]
        return f"{first} {second}" if first in ("data", "palette") else first


DATA = "--data store"
COMMANDS = [
    Command(f"evaluate run {DATA} --json"),
    Command(f"evaluate model {DATA} --json"),
    Command(f"evaluate exported {DATA} --json"),
    Command(f"probe run {DATA} --json"),
    Command(f"outliers run {DATA} --images 8 --json"),
    Command(f"features run {DATA} --out out/features.npz"),
    Command("sample run --samples 2 --out out/samples.png"),
    Command("surprise model photo.png --out out/surprise.png --json"),
    Command("complete model photo.png --samples 1 --out out"),
    *(Command(f"convert {of} out/new --json") for of in ("run", "model", "exported")),
    Command("push run someone/model --dry-run out/new"),
    Command("convert run out/new --to igpt --json"),
    Command("classify run photo.png --out out/classes.csv --json"),
    Command("similar run photo.png --among store --out out/similar.png --json"),
    Command(f"few-labels run {DATA} --labels 2 --subsets 1 --json"),
    Command(f"along run {DATA} --json"),
    Command(f"complete run {DATA} --count 2 --samples 1", ("run/completions.png",)),
    Command(f"surprise run {DATA} --count 2 --json", ("run/surprise.png",)),
    Command("report run tuned --out out/report.html"),
    Command(f"finetune run {DATA} --out out/new {' '.join(_TINY)}"),
    Command(f"resume run {DATA} --json", ("run/model", "run/metrics.jsonl")),
    Command(f"resume half {DATA} --json", ("half/model", "half/metrics.jsonl")),
    Command(f"resume tuned {DATA} --json", ("tuned/model", "tuned/finetune.json")),
    Command("data show store --out out/sheet.png"),
    Command("palette fit store --size 8 --out out/palette.npy --json"),
    Command(f"pretrain cifar10-tiny {DATA} --palette palette.npy --out out/new {' '.join(_NEW)}"),
]
VERIFY = [
    Command(f"verify {of}") for of in ("run", "half", "tuned", "store", "model", "palette.npy")
]
DAMAGED = [f"{name}/**/*" for name in ("run", "half", "tuned", "store", "model")]
DAMAGED += ["palette.*"]


class Opened:
    """Which files a block opens; hooks cannot be taken off again, so there is one for all."""

    def __init__(self) -> None:
        self.paths: set[str] | None = None
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.paths is not None and event == "open" and isinstance(arguments[0], str | Path):
            self.paths.add(os.path.realpath(arguments[0]))


def damages(whole: bytes, name: str) -> Iterable[tuple[str, bytes]]:
    """Yield kinds of damage, and the damaged bytes."""
    chance = random.Random(name)
    for _ in range(FLIPS):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        yield "flipped", bytes(flipped)
    yield "cut", whole[: len(whole) // 2]
    yield "cut", whole.rstrip(b"\n")[:-1]  # a line's end alone holds nothing
    yield "emptied", b""


def without_clocks(value: Any) -> Any:
    """Return JSON values without what differs from call to call."""
    if isinstance(value, dict):
        return {key: without_clocks(inner) for key, inner in value.items() if key not in _CLOCKS}
    return [without_clocks(inner) for inner in value] if isinstance(value, list) else value


def figures_in(path: Path) -> Any:
    """Return what a file says, or a digest of it."""
    if path.name in ("log.txt", "provenance.json") or "state" in path.parts:
        return None
    whole = path.read_bytes()
    if path.suffix == ".jsonl":
        return [without_clocks(json.loads(line)) for line in whole.splitlines()]
    if path.suffix == ".html":  # a picture is what it shows
        *text, last = re.split(rb"data:image/png;base64,([\w+/=]+)", whole)
        pictures = [read_image(base64.b64decode(part)) for part in text[1::2]]
        return [hashlib.md5(b"".join([*text[::2], last, *map(bytes, pictures)])).hexdigest()]
    if path.name == "config.json" or path.suffix != ".json":
        return hashlib.md5(whole).hexdigest()
    values = without_clocks(json.loads(whole))
    values.pop("checksum", None)  # of clocks too
    return values


class Bench:
    """A world that is damaged, and put right again."""

    def __init__(self, source: Path, world: Path) -> None:
        self.source, self.world, self.opened = source, world, Opened()
        self.restore()
        os.chdir(world)

    def restore(self) -> None:
        """Make the world as it was."""
        for path in self.world.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self.source, self.world, dirs_exist_ok=True)
        (self.world / "out").mkdir()

    def call(self, command: Command) -> tuple[Outcome, Any]:
        """Return how a command ends here, and all its figures."""
        outcome = igpt(*command.line.split())
        if outcome.code != 0:
            return outcome, None
        files = [
            file
            for name in command.files
            for file in sorted([Path(name), *Path(name).rglob("*")])
            if file.is_file()
        ]
        try:
            printed = without_clocks(json.loads(outcome.out))
        except ValueError:
            printed = outcome.out
        return outcome, (printed, {str(file): figures_in(file) for file in files})

    def reads(self, command: Command) -> tuple[set[str], Any]:
        """Return the files that a command reads of a whole world, and its figures."""
        self.opened.paths = set()
        outcome, figures = self.call(command)
        opened, self.opened.paths = self.opened.paths, None
        assert outcome.code == 0, (command.line, outcome)
        names = {os.path.relpath(path, os.path.realpath(self.world)) for path in opened}
        folders = {os.path.dirname(name) for name in names if name.endswith(".json")}
        weights = {  # opened by Rust, which no hook sees
            str(path.relative_to(self.world))
            for folder in folders
            for path in (self.world / folder).glob("*.safetensors")
        }
        self.restore()
        return names | weights, figures


def outcome_of(bench: Bench, command: Command, name: str, damaged: bytes, whole: Any) -> str:
    """Return what a command makes of a damaged file."""
    path = bench.world / name
    path.write_bytes(damaged)
    outcome, figures = bench.call(command)
    now = path.read_bytes() if path.is_file() else None
    mended = now == (bench.source / name).read_bytes()
    if now == damaged:  # what was left as it was is no figure
        figures, whole = (made and (made[0], made[1] | {name: None}) for made in (figures, whole))
    bench.restore()
    if outcome.error is not None:
        return f"TRACEBACK ({type(outcome.error).__name__})"
    if command in VERIFY:
        return "found" if outcome.code else "not found"
    if outcome.code != 0:
        told = [line for line in outcome.err.splitlines() if line.startswith("igpt: ")]
        return "refused" if outcome.code == 2 and len(told) == 1 else "TRACEBACK (lines)"
    if figures != whole:
        return "CHANGED"
    return "mended" if mended else "the same"


def table(source: Path, pattern: str) -> tuple[str, list[str]]:
    """Return the table, a row for files of one kind, and what must not be."""
    cells: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    wrong = []
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(source, Path(temporary))
        read = {command: bench.reads(command) for command in (*COMMANDS, *VERIFY)}
        names = [
            str(path.relative_to(source))
            for damaged in DAMAGED
            for path in sorted(source.glob(damaged))
            if path.is_file() and path.stat().st_size
        ]
        for name in fnmatch.filter(names, pattern):
            row = cells[_kind(name)]
            for kind, damaged in damages((source / name).read_bytes(), name):
                for command, (files, whole) in read.items():
                    if name not in files:
                        continue
                    outcome = outcome_of(bench, command, name, damaged, whole)
                    row["igpt verify" if command in VERIFY else kind][outcome] += 1
                    if outcome.isupper() or outcome.startswith("TRACEBACK"):
                        wrong.append(f"{name} {kind}: {command.line}: {outcome}")
            print(name, {kind: dict(row[kind]) for kind in row}, file=sys.stderr, flush=True)
        os.chdir("/")
    columns = ("flipped", "cut", "emptied", "igpt verify")
    lines = [f"| file | {' | '.join(columns)} |", "| --- |" + " --- |" * len(columns)]
    for name, row in cells.items():
        lines.append(f"| `{name}` | {' | '.join(_shown(row[column]) for column in columns)} |")
    calls = sum(outcomes.total() for row in cells.values() for outcomes in row.values())
    return "\n".join([*lines, "", f"{calls:,} calls on {len(names)} files."]), wrong


def _kind(name: str) -> str:
    """Return what files that are the same in all runs, splits and steps are called."""
    name = re.sub(r"^(run|half|tuned)/", "RUN/", name)
    name = re.sub(r"^(model|RUN/(model|pretrained|snapshots/step-\d+))/", "MODEL/", name)
    name = re.sub(r"^store/(train|validation|test)/", "STORE/SPLIT/", name)
    name = re.sub(r"^store/", "STORE/", name)
    return re.sub(r"step-\d+", "step-N", name)


def _shown(outcomes: Counter[str]) -> str:
    counts = [f"{outcome} {count:,}" for outcome, count in sorted(outcomes.items())]
    return ", ".join(counts) or "not read"


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    text, wrong = table(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "*")
    print(text, *wrong, sep="\n")
    sys.exit(bool(wrong))
