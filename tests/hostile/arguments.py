"""Calls of every command with values that nobody should give, and what came of them.

    python -m tests.hostile.arguments WORLD FIRST COUNT

Makes the calls number FIRST and following in a copy of the world that `tests.hostile.world` built,
and prints as JSON how they ended and every call that did not end as it has to: with code 0, or with
code 2 and one line; in time; with nothing half-written; and with what it was given as it was.
"""

import json
import os
import random
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from tests.hostile.world import SECONDS, contents, igpt

ADDRESS_SPACE = 16 * 2**30

PATHS = [
    "", ".", "..", "/", "~", "-", "--", "\0", "a\0b", "a\nb", "\x1b[31m", "\udcff", "*", "日本",
    "nowhere", "no/where/at/all", "n" * 300, "n/" * 2500, "/dev/null", "/dev/full", "/dev/zero",
    "/proc/self/environ", "/proc/self/mem", "/proc/1", "/sys", "/dev/stdin", "/root/../root",
    "photo.png", "photos", "store", "store/store.json", "store/train", "store/train/images.npy",
    "palette.npy", "palette.json", "run", "run/model", "run/recipe.json", "run/state", "bert",
    "tuned", "rates", "rates/search.json", "model", "exported", "model/model.safetensors", "empty",
    "empty.npy", "loop", "dangling", "pipe", "link", "locked", "someone/model", "a/b/c", "@",
    "http://127.0.0.1:9/x.png", "a" * 255, "{}", "%s", "\u202eevil", " ", "store/../store",
]  # fmt: skip
NUMBERS = [
    "", "-1", "0", "1", "2", "3", "2.5", "nan", "-inf", "inf", "1e400", "1e-400", "9" * 30, "x",
    "9" * 5000, "1_000", "\uff11\uff12", " 3 ", "+3", "None", "true", "1,2", "[1]", "\0", "1\n2",
    "4294967295", "4294967296", str(2**63 - 1), str(2**63), str(2**64), "-" + "9" * 30, "1e3",
]  # fmt: skip
TEXTS = [
    "", "x", "\0", "a\nb", "\x1b[31m", "\udcff", "日本", "y" * 100_000, "{}", "[1]", '{"a": 1}',
    "--", "-", "=", "a=b", "%s%n", "../..", "a/b", "auto", "cpu", "cuda", "cuda:99", "meta", "mps",
    "cpu:1", "cuda:-1", "xla", "hpu", "vulkan", "test", "train+validation", "tiny", "all", "depth",
    "cifar10-tiny", "igpt-xl", "someone/model", "n" * 300, "main", "label", "test=train", "t=t",
]  # fmt: skip
SETTINGS = [
    "", "=", "a=b", "model", "model=", "model.=3", ".x=1", "model.layers=0", "model.layers=[[[[[[",
    "model.width=" + "9" * 40, "model.width=-8", "model.heads=0", "model.heads=2.0", "model=null",
    "model.image_size=1", "model.image_size=7", "training.steps=NaN", "training.steps=1e999",
    "training.learning_rate=1e999", "training.learning_rate=-0.0", "training.learning_rate=1e308",
    "training.seed=-1", "training.seed=4294967296", "training.batch_size=1000000000000",
    "training.batch_size=0", "training.beta2=1", "training.schedule=x", "augmentation=\0",
    'training={"steps": 1}', "training.steps=" + "9" * 5000, "training.precision=float16",
    "model.layers=" + "[" * 100_000, "mask_probability=nan", "snapshots=99999999999", "日本=1",
    "finetune.training.steps=0", "training.validation_images=0", "training.warmup_steps=1e2",
    "training.max_gradient_norm=0", "training.checkpoint_minutes=nan", "dropout=2", "patience=0",
    "class_layer=9", "layer=99", "pixel_coefficient=-1", "augmentation=crop", "from_scratch=maybe",
]  # fmt: skip

GOOD = {
    "RUN": ["run", "bert", "tuned", "model", "exported"], "RUNS": ["run", "tuned"],
    "MODELS": ["run", "model"],
    "--data": ["store"], "STORE": ["store"], "--palette": ["palette.npy"],
    "IMAGES": ["photo.png", "photos"],
    "SOURCE": ["photos", "run", "digits"], "FOLDERS": ["claims"], "RECIPE": ["cifar10-tiny"],
    "RECIPE|RUN": ["cifar10-tiny", "run"], "--other": ["store", "photos"], "--among": ["store"],
    "--labelled": ["store"],
    "DESTINATION": ["out/new"], "NAME": ["someone/pixels", "cifar10-tiny"], "CLAIM": ["depth"],
    "--split": ["test"], "--image-size": ["8"], "--rates": ["0.01,0.003"], "--license": ["mit"],
    "--set": ["training.steps=2"], "--device": ["cpu", "auto"], "--size": ["4"],
    "--scale": ["tiny"], "--layer": ["1"],
}  # fmt: skip
"""Values that a command can work with, by the name of the argument."""

ENDINGS = {
    "show": ".png",
    "fit": ".npy",
    "features": ".npz",
    "sample": ".png",
    "surprise": ".png",
    "classify": ".csv",
    "similar": ".png",
}

ALWAYS = {
    "pretrain": ["--set=model.layers=1", "--set=model.width=8", "--set=model.heads=2",
                 "--set=model.image_size=4", "--set=training.batch_size=4", "--steps=2",
                 "--seconds=0.01"],
    "search": ["--steps=2", "--set=training.batch_size=4", "--seconds=0.01"],
    "finetune": ["--set=training.batch_size=4", "--set=training.steps=2", "--seconds=0.01"],
    "resume": ["--seconds=0.01"],
    "start": ["--device=nowhere"],
    "quickstart": ["--device=nowhere"],  # minutes of work, and nothing that others have not
    "reproduce": ["--device=nowhere"],
    "serve": ["--device=nowhere"],  # or it serves until somebody stops it
    "push": ["--dry-run=out/dry"],
}  # fmt: skip
LEFT_OUT = {"--compile", "--dry-run", "*"}  # torch.compile takes a minute


OUTSIDE = {"/", "..", "../..", "/root/../root"}  # where tests have nothing to write


def commands(parser: Any, *before: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with its parser."""
    for name in parser:
        if not name.startswith("-"):
            inner = list(commands(parser[name], *before, name))
            yield from inner or [((*before, name), parser[name])]


def kind_of(hint: Any) -> Any:
    """Return the plain type in an annotation."""
    inner = [kind for kind in get_args(hint) if kind not in (NoneType, Ellipsis)]
    if get_origin(hint) in (Union, UnionType, tuple) or hasattr(hint, "__metadata__"):
        return kind_of(inner[0])
    return hint


def good_value(command: str, argument: Any, chance: random.Random) -> str:
    """Return a value that the argument may have."""
    kind, name = kind_of(argument.hint), argument.name
    if name == "--out":
        return f"out/new{ENDINGS.get(command, '')}"
    if get_origin(kind) is Literal:
        return chance.choice(get_args(kind))
    if kind in (int, float) and name not in GOOD:
        return chance.choice(["1", "2"])
    return chance.choice(GOOD.get(name, ["x"]))


def bad_value(_: str, argument: Any, chance: random.Random) -> str:
    """Return a value that nobody should give."""
    kind, name = kind_of(argument.hint), argument.name
    bad = {int: NUMBERS, float: NUMBERS, Path: PATHS}.get(kind, TEXTS + PATHS)
    bad = SETTINGS if name == "--set" else bad if chance.random() < 0.9 else TEXTS
    if name in ("--out", "DESTINATION"):
        bad = [value for value in bad if value not in OUTSIDE]
    return chance.choice(bad)


def call_of(number: int, parsers: list[tuple[tuple[str, ...], Any]]) -> list[str]:
    """Return the arguments of a call, which depend on its number alone: few of them are bad."""
    chance = random.Random(number)
    names, parser = parsers[number % len(parsers)]
    fixed = {more.partition("=")[0] for more in ALWAYS.get(names[0], [])} & {"--device"}
    known = [
        argument
        for argument in parser.assemble_argument_collection()
        if argument.name not in LEFT_OUT | fixed
    ]
    bad = chance.sample(known, min(len(known), chance.choice([1, 1, 1, 2, 3])))
    arguments = [
        argument
        for argument in known
        if argument in bad or chance.random() < (0.98 if argument.required else 0.1)
    ]
    call, positional = [], []
    for argument in arguments:
        value = (bad_value if argument in bad else good_value)(names[-1], argument, chance)
        if not argument.name.startswith("-"):
            positional.append(value)
        elif kind_of(argument.hint) is bool:
            call.append(argument.name)
        else:
            separate = [argument.name, value]
            call += separate if chance.random() < 0.5 else ["=".join(separate)]
    given = " ".join(call)
    call += [more for more in ALWAYS.get(names[0], []) if more.partition("=")[0] not in given]
    if chance.random() < 0.05:
        call.insert(chance.randrange(len(call) + 1), chance.choice(TEXTS + PATHS))
    return [*names, *positional, *call]


def furnish(world: Path) -> None:
    """Add what no run or store is."""
    for name in ("empty", "out", "locked"):
        (world / name).mkdir()
    (world / "empty.npy").touch()
    (world / "loop").symlink_to("loop")
    (world / "dangling").symlink_to("gone")
    (world / "link").symlink_to("store")
    os.mkfifo(world / "pipe")
    (world / "locked").chmod(0)


def faults(call: list[str], world: Path, before: dict[str, str]) -> tuple[str, list[str]]:
    """Make a call; return how it ended and what is wrong with that."""
    outcome = igpt(*call)
    wrong = []
    if outcome.error is not None:
        wrong.append(f"traceback: {type(outcome.error).__name__}: {str(outcome.error)[:300]}")
    elif outcome.code not in (0, 1, 2):
        wrong.append(f"code {outcome.code}")
    told = [line for line in outcome.err.splitlines() if line.startswith("igpt: ")]
    told = [line for line in told if not line.startswith("igpt: note: ")]
    if outcome.code == 2 and (len(told) != 1 or not outcome.err.endswith(told[0] + "\n")):
        wrong.append(f"not one line: {outcome.err[-500:]!r}")
    if outcome.seconds > SECONDS:
        wrong.append(f"took {outcome.seconds:.0f} s")
    after = contents(world)
    if half := [name for name in after if ".partial-" in name or ".replaced-" in name]:
        wrong.append(f"half-written: {half}")
    given = [name for name in before if name.startswith(("photo", "store", "palette", "model"))]
    if changed := [name for name in given if after.get(name) != before[name]]:
        wrong.append(f"changed: {changed}")
    return str(outcome.code), wrong


def main() -> None:
    """Make the calls."""
    from igpt.cli import app

    source, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    parsers = list(commands(app()))
    codes, wrong = Counter[str](), []
    with tempfile.TemporaryDirectory() as temporary:
        world = Path(temporary) / "world"
        shutil.copytree(source, world)
        furnish(world)
        os.chdir(world)
        before = contents(world)
        for number in range(first, first + count):
            call = call_of(number, parsers)
            code, found = faults(call, world, before)
            codes[code] += 1
            if found:
                wrong.append([number, [argument[:200] for argument in call], found])
            for path in (world / "out", world / "runs", world / "claims", world / "completions"):
                shutil.rmtree(path, ignore_errors=True)
            (world / "out").mkdir()
        (world / "locked").chmod(0o700)
        os.chdir("/")
    print(json.dumps({"codes": codes, "wrong": wrong}))


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
