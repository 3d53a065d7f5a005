"""The stages from a record store to a report, in one folder: each is done once, and gone on with.

    stages = Stages(out=Path("runs/photos"), data=store, recipe=recipe, name="photos-tiny")
    stages.fit_palette(64)
    stages.pretrain()
    evaluation, probes = stages.evaluate(), stages.probe()

`igpt quickstart` and `igpt start` are made of these. Whatever is stopped between two of them, or in
one, goes on when the same is called again: what is there is not made anew.

    runs/photos/
    ├── palette.npy       with its report and picture
    ├── pretrain/         runs
    ├── finetune/
    └── report.html
"""

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

from igpt.evaluation.likelihood import LikelihoodResult
from igpt.evaluation.probe import LayerProbes
from igpt.report.page import write_report
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.measure import evaluate_run, probe_run
from igpt.runs.palette import files_beside, fit_palette_file
from igpt.runs.pictures import complete_records
from igpt.runs.pretrain import pretrain
from igpt.runs.recipes import Recipe
from igpt.runs.resume import ensure


@dataclass(frozen=True, kw_only=True)
class Stages:
    """A folder, and what is done in it."""

    out: Path
    data: Path
    """Record store."""
    recipe: Recipe
    name: str
    """Of the recipe, for the record."""
    device: str = "auto"
    seed: int = 0

    @property
    def palette(self) -> Path:
        """The palette file."""
        return self.out / "palette.npy"

    @property
    def run(self) -> Path:
        """Folder of the pretraining run."""
        return self.out / "pretrain"

    @property
    def tuned(self) -> Path:
        """Folder of the fine-tuning run."""
        return self.out / "finetune"

    @property
    def page(self) -> Path:
        """The report."""
        return self.out / "report.html"

    def fit_palette(self, size: int, *, grey: bool = False, image_size: int | None = None) -> None:
        """Fit a palette, with what lies beside it; arguments as in `fit_palette_file`."""
        if not all(file.exists() for file in (self.palette, *files_beside(self.palette))):
            fit_palette_file(
                self.data, self.palette, size=size, grey=grey, image_size=image_size,
                seed=self.seed, overwrite=True,
            )  # fmt: skip

    def pretrain(self) -> None:
        """Learn to predict the next pixel."""
        start = functools.partial(
            pretrain, self.recipe, name=self.name, data=self.data, palette=self.palette,
            out=self.run, device=self.device,
        )  # fmt: skip
        ensure(self.run, start, data=self.data, device=self.device)

    def evaluate(self, split: str = "test") -> LikelihoodResult:
        """Return the likelihood of held-out images."""
        return evaluate_run(self.run, data=self.data, split=split, device=self.device, reuse=True)

    def probe(self, *, untrained: bool = False) -> LayerProbes:
        """Return the probes of every layer, and of raw pixels, or of the network untrained."""
        return probe_run(
            self.run, data=self.data, untrained=untrained, device=self.device, seed=self.seed,
            reuse=True,
        )  # fmt: skip

    def finetune(self) -> FinetuneResult:
        """Return what fine-tuning gave."""
        start = functools.partial(
            finetune, self.run, data=self.data, out=self.tuned, config=self.recipe.finetune,
            device=self.device,
        )  # fmt: skip
        run = ensure(self.tuned, start, data=self.data, device=self.device)
        return run.require("finetune.json", FinetuneResult)

    def complete(self) -> None:
        """Draw half-seen test images, completed."""
        complete_records(self.run, self.data, seed=self.seed, device=self.device)

    def report(self) -> None:
        """Write the page about all runs there are."""
        write_report([run for run in (self.run, self.tuned) if run.is_dir()], self.page)


def say(text: str) -> None:
    """Tell on the terminal what is being done."""
    print(text, file=sys.stderr, flush=True)
