"""A pretrained run and labelled images become a classifier."""

import shutil
from dataclasses import replace

import pytest
from tests.conftest import SHAPES_RECIPE, losses

from igpt.evaluation.classifier import accuracy
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.training.metrics import read_metrics


def test_fine_tuning_learns_the_classes_and_resumes_bit_for_bit(given, tmp_path):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", **given)
    config = replace(
        SHAPES_RECIPE.finetune,
        training=replace(SHAPES_RECIPE.finetune.training, steps=80, learning_rate=0.003),
    )
    arguments = {"data": given["data"], "config": config, "device": "cpu"}
    whole = finetune(base.path, out=tmp_path / "whole", **arguments)
    result = whole.require("finetune.json", FinetuneResult)
    assert result.test_accuracy > 0.8
    parts = finetune(base.path, out=tmp_path / "parts", seconds=0.0, **arguments)
    shutil.rmtree(base.path)  # a run of its own: what it began with is in it
    assert parts.read("finetune.json", FinetuneResult) is None
    for _ in range(3):
        resume(parts.path, device="cpu", seconds=0.0)
    resume(parts.path, device="cpu")
    assert losses(parts.path) == losses(whole.path)
    again = parts.require("finetune.json", FinetuneResult)
    assert replace(again, seconds=result.seconds) == result


def test_fine_tuning_keeps_the_best_weights_and_stops_when_they_no_longer_improve(
    given, tmp_path, monkeypatch
):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", seconds=0.0, **given)
    accuracies = iter([0.3, 0.6, 0.5, 0.6, 0.4])
    monkeypatch.setattr("igpt.runs.finetune.accuracy", lambda *_, **__: next(accuracies))
    config = replace(
        SHAPES_RECIPE.finetune,
        patience=2,
        training=replace(SHAPES_RECIPE.finetune.training, steps=400),
    )
    run = finetune(base.path, data=given["data"], out=tmp_path / "run", config=config, device="cpu")
    result = run.require("finetune.json", FinetuneResult)
    # Measured every 4 steps: 0.3, 0.6, then two without gain; the last figure is the test's.
    assert (result.best_step, result.steps) == (8, 16)
    assert (result.validation_accuracy, result.test_accuracy) == (0.6, 0.4)


@pytest.fixture
def accuracies_of(monkeypatch):
    """The splits whose accuracy has been measured, in turn."""
    seen = []

    def measured(pretrained, records, **options):
        seen.append(records.name)
        return accuracy(pretrained, records, **options)

    monkeypatch.setattr("igpt.runs.finetune.accuracy", measured)
    return seen


def test_fine_tuning_on_all_images_takes_all_of_its_steps(given, tmp_path, accuracies_of):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", seconds=0.0, **given)
    run = finetune(
        base.path, data=given["data"], out=tmp_path / "run",
        config=SHAPES_RECIPE.finetune, device="cpu", fold_validation=True,
    )  # fmt: skip
    assert accuracies_of == ["test"]
    assert len(read_metrics(run.metrics)) == 12
    assert run.require("finetune.json", FinetuneResult).best_step == 12
