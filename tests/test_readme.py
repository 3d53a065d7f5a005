"""The README's commands, those of docs/released-weights.md and every command's example run.

They run in the order of the page, in one folder, at toy size: sizes are replaced and steps are few.
Those that need the hub or days are parsed only.
"""

import contextlib
import io
import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from benchmarks.released import released_network
from scipy.special import log_softmax

from igpt.cli import app, main
from igpt.pixels.images import write_png
from tests.conftest import write_shapes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RELEASED = (ROOT / "docs" / "released-weights.md").read_text()
METHOD = (ROOT / "docs" / "method.md").read_text()


def sets(*settings):
    return [f"--set={setting}" for setting in settings]


NETWORK = ("model.layers=4", "model.width=8", "model.heads=2", "snapshots=1")
TRAINING = ("training.steps=4", "training.batch_size=8", "training.validate_every=4",
            "training.warmup_steps=1")  # fmt: skip
MORE = {
    "pretrain": sets(*NETWORK, *TRAINING),
    "search cifar10-tiny": sets(*NETWORK, *TRAINING),
    "search": sets(*TRAINING),
    "finetune": sets(*TRAINING),
    "reproduce": ["--data=data/photos", *sets("model.width=8", "model.heads=2", *TRAINING)],
}
SIZES = {"--image-size": "12", "--size": "16", "--seeds": "1", "--minutes": "0.05"}
ELSEWHERE = re.compile(r"openai/|someone/|uoft-cs/|--scale small|^igpt quickstart")
"""What is not here: the hub, CIFAR-10, and the minutes of a quickstart, which has its own test."""


def blocks(page, language=""):
    """Return the blocks of code in a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def commands(text):
    """Return the commands in a text, without what is said about them."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line.startswith("igpt ")]


def helps(parser, path="igpt"):
    """Yield each command and its help."""
    for name in parser:
        if not name.startswith("-"):
            inner = list(helps(parser[name], f"{path} {name}"))
            yield from inner or [(f"{path} {name}", parser[name].help)]


EXAMPLES = {name: commands(text) for name, text in helps(app())}
SHOWN = commands("\n".join(blocks(README)))
LINES = list(dict.fromkeys([*SHOWN, *itertools.chain.from_iterable(EXAMPLES.values())]))


def toy(line):
    """Return a command's arguments at toy size."""
    arguments = shlex.split(line)[1:]
    for option, value in SIZES.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
    return [*arguments, *MORE.get(" ".join(arguments[:2]), MORE.get(arguments[0], []))]


def run(line):
    """Run a command here and return its exit code and all that it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(toy(line))
        except SystemExit as stop:
            return stop.code, out.getvalue()
    raise AssertionError("main always exits")


def test_the_commands_and_the_python_block_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "imagenet/train", "imagenet/val"):
        write_shapes(Path(folder), images=80, size=16)
    for name in ("photo.jpg", "other.png"):
        write_png(Path(name), np.full((12, 16, 3), 200, dtype=np.uint8))
    for file in (ROOT / "tests/fixtures/tensorflow/ar").glob("model.ckpt-7.*"):
        shutil.copy(file, file.name.replace("-7.", "-1000000."))
    shutil.copy(ROOT / "tests/fixtures/tensorflow/kmeans_centers.npy", ".")
    before = (
        "igpt data prepare photos --image-size 12 --out data/others --seed 1",
        "igpt palette fit data/others --size 16 --out others.npy",
        "igpt pretrain cifar10-tiny --data data/others --palette others.npy --out runs/bert "
        "--set model.causal=false",
    )
    lines = [*before, *(line for line in LINES if not ELSEWHERE.search(line))]
    masks = next(index for index, line in enumerate(lines) if line.startswith("igpt masks"))
    lines.insert(masks, "igpt probe runs/bert --data data/photos")
    for line in lines:
        code, printed = run(line)
        assert code == 0, f"{line}\n{printed}"
    (block,) = blocks(README, "python")
    names = {"images": np.zeros((2, 12, 12, 3), dtype=np.uint8)}
    exec(block, names)
    assert names["images"].shape == (2, 12, 12, 3)


@pytest.mark.parametrize("line", [*LINES, *commands(RELEASED), *commands(METHOD)])
def test_each_command_has_the_arguments_it_is_shown_with(line):
    app().parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_command_s_help_has_an_example(name):
    assert any(line.startswith(f"{name} ") for line in EXAMPLES[name])


def test_the_published_figures_commands_run_on_small_files_of_their_formats(tmp_path, monkeypatch):
    """Nats per pixel over token files, and the probe of every layer."""
    fixtures = ROOT / "tests" / "fixtures" / "tensorflow"
    palette, generator = fixtures / "kmeans_centers.npy", np.random.default_rng(0)
    tokens = {}
    for part, count in (("tr", 30), ("va", 12), ("te", 9)):
        tokens[part] = generator.integers(0, 16, (count, 16))
        np.save(tmp_path / f"imagenet_{part}X.npy", tokens[part])
        np.save(tmp_path / f"imagenet_{part}Y.npy", np.eye(3)[np.arange(count) % 3])
    monkeypatch.setitem(SIZES, "--image-size", "4")
    monkeypatch.chdir(tmp_path)
    for line in (
        f"igpt convert {fixtures}/ar/model.ckpt-7 igpt-s --palette {palette}",
        f"igpt data prepare imagenet --image-size 32 --palette {palette} --out data",
    ):
        assert run(line)[0] == 0
    nats = json.loads(run("igpt evaluate igpt-s --data data --json")[1])["nats_per_pixel"]
    _, logits = released_network(dict(np.load(fixtures / "ar" / "expected.npz")), tokens["te"])
    likelihood = np.take_along_axis(log_softmax(logits, axis=-1), tokens["te"][..., None], axis=-1)
    assert nats == pytest.approx(-likelihood.mean(), rel=1e-6)
    probe = json.loads(run("igpt probe igpt-s --data data --json")[1])
    assert [row["layer"] for row in probe["layers"]] == [0, 1, 2]


def test_the_readme_shows_the_commands_of_the_work():
    shown = {shlex.split(line)[1] for line in SHOWN}
    assert {"data", "palette", "pretrain", "evaluate", "probe", "finetune", "complete", "sample",
            "features", "report", "convert", "push", "resume"} <= shown  # fmt: skip


def test_the_make_targets_it_names_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"^make ([\w-]+)", README, flags=re.MULTILINE)) <= targets


def test_the_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
