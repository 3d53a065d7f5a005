"""Runs to report on: made up of round figures, and real ones that trained for a second."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import SHAPES_RECIPE

from igpt.evaluation.few_labels import FewLabelsResult
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.evaluation.masks import MasksResult
from igpt.evaluation.outliers import OutliersResult
from igpt.evaluation.probe import LayerProbe, LayerProbes, ProbeFit
from igpt.evaluation.solvers import SolverName
from igpt.pixels.images import write_png
from igpt.pixels.palette import Palette
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.measure import (
    Evaluation,
    evaluate_run,
    few_labels_run,
    masks_run,
    outliers_run,
    probe_run,
)
from igpt.runs.pictures import complete_records, surprise_records
from igpt.runs.pretrain import pretrain
from igpt.runs.provenance import Provenance
from igpt.runs.recipes import RECIPES, Recipe
from igpt.runs.run import DataIdentity, FinetuneSettings, PretrainSettings, RunFolder
from igpt.settings import with_settings

RECIPE = with_settings(RECIPES["digits-quickstart"], ["training.steps=900"])
DATA = DataIdentity(path="data/digits", sha256="57a79cc51254a403")
PROVENANCE = Provenance(
    igpt="0.1.0", commit="66904fb", command="igpt pretrain digits --out a",
    started="2026-11-26T10:00:00+0000", python="3.11.7", libraries={"torch": "2.99"},
    system="Linux", processor="AMD", cores=2, threads=2, device="cpu",
)  # fmt: skip


def new_run(
    path: Path,
    palette: Palette,
    *,
    steps: int = 900,
    recipe: Recipe = RECIPE,
    name: str = "digits",
    data: DataIdentity = DATA,
) -> RunFolder:
    """Make a pretraining run that has trained so far, and measured nothing."""
    settings = PretrainSettings(
        name=name, recipe=recipe, data=data, split="train", filter="box",
        palette=palette.fingerprint,
    )  # fmt: skip
    run = RunFolder.create(path, settings=settings, palette=palette, device=torch.device("cpu"))
    run.write("provenance.json", PROVENANCE)
    lines = [
        {"step": step, "loss": 2 - step / 1000, "tokens_per_second": 1234.0, "seconds": step / 9}
        for step in range(steps)
    ]
    if lines:
        lines[-1]["validation_nats_per_pixel"] = 1.1
    write_metrics(run, lines)
    return run


def new_finetuned(
    path: Path,
    palette: Palette,
    *,
    test: float = 0.8127,
    validation: float | None = 0.591,
    source: str = "runs/a",
) -> RunFolder:
    """Make a finished fine-tuning run of `source` with these accuracies."""
    settings = FinetuneSettings(
        source=source, config=RECIPE.finetune, model=RECIPE.model, mask_probability=0.15,
        data=DATA, split="train", measure_test=True, palette=palette.fingerprint,
    )  # fmt: skip
    run = RunFolder.create(path, settings=settings, palette=palette, device=torch.device("cpu"))
    lines = [
        {"step": step, "loss": 3.0, "class_loss": 2.3, "validation_accuracy": 0.5 + step / 99}
        for step in range(10)
    ]
    write_metrics(run, lines)
    result = FinetuneResult(
        test_accuracy=test, validation_accuracy=validation, best_step=10, steps=10,
        pixel_coefficient=1.0, layer=4, seconds=17.5,
    )  # fmt: skip
    run.write("finetune.json", result)
    return run


def write_metrics(run: RunFolder, lines) -> None:
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


def probes(
    *accuracies: float, raw: float | None = None, solver: SolverName = "lbfgs"
) -> LayerProbes:
    """Return a probe of so many layers; the best on validation is the best on test."""
    best = accuracies.index(max(accuracies))
    return LayerProbes(
        solver=solver,
        best_layer=best,
        test_accuracy=accuracies[best],
        layers=tuple(
            LayerProbe(
                layer=layer, setting=1e-3, validation_accuracy=accuracy - 0.01,
                test_accuracy=accuracy, converged=True, gradient_norm=1e-6,
            )
            for layer, accuracy in enumerate(accuracies)
        ),
        raw_pixels=raw and ProbeFit(setting=1e-3, validation_accuracy=0.3, test_accuracy=raw),
        records={"test": 1440},
    )  # fmt: skip


def write_picture(path: Path) -> None:
    write_png(path, np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def run(tmp_path, tiny_palette) -> RunFolder:
    """A pretraining run that is finished and has measured nothing yet."""
    return new_run(tmp_path / "a", tiny_palette)


@pytest.fixture
def measured_run(run) -> RunFolder:
    """The same with all that a quickstart measures."""
    likelihood = LikelihoodResult(
        objective="autoregressive", images=1440, nats_per_pixel=0.7476, bits_per_pixel=1.0786,
        nats_per_pixel_from_second=None,
    )  # fmt: skip
    run.write("evaluation.json", Evaluation(splits={"test": likelihood}))
    run.write("probe.json", probes(0.41, 0.5678, 0.52, raw=0.3833))
    run.write("probe-untrained.json", probes(0.2, 0.21, 0.2233))
    for name in ("completions", "palette", "samples/step-000300", "samples/step-000600"):
        write_picture(run.path / f"{name}.png")
    return run


@dataclass(frozen=True, kw_only=True)
class RealRuns:
    """Folders of a tiny training of each kind, and all that was measured of them."""

    autoregressive: Path
    bert: Path
    tuned: Path
    likelihood: LikelihoodResult
    probe: LayerProbes
    untrained: LayerProbes
    others: tuple[LayerProbes, ...]
    few_labels: FewLabelsResult
    outliers: OutliersResult
    masks: MasksResult
    fine_tuning: FinetuneResult

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.autoregressive, self.bert, self.tuned


@pytest.fixture(scope="session")
def real(shapes_store, tmp_path_factory) -> RealRuns:
    folder = tmp_path_factory.mktemp("real")
    colors = np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)
    Palette(colors).save(folder / "palette.npy")
    recipe = SHAPES_RECIPE
    bert = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, causal=False))
    given = {"data": shapes_store.path, "device": "cpu"}
    new = {"palette": folder / "palette.npy", **given}
    a, b = folder / "autoregressive", folder / "bert"
    pretrain(recipe, name="shapes", out=a, **new)
    pretrain(bert, name="shapes", out=b, **new)
    tuned = finetune(a, out=folder / "tuned", config=recipe.finetune, **given)
    complete_records(a, count=2, samples=2, **given)
    surprise_records(a, count=2, **given)
    probe_run(b, **given)
    probe = probe_run(a, **given)
    others = tuple(probe_run(a, solver=solver, **given) for solver in ("ridge", "neighbors"))
    return RealRuns(
        autoregressive=a,
        bert=b,
        tuned=tuned.path,
        likelihood=evaluate_run(a, **given),
        probe=probe,
        untrained=probe_run(a, untrained=True, **given),
        others=others,
        few_labels=few_labels_run(
            a, labels_per_class=(2, 4), subsets=2, finetune_steps=2, config=recipe.finetune, **given
        ),
        outliers=outliers_run(a, images=10, **given),
        masks=masks_run(b, masks=3, **given),
        fine_tuning=tuned.read("finetune.json", FinetuneResult),
    )
