"""One of everything that commands read, as small as can be: images, a store, runs, models.

    python -m tests.hostile.world FOLDER

The folder then holds `photos/`, `photo.png`, `store/`, `palette.npy`, the runs `run/` and `bert/`
with all results that a run keeps, `half/`, which was stopped twice, `tuned/`, a search of two rates
in `rates/`, and the models `model/` (igpt's own) and `exported/` (transformers'). `claims/tiny` is
what a claim leaves.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from tests.claims.test_claims_page import DEPTH
from tests.conftest import SHAPES_RECIPE, with_training, write_shapes

from igpt.claims.laboratory import Laboratory
from igpt.claims.scale import find_scale
from igpt.cli import main
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.files import write_json
from igpt.formats.convert import convert
from igpt.pixels.images import read_image, write_png
from igpt.runs.along import along_run
from igpt.runs.finetune import finetune
from igpt.runs.measure import evaluate_run, few_labels_run, masks_run, outliers_run, probe_run
from igpt.runs.palette import fit_palette_file
from igpt.runs.pictures import complete_records, surprise_records
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.runs.search import search_pretraining
from igpt.training.signals import Interrupted
from igpt.values import to_dict

SECONDS = 20
"""Of the processor that no command may take on files so small, whatever is in them."""
WAITING = 120
"""Seconds by the clock after which a call hangs, on a machine that has other things to do."""

RECIPE = replace(with_training(SHAPES_RECIPE, checkpoint_every=6), snapshots=1)
SEARCH: dict[str, Any] = {
    "recipe": with_training(RECIPE, steps=4, checkpoint_every=4, validate_every=4),
    "name": "shapes",
    "rates": (0.01, 0.003),
}


def build(folder: Path) -> None:
    """Make it all."""
    write_shapes(folder / "photos", images=40)
    shutil.copy(folder / "photos" / "left" / "000.png", folder / "photo.png")
    config = StoreConfig(image_size=8, validation_fraction=0.2, test_fraction=0.2)
    prepare_store(str(folder / "photos"), folder / "store", config)
    fit_palette_file(folder / "store", folder / "palette.npy", size=16, image_size=4)
    given = {"data": folder / "store", "device": "cpu"}
    asked = {**given, "palette": folder / "palette.npy"}
    run = pretrain(RECIPE, name="shapes", out=folder / "run", **asked).path
    bert = replace(RECIPE, model=replace(RECIPE.model, causal=False))
    masked = pretrain(bert, name="shapes-bert", out=folder / "bert", **asked).path
    for _ in range(2):  # so that it has two states, and is not at its end
        with contextlib.suppress(Interrupted):
            if (folder / "half").exists():
                resume(folder / "half", device="cpu", seconds=0)
            else:
                pretrain(RECIPE, name="shapes", out=folder / "half", seconds=0, **asked)
    finetune(run, out=folder / "tuned", config=RECIPE.finetune, **given)
    search_pretraining(out=folder / "rates", **SEARCH, **asked)
    for path in (run, masked):
        evaluate_run(path, **given)
        probe_run(path, **given)
    few_labels_run(run, labels_per_class=(2,), subsets=2, **given)
    along_run(run, **given)
    outliers_run(run, images=8, **given)
    masks_run(masked, masks=2, **given)
    complete_records(run, folder / "store", count=2, samples=1, device="cpu")
    surprise_records(run, folder / "store", count=2, device="cpu")
    shutil.copytree(run / "model", folder / "model")
    convert(run, folder / "exported")
    tiny = folder / "claims" / "tiny"
    Laboratory.open(tiny, find_scale("tiny"), data=folder / "store")
    write_json(tiny / "depth.json", to_dict(DEPTH))
    write_json(tiny / "depth.plan.json", {"claim": "depth", "parts": []})
    write_png(tiny / "depth.png", read_image(folder / "photo.png"))


@dataclass(frozen=True)
class Outcome:
    """What a call of `igpt` came to."""

    code: int | None
    """None if there was a traceback."""
    out: str
    err: str
    error: BaseException | None
    seconds: float
    """Of the processor."""


class Hangs(BaseException):
    """Raised where a call takes too long; nothing that catches exceptions catches it."""


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Raise `Hangs` if the block hangs."""

    def stop(*_: object) -> None:
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def igpt(*arguments: object) -> Outcome:
    """Call a command in this process."""
    out, err, began = StringIO(), StringIO(), time.process_time()
    code, error = None, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with bounded():
                main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        except (Exception, Hangs) as raised:
            error = raised
    return Outcome(code, out.getvalue(), err.getvalue(), error, time.process_time() - began)


def contents(folder: Path) -> dict[str, str]:
    """Return the checksum of every file in a folder, by its path in it."""
    return {
        str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    build(Path(sys.argv[1]))
