"""Calls of `igpt` that write, on inputs so small that each takes a fraction of a second.

    make_inputs(given)          images, a store, a palette and runs, which calls read
    for command in COMMANDS:    what is called, on a folder `work`; and how its user goes on with it

All that is written lies in `work`, which may hold something before, and is compared as a whole.
"""

import os
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import write_shapes

from igpt import quickstart
from igpt.cli import main
from igpt.runs.recipes import RECIPES, find_recipe
from igpt.settings import with_settings

_SETTINGS = [
    "model.image_size=4", "model.layers=1", "model.width=8", "model.heads=2",
    "training.batch_size=4", "training.warmup_steps=1", "training.validation_images=4",
]  # fmt: skip
_TINY = " --device cpu" + "".join(f" --set {setting}" for setting in _SETTINGS)
_ON_IMAGES = " --data {given}/store --palette {given}/palette.npy"
_PRETRAIN = (
    "pretrain digits-quickstart --out {work}/run --steps 4 --set training.validate_every=2"
    " --set training.checkpoint_every=1 --set snapshots=1" + _ON_IMAGES + _TINY
)
_FINETUNE = (
    "finetune {given}/run --data {given}/store --out {work}/tuned --device cpu --steps 6"
    " --set training.batch_size=4 --set training.learning_rate=0.01 --set patience=2"
    " --set training.validate_every=1 --set training.validation_images=4"
    " --set training.warmup_steps=1"
)
_SEARCH = (
    "search digits-quickstart --out {work}/rates --steps 2 --rates 0.01,0.003 --fold-validation"
    " --set training.validate_every=2 --set training.checkpoint_every=1"
    + _ON_IMAGES + _TINY
)  # fmt: skip
_PREPARE = (
    "data prepare {given}/photos --out {work}/store --image-size 4 --validation-fraction 0.2"
    " --test-fraction 0.2"
)
_REPRODUCE = (
    "reproduce fine-tuning --data {given}/store --seeds 1 --out {work}/claims"
    + _TINY
    + " --set training.steps=2 --set finetune.training.steps=2"
    " --set finetune.training.batch_size=4 --set finetune.training.warmup_steps=0"
)
_PALETTE = "palette fit {given}/store --out {work}/palette.npy --size 8"
_MEASURED = " {work}/run --data {given}/store --device cpu"

# No option makes the quickstart as short as this.
quickstart.RECIPE, quickstart.PLACEMENTS = "smallest", 1
RECIPES["smallest"] = with_settings(
    find_recipe("digits-quickstart"),
    [
        *_SETTINGS, "model.image_size=8", "training.steps=4", "training.validate_every=2",
        "training.checkpoint_every=1", "finetune.training.steps=2",
        "finetune.training.batch_size=4", "finetune.training.warmup_steps=0",
    ],
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A call of `igpt`, with `{given}` and `{work}` for the folders it reads and writes."""

    name: str
    call: str
    before: tuple[str, ...] = ()
    """Calls that make what is there before; or a folder to make, or one to copy, if it says so."""
    go_on: tuple[str, ...] = ()
    """Calls that are tried in turn after a kill, until one goes well, before the same one again."""
    overwrites: bool = False
    """Whether it takes --overwrite, which is tried last."""
    made_anew: frozenset[str] = frozenset()
    """Files there before that are removed first, so that none lies beside another's."""
    carried_on: frozenset[str] = frozenset()
    """Files there before that are neither as before nor as in the end while it is at work."""

    def set_up(self, given: Path, work: Path) -> None:
        """Make what is there before, in an empty folder."""
        for call in self.before:
            what, *words = shlex.split(call.format(given=given, work=work))
            if what == "mkdir":
                os.mkdir(*words)
            elif what == "copy":
                shutil.copytree(*words)
            else:
                igpt([what, *words])

    def first(self, given: Path, work: Path) -> None:
        """Make the call."""
        igpt(shlex.split(self.call.format(given=given, work=work)))

    def again(self, given: Path, work: Path) -> None:
        """Go on after a kill, as far as that is not refused."""
        calls = [*self.go_on, self.call]
        if self.overwrites:
            calls.append(f"{self.call} --overwrite")
        for call in calls:
            try:
                return igpt(shlex.split(call.format(given=given, work=work)))
            except RefusedError as error:
                refused = error
        raise refused


class RefusedError(Exception):
    """A call ended with another code than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def igpt(words: list[str]) -> None:
    """Make a call in this process.

    Raises:
        RefusedError: It ended with another code than 0.
    """
    try:
        main(words)
    except SystemExit as stop:
        if stop.code:
            raise RefusedError(int(stop.code)) from stop


def make_inputs(given: Path) -> None:
    """Make what calls read."""
    write_shapes(given / "photos", images=24)
    for call in (
        _PREPARE, "palette fit {given}/store --out {work}/palette.npy --size 16", _PRETRAIN,
        _PRETRAIN.replace("/run", "/bert") + " --set model.causal=false",
        _FINETUNE,
        "probe {given}/bert --data {given}/store --device cpu",
        "probe {given}/run --data {given}/store --device cpu",
    ):  # fmt: skip
        igpt(shlex.split(call.format(given=given, work=given)))


_A_RUN = ("copy {given}/run {work}/run",)
_RESUME = ("resume {work}/run --device cpu",)

COMMANDS = {
    command.name: command
    for command in (
        Command("prepare", _PREPARE),
        Command("prepare, into an empty folder", _PREPARE, ("mkdir {work}/store",)),
        Command("prepare, in shards", _PREPARE + " --shard-images 6"),
        Command("palette", _PALETTE, overwrites=True),
        Command(
            "palette, anew",
            _PALETTE + " --overwrite",
            (_PALETTE.replace("8", "4"),),
            made_anew=frozenset({"palette.json", "palette.png"}),
        ),
        Command("pretrain", _PRETRAIN, go_on=_RESUME),
        Command("pretrain, into an empty folder", _PRETRAIN, ("mkdir {work}/run",), _RESUME),
        Command(
            "pretrain, saving beside",
            _PRETRAIN + " --set training.background_saving=true --set training.prepare_ahead=2",
            go_on=_RESUME,
        ),
        Command("pretrain, masked", _PRETRAIN + " --set model.causal=false", go_on=_RESUME),
        Command("finetune", _FINETUNE, go_on=("resume {work}/tuned --device cpu",)),
        Command(
            "resume",
            _RESUME[0],
            (_PRETRAIN + " --seconds 0",),
            carried_on=frozenset(
                f"run/{name}"
                for name in ("metrics.jsonl", "model/config.json", "model/model.safetensors")
            ),
        ),
        Command("search", _SEARCH),
        Command("convert", "convert {given}/run {work}/exported"),
        Command("convert, to igpt's own", "convert {given}/tuned {work}/model --to igpt"),
        Command("evaluate", "evaluate" + _MEASURED, _A_RUN),
        Command("probe", "probe --untrained" + _MEASURED, _A_RUN),
        Command("probe, its classifier", "probe" + _MEASURED, _A_RUN),
        Command(
            "classify",
            "classify {given}/tuned {given}/photos --device cpu --out {work}/classes.csv",
            overwrites=True,
        ),
        Command(
            "similar",
            "similar {given}/tuned {given}/photos --among {given}/store --device cpu"
            " --out {work}/similar.png",
            overwrites=True,
        ),
        Command("few-labels", "few-labels --labels 2 --subsets 2" + _MEASURED, _A_RUN),
        Command("along", "along" + _MEASURED, _A_RUN),
        Command("masks", "masks --masks 2" + _MEASURED, ("copy {given}/bert {work}/run",)),
        Command("outliers", "outliers --images 4" + _MEASURED, _A_RUN),
        Command("complete", "complete --count 2 --samples 1" + _MEASURED, _A_RUN),
        Command("surprise", "surprise --count 2" + _MEASURED, _A_RUN),
        Command(
            "sample",
            "sample {given}/run --samples 2 --device cpu --out {work}/samples.png",
            overwrites=True,
        ),
        Command(
            "features",
            "features {given}/run --data {given}/store --device cpu --out {work}/a.npz",
            overwrites=True,
        ),
        Command("show", "data show {given}/store --out {work}/sheet.png", overwrites=True),
        Command("report", "report {given}/run {given}/tuned --out {work}/report.html"),
        Command("claims", "claims {work}/claims/tiny --out {work}/claims.md", (_REPRODUCE,)),
        Command("reproduce", _REPRODUCE),
        Command("quickstart", "quickstart --out {work}/quickstart --device cpu"),
        Command("push", "push {given}/run somebody/pixels --dry-run {work}/pushed"),
    )
}
