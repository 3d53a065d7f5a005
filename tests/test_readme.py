"""What the README, the docs and every command's help show is run, in small.

Commands run in the order of their page, in one folder, at toy size: sizes are replaced and steps
are few. Blocks of Python run as they are printed, on what the commands left. What cannot run here
is listed below with its reason, and is parsed all the same.
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
README, METHOD, QUESTIONS, RELEASED = (
    (ROOT / name).read_text()
    for name in ("README.md", "docs/method.md", "docs/questions.md", "docs/released-weights.md")
)
PAGES = ["README.md", *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md")))]
TENSORFLOW = ROOT / "tests" / "fixtures" / "tensorflow"

CANNOT = {
    r"openai/|someone/": "on the hub, which tests do not reach",
    r"--scale small": "CIFAR-10 and hours",
    r"^igpt serve": "serves until it is stopped; tests/serve has it",
    r"^igpt quickstart": "minutes; tests/test_quickstart.py has it in small",
    r"^make ": "makes an environment first; CI does",
    r"^pip install": "needs a package index",
}
"""Lines that are not run here, and why."""

IN_PLACE_OF = {
    "ILSVRC/imagenet-1k": "imagenet --split test=val",
    "uoft-cs/cifar10": "photos",
}
"""Folders in the place of what lies on the hub."""


def sets(*settings):
    return [f"--set={setting}" for setting in settings]


NETWORK = ("model.layers=4", "model.width=8", "model.heads=2", "snapshots=1")
TRAINING = ("training.steps=4", "training.batch_size=8", "training.validate_every=4",
            "training.warmup_steps=1")  # fmt: skip
LAPTOP = ("model.image_size=6", "training.precision=float32", "training.compile=false",
          "training.warmup_epochs=0")  # fmt: skip
START = ("model.layers=2", "model.width=16", "training.steps=6", "training.warmup_steps=1",
         "training.validate_every=6", "finetune.training.steps=4",
         "finetune.training.warmup_steps=1", "finetune.training.validate_every=2")  # fmt: skip
MORE = {
    r"start ": sets(*START),
    r"pretrain ": sets(*NETWORK, *TRAINING),
    r"pretrain igpt-s": sets(*LAPTOP),
    r"search cifar10-tiny": sets(*NETWORK, *TRAINING),
    r"search runs": sets(*TRAINING),
    r"finetune ": sets(*TRAINING),
    r"reproduce (?!--list)": [
        "--data=data/photos",
        "--seeds=1",
        *sets("model.width=8", "model.heads=2", "model.layers=4", *TRAINING),
    ],
    r"few-labels ": ["--subsets=1"],
    r"probe .*--solver sgd": ["--steps=5"],
}
"""What a line gets added that begins so."""
SIZES = {"--image-size": "12", "--size": "16", "--minutes": "0.05"}


def blocks(page, language=""):
    """Return the blocks of code in a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def typed(text):
    """Return the lines of a text that somebody types, without what is said about them."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if re.match("(igpt|make|pip) ", line)]


def commands(text):
    """Return those that are commands of igpt's."""
    return [line for line in typed(text) if line.startswith("igpt ")]


def helps(parser, path="igpt"):
    """Yield each command and its help."""
    for name in parser:
        if not name.startswith("-"):
            inner = list(helps(parser[name], f"{path} {name}"))
            yield from inner or [(f"{path} {name}", parser[name].help)]


EXAMPLES = {name: commands(text) for name, text in helps(app())}
SHOWN = commands("\n".join(blocks(README)))
LINES = list(
    dict.fromkeys([*SHOWN, *itertools.chain.from_iterable(EXAMPLES.values()), *commands(QUESTIONS)])
)
PARSED = list(dict.fromkeys([*LINES, *commands(RELEASED), *commands(METHOD)]))


def runs(line):
    return not any(re.search(pattern, line) for pattern in CANNOT)


def toy(line):
    """Return a command's arguments at toy size."""
    for hub, folder in IN_PLACE_OF.items():
        line = line.replace(hub, folder)
    arguments = shlex.split(line)[1:]
    for option, value in SIZES.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
    plain = " ".join(arguments)
    return [
        *arguments,
        *(more for begin, some in MORE.items() if re.match(begin, plain) for more in some),
    ]


def run(line):
    """Run a command here and return its exit code and all that it prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(toy(line))
        except SystemExit as stop:
            return stop.code, out.getvalue()
    raise AssertionError("main always exits")


def run_all(lines):
    for line in lines:
        code, printed = run(line)
        assert code == 0, f"{line}\n{printed}"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A folder with photos, and what else the pages take for granted, to work in."""
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "imagenet/train", "imagenet/val"):
        write_shapes(Path(folder), images=80, size=16)
    write_shapes(Path("folder"), images=4)
    for name in ("photo.jpg", "other.png"):
        write_png(Path(name), np.full((12, 16, 3), 200, dtype=np.uint8))
    for file in (TENSORFLOW / "ar").glob("model.ckpt-7.*"):
        shutil.copy(file, file.name.replace("-7.", "-1000000."))
    shutil.copy(TENSORFLOW / "kmeans_centers.npy", ".")


def test_the_readme_s_commands_and_python_run_and_so_do_all_examples(world):
    before = (
        "igpt data prepare photos --image-size 12 --out data/others --seed 1",
        "igpt palette fit data/others --size 16 --out others.npy",
        "igpt pretrain cifar10-tiny --data data/others --palette others.npy --out runs/bert "
        "--set model.causal=false",
    )
    lines = [*before, *filter(runs, LINES)]
    masks = next(index for index, line in enumerate(lines) if line.startswith("igpt masks"))
    lines.insert(masks, "igpt probe runs/bert --data data/photos")
    run_all(lines)
    for block in blocks(README, "python"):
        exec(block, {})


def test_the_walk_to_imagenet_runs(world):
    run_all(filter(runs, commands(METHOD)))


def test_the_commands_about_released_weights_run(world, monkeypatch):
    monkeypatch.setitem(SIZES, "--image-size", "4")
    Path("downloads").mkdir()
    np.save("downloads/imagenet_teX.npy", np.random.default_rng(0).integers(0, 16, (9, 16)))
    lines = list(dict.fromkeys(filter(runs, commands(RELEASED))))
    lines.remove("igpt convert runs/a exported")  # the README's, which runs above
    run_all(lines)


def test_what_the_readme_has_typed_is_run_or_listed():
    for line in typed("\n".join(blocks(README))):
        assert line in LINES or any(re.search(pattern, line) for pattern in CANNOT), line


@pytest.mark.parametrize("line", PARSED)
def test_each_command_has_the_arguments_it_is_shown_with(line):
    app().parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_command_s_help_has_an_example(name):
    assert any(f"{line} ".startswith(f"{name} ") for line in EXAMPLES[name])


def test_the_published_figures_commands_run_on_small_files_of_their_formats(tmp_path, monkeypatch):
    """Nats per pixel over token files, and the probe of every layer."""
    palette, generator = TENSORFLOW / "kmeans_centers.npy", np.random.default_rng(0)
    tokens = {}
    for part, count in (("tr", 30), ("va", 12), ("te", 9)):
        tokens[part] = generator.integers(0, 16, (count, 16))
        np.save(tmp_path / f"imagenet_{part}X.npy", tokens[part])
        np.save(tmp_path / f"imagenet_{part}Y.npy", np.eye(3)[np.arange(count) % 3])
    monkeypatch.setitem(SIZES, "--image-size", "4")
    monkeypatch.chdir(tmp_path)
    for line in (
        f"igpt convert {TENSORFLOW}/ar/model.ckpt-7 igpt-s --palette {palette}",
        f"igpt data prepare imagenet --image-size 32 --palette {palette} --out data",
    ):
        assert run(line)[0] == 0
    nats = json.loads(run("igpt evaluate igpt-s --data data --json")[1])["nats_per_pixel"]
    _, logits = released_network(dict(np.load(TENSORFLOW / "ar" / "expected.npz")), tokens["te"])
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


@pytest.mark.parametrize("page", PAGES)
def test_the_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        assert (path.parent / target).exists(), target
