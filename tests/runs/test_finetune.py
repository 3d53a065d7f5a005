"""A pretrained run and labelled images become a classifier."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tests.conftest import SHAPES_RECIPE, losses, with_training

from igpt.data.store import RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.classifier import Scored, accuracy, score
from igpt.formats.convert import convert
from igpt.formats.load import load
from igpt.model.classes import class_logits
from igpt.runs.finetune import ClassifierTraining, FinetuneResult, finetune
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
    assert np.trace(result.confusion) / np.sum(result.confusion) == result.test_accuracy
    parts = finetune(base.path, out=tmp_path / "parts", seconds=0.0, **arguments)
    shutil.rmtree(base.path)  # a run of its own: what it began with is in it
    assert parts.read("finetune.json", FinetuneResult) is None
    for _ in range(3):
        resume(parts.path, device="cpu", seconds=0.0)
    resume(parts.path, device="cpu")
    assert losses(parts.path) == losses(whole.path)
    again = parts.require("finetune.json", FinetuneResult)
    assert replace(again, seconds=result.seconds) == result
    for name in ("state", "finetune.json"):  # what its metrics tell is enough
        shutil.rmtree(parts.path / name, ignore_errors=True)
    resume(parts.path, device="cpu")
    assert parts.require("finetune.json", FinetuneResult) == again


def scored(accuracy):
    return Scored(accuracy=accuracy, confusion=None)


def test_fine_tuning_keeps_the_best_weights_and_stops_when_they_no_longer_improve(
    given, tmp_path, monkeypatch
):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", seconds=0.0, **given)
    accuracies = iter([0.2, 0.3, 0.6, 0.5, 0.6, 0.4])
    monkeypatch.setattr("igpt.runs.finetune.score", lambda *_, **__: scored(next(accuracies)))
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


def test_weights_that_no_step_makes_better_are_those_of_the_start(given, tmp_path, monkeypatch):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", seconds=0.0, **given)
    accuracies = iter([0.6, 0.5, 0.6, 0.3])
    monkeypatch.setattr("igpt.runs.finetune.score", lambda *_, **__: scored(next(accuracies)))
    config = replace(SHAPES_RECIPE.finetune, patience=2)
    run = finetune(base.path, data=given["data"], out=tmp_path / "run", config=config, device="cpu")
    result = run.require("finetune.json", FinetuneResult)
    assert (result.best_step, result.steps, result.validation_accuracy) == (0, 8, 0.6)
    first, *_ = read_metrics(run.metrics)
    assert first["validation_accuracy_at_start"] == 0.6
    begun, kept = load(base.path).model.state_dict(), load(run.path).model.state_dict()
    assert all(torch.equal(kept[name], weight) for name, weight in begun.items())


def started(given, tmp_path, **settings):
    """A fine-tuning run after its first step, and what it began from."""
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", **given)
    run = finetune(
        base.path, data=given["data"], out=tmp_path / "run", device="cpu", seconds=0.0,
        config=replace(SHAPES_RECIPE.finetune, **settings),
    )  # fmt: skip
    return run, load(base.path)


def test_the_head_begins_as_a_probe_that_knows_the_classes(given, tmp_path):
    run, _ = started(given, tmp_path)
    test = RecordStore.open(given["data"]).split("test")
    assert accuracy(load(run.path), test) > 0.8  # nothing but the probe has learned of classes


def test_or_at_zero_on_the_features_as_they_are(given, tmp_path):
    run, _ = started(given, tmp_path, head="zero")
    assert not load(run.path).model.class_head.weight.any()
    assert not (run.path / "head.safetensors").exists()


def test_a_run_goes_on_with_the_head_that_it_began_with(given, tmp_path):
    run, _ = started(given, tmp_path)
    kept = (run.path / "head.safetensors").read_bytes()
    resume(run.path, device="cpu")
    assert (run.path / "head.safetensors").read_bytes() == kept
    with safe_open(run.path / "head.safetensors", framework="pt") as file:
        map = file.get_tensor("map")
    state = sorted((run.path / "state").iterdir())[-1] / "model.safetensors"
    with safe_open(state, framework="pt") as file:
        assert torch.equal(file.get_tensor("class_head.map"), map)


@pytest.mark.filterwarnings("ignore:.* has no color head")
def test_the_folded_head_exported_and_loaded_gives_the_logits_of_training(given, tmp_path):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", **given)
    store = RecordStore.open(given["data"])
    begun = ClassifierTraining.begin(
        load(base.path), store.split("train"), SHAPES_RECIPE.finetune, torch.device("cpu")
    )
    begun.classifier.save(tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "exported", to="huggingface", head="classes")
    tokens = begun.batches.at(0).tokens
    with torch.no_grad():
        wanted = class_logits(begun.classifier.model, tokens)
        assert wanted.std() > 0.1
        for name in ("model", "exported"):
            found = class_logits(load(tmp_path / name).model, tokens)
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_bert_begins_with_a_probe_too_and_is_measured_under_masks(given, tmp_path, monkeypatch):
    bert = replace(SHAPES_RECIPE, model=replace(SHAPES_RECIPE.model, causal=False))
    base = pretrain(bert, out=tmp_path / "base", **given)
    masks = []

    def measured(pretrained, records, *, mask_seed, title=None):
        masks.append((records.name, mask_seed))
        return score(pretrained, records, mask_seed=mask_seed)

    monkeypatch.setattr("igpt.runs.finetune.score", measured)
    config = replace(SHAPES_RECIPE.finetune, layer=1)
    run = finetune(base.path, data=given["data"], out=tmp_path / "run", config=config, device="cpu")
    assert run.require("finetune.json", FinetuneResult).test_accuracy > 0.7
    assert set(masks) == {("validation", (0, 1)), ("test", (0, 2))}  # the same at every step


def test_a_network_from_scratch_has_nothing_to_probe():
    with pytest.raises(ConfigError, match="nothing to probe yet; set head=zero"):
        replace(SHAPES_RECIPE.finetune, from_scratch=True)


@pytest.fixture
def accuracies_of(monkeypatch):
    """The splits whose accuracy has been measured, in turn."""
    seen = []

    def measured(pretrained, records, **options):
        seen.append(records.name)
        return score(pretrained, records, **options)

    monkeypatch.setattr("igpt.runs.finetune.score", measured)
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
    return replace(SHAPES_RECIPE.baseline, **settings)


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
