"""What README, docs and every command's help show, and how it is run, in small.

Commands and blocks of Python run in the order of the navigation, all in one folder, so that what
one page makes is there for the next, and a line that several pages show runs once. Sizes are
replaced by toy ones, and steps are few. What cannot run here is listed below with its reason, and
is parsed all the same.
"""

import contextlib
import io
import re
import shlex
import shutil
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from igpt.cli import app, main
from igpt.pixels.images import write_png
from igpt.serve.models import Models
from tests.conftest import write_shapes
from tests.serve.serving import running

ROOT = Path(__file__).parents[1]
TENSORFLOW = ROOT / "tests" / "fixtures" / "tensorflow"
SERVER = "http://127.0.0.1:8000"

CANNOT = {
    r"openai/|someone/": "on the hub, which tests do not reach",
    r"--scale small": "CIFAR-10 and hours",
    r"^igpt serve": "serves until it is stopped; tests/serve has it",
    r"^igpt quickstart": "minutes; tests/test_quickstart.py has it in small",
    r"^pip install": "needs a package index",
    r"^torchrun|--processes|^launch/": "several processes; tests/parallel has them",
    r"^sbatch|/shared/|s3://|--ray": "a cluster, and what lies there",
    r"evaluate (builtin|results/)": "ten thousand images; tests/test_builtin.py, slow, has it",
}
"""Lines that are not run here, and why."""
LONG = r"--eight-bit"
"""Lines that only the slow tests run."""

IN_PLACE_OF = {
    "ILSVRC/imagenet-1k": "imagenet --split test=val",
    "uoft-cs/cifar10": "photos",
    "zh-plus/tiny-imagenet": "photos",
    "runs/quickstart/data": "data/photos",
    "runs/quickstart/palette.npy": "palette.npy",
    "runs/quickstart/pretrain": "runs/a",
    "data/big": "data/photos",
}
"""Folders in the place of what lies on the hub, or takes long to make."""
BEFORE = "igpt data prepare photos --image-size 12 --out data/others --seed 1"
"""What the pages take for granted besides photos: others'."""


def sets(*settings: str) -> list[str]:
    return [f"--set={setting}" for setting in settings]


NETWORK = ("model.layers=4", "model.width=8", "model.heads=2", "online_probe_images=8")  # fmt: skip
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
    r"pretrain (igpt-s|cifar10|digits-quickstart) ": sets(*LAPTOP),
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
SIZES = {"--image-size": "12", "--size": "16", "--minutes": "0.05", "--steps": "6"}
"""Values that options get in the place of those that are shown."""
SIZES_OF = {r"downloads/": {"--image-size": "4"}}
"""The same, of lines in which something stands."""


def pages() -> list[Path]:
    """Return README and the pages in the order of the navigation, but records of the past."""

    def listed(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from listed(inner)

    nav = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    docs = [ROOT / "docs" / name for name in dict.fromkeys(listed(nav))]
    return [
        ROOT / "README.md",
        *(page for page in docs if page.name not in ("log.md", "claims.md")),
    ]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the blocks of code of a page, each with its language, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def typed(text: str) -> list[str]:
    """Return the lines of a text that somebody types, without what is said about them."""
    lines = (re.sub(r"\s+#.*", "", line).strip() for line in text.splitlines())
    return [
        line for line in lines if re.match(r"(igpt|pip|torchrun|sbatch|curl|launch/\S+) ", line)
    ]


def shown(page: Path) -> list[str]:
    """Return the lines that a page has typed."""
    return [line for language, text in blocks(page) if not language for line in typed(text)]


def helps(parser=None, path: str = "igpt") -> Iterator[tuple[str, str]]:
    """Yield each command and its help."""
    parser = parser or app()
    for name in parser:
        if not name.startswith("-"):
            inner = list(helps(parser[name], f"{path} {name}"))
            yield from inner or [(f"{path} {name}", parser[name].help)]


EXAMPLES = {name: typed(text) for name, text in helps()}
"""The lines that each command's help shows."""


def runs(line: str) -> bool:
    return not any(re.search(pattern, line) for pattern in [*CANNOT, LONG])


def arguments_of(line: str) -> list[str]:
    """Return what a line gives to igpt, behind what starts it on several machines."""
    return shlex.split(re.sub(r"^(torchrun .*-m igpt|(sbatch .*)?launch/\S+|igpt) ", "", line))


def toy(line: str) -> list[str]:
    """Return a command's arguments at toy size."""
    sizes = dict(SIZES)
    for pattern, others in SIZES_OF.items():
        if re.search(pattern, line):
            sizes |= others
    for name, folder in IN_PLACE_OF.items():
        line = line.replace(name, folder)
    arguments = arguments_of(line)
    for option, value in sizes.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
    plain = " ".join(arguments)
    return [
        *arguments,
        *(more for begin, some in MORE.items() if re.match(begin, plain) for more in some),
    ]


def run(line: str) -> tuple[int, str]:
    """Run a command here and return its exit code and all that it prints."""
    out = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        warnings.catch_warnings(),  # that no run is named is a note to the user
    ):
        warnings.filterwarnings("default", "no RUN is named")
        try:
            main(toy(line))
        except SystemExit as stop:
            return stop.code, out.getvalue()
    raise AssertionError("main always exits")


def run_line(line: str) -> None:
    code, printed = run(line)
    assert code == 0, f"{line}\n{printed}"


def ask(line: str) -> None:
    """Send what a line of curl's sends."""
    options, words = [], shlex.split(line)[1:]
    body = {"-d": b"", "--data-binary": b""}
    headers = {}
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word in body:
            value = words.pop(0)
            body[word] = Path(value[1:]).read_bytes() if value.startswith("@") else value.encode()
        elif not word.startswith("-"):
            options.append(word)
    answer = httpx.post(*options, headers=headers, content=b"".join(body.values()), timeout=60)
    assert answer.status_code == 200, f"{line}\n{answer.text}"


def make_world() -> None:
    """Lay the photos, and what else the pages take for granted, into this folder."""
    for folder in ("photos", "imagenet/train", "imagenet/val"):
        write_shapes(Path(folder), images=80, size=16)
    for folder in ("folder", "others"):
        write_shapes(Path(folder), images=4)
    for number in range(20):
        Path(f"scans/{number % 2}").mkdir(parents=True, exist_ok=True)
        levels = np.random.default_rng(number).integers(0, 4096, (16, 16), dtype=np.uint16)
        Image.fromarray(levels).save(f"scans/{number % 2}/{number}.png")
    for name in ("photo.jpg", "other.png"):
        write_png(Path(name), np.full((12, 16, 3), 200, dtype=np.uint8))
    for file in (TENSORFLOW / "ar").glob("model.ckpt-7.*"):
        shutil.copy(file, file.name.replace("-7.", "-1000000."))
    shutil.copy(TENSORFLOW / "kmeans_centers.npy", ".")
    Path("downloads").mkdir()
    np.save("downloads/imagenet_teX.npy", np.random.default_rng(0).integers(0, 16, (9, 16)))
    run_line(BEFORE)


def run_all() -> None:
    """Run here what every page shows, and then what is left of the commands' examples."""
    make_world()
    done: set[str] = set()

    def once(line: str) -> None:
        if line not in done and runs(line):
            done.add(line)
            run_line(line)

    for page in pages():
        with contextlib.ExitStack() as stack:
            address = SERVER
            if SERVER in page.read_text():
                client = stack.enter_context(running(Models([Path("runs/a")], device="cpu")))
                address = str(client.base_url).rstrip("/")
            for language, text in blocks(page):
                text = text.replace(SERVER, address)
                if language == "python":
                    exec(compile(text, page.name, "exec"), {})
                elif not language:
                    for line in typed(text):
                        ask(line) if line.startswith("curl ") else once(line)
    for lines in EXAMPLES.values():
        for line in lines:
            once(line)
