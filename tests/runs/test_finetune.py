"""A pretrained run and labelled images become a classifier."""

import shutil
from dataclasses import replace

import pytest
from tests.conftest import SHAPES_RECIPE, losses, with_training

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
    accuracies = iter([0.2, 0.3, 0.6, 0.5, 0.6, 0.4])
    monkeypatch.setattr("igpt.runs.finetune.accuracy", lambda *_, **__: next(accuracies))
    config = replace(
        SHAPES_RECIPE.finetune,
        patience=2,
        training=replace(SHAPES_RECIPE.finetune.training, steps=400),
    )
    run = finetune(base.path, data=given["data"], out=tmp_path / "run", config=config, device="cpu")
    result = run.require("finetune.json", FinetuneResult)
    # Measured first and every 4 steps: 0.2, 0.3, 0.6, then two without gain; the last figure is
    # the test's.
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


def scratch(**settings):
    return replace(SHAPES_RECIPE.finetune, from_scratch=True, pixel_coefficient=0.0, **settings)


def test_from_scratch_begins_with_fresh_weights_of_its_seed(given, tmp_path):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", **given)
    other = pretrain(with_training(SHAPES_RECIPE, seed=7), out=tmp_path / "other", **given)
    arguments = {"data": given["data"], "device": "cpu"}
    one = finetune(base.path, out=tmp_path / "one", config=scratch(), **arguments)
    two = finetune(other.path, out=tmp_path / "two", config=scratch(), **arguments)
    config = replace(SHAPES_RECIPE.finetune, pixel_coefficient=0.0)
    pretrained = finetune(base.path, out=tmp_path / "three", config=config, **arguments)
    assert losses(one.path) == losses(two.path)  # nothing of the source is in it but its shape
    assert losses(one.path)[1] != losses(pretrained.path)[1]
    assert not (one.path / "pretrained").exists()


def test_dropout_is_for_training_alone_and_resumes_bit_for_bit(given, tmp_path):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", seconds=0.0, **given)
    arguments = {"data": given["data"], "device": "cpu"}
    config = scratch(dropout=0.5)
    whole = finetune(base.path, out=tmp_path / "whole", config=config, **arguments)
    parts = finetune(base.path, out=tmp_path / "parts", config=config, seconds=0.0, **arguments)
    resume(parts.path, device="cpu", seconds=0.0)
    resume(parts.path, device="cpu")
    assert losses(parts.path) == losses(whole.path)
    without = finetune(base.path, out=tmp_path / "without", config=scratch(), **arguments)
    assert losses(without.path)[1] != losses(whole.path)[1]
