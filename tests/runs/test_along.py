"""What is measured along a training, and the baseline beside it."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from tests.conftest import SHAPES_RECIPE as RECIPE
from tests.conftest import losses

import igpt
from igpt.errors import ConfigError, DataError
from igpt.evaluation.features import extract_features
from igpt.evaluation.few_labels import balanced_subset
from igpt.evaluation.likelihood import evaluate
from igpt.model.config import ModelConfig
from igpt.model.transformer import ImageGPT
from igpt.runs.along import Along, along_run
from igpt.runs.evaluate import masks_run
from igpt.runs.few_labels import few_labels_run
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume


def with_training(**settings):
    return dataclasses.replace(RECIPE, training=dataclasses.replace(RECIPE.training, **settings))


def weights(folder):
    return igpt.load(folder).model.state_dict()


def test_snapshots_are_the_network_as_it_was_at_each_halving(given, tmp_path):
    recipe = dataclasses.replace(RECIPE, snapshots=3)
    run = pretrain(recipe, out=tmp_path / "run", **given)
    names = sorted(path.name for path in (run.path / "snapshots").iterdir())
    assert names == ["step-000001", "step-000003", "step-000006"]  # of 12: a half, a quarter ...
    half = pretrain(
        dataclasses.replace(RECIPE, snapshots=3), out=tmp_path / "half", seconds=0.0, **given
    )
    assert len(losses(half.path)) == 1
    at_one, stopped_at_one = weights(run.snapshot(1)), weights(half.model)
    assert all(torch.equal(at_one[name], stopped_at_one[name]) for name in at_one)


def test_along_a_training_each_snapshot_is_measured_like_the_end(given, shapes_store, tmp_path):
    recipe = dataclasses.replace(RECIPE, snapshots=2)
    run = pretrain(recipe, out=tmp_path / "run", **given)
    along = along_run(run.path, data=given["data"], device="cpu")
    rows = along.snapshots
    assert [row.step for row in rows] == [3, 6, 12]
    assert run.read("along.json", Along) == along
    middle = igpt.load(run.snapshot(6))
    wanted = evaluate(middle, shapes_store.split("validation")).nats_per_pixel
    assert rows[1].nats_per_pixel == pytest.approx(wanted, abs=1e-6)
    probed = igpt.probe_run(run.model, data=given["data"], device="cpu")
    assert rows[2].layers == tuple(row.test_accuracy for row in probed.layers)
    assert along_run(run.path, data=given["data"], device="cpu") == along


def test_a_run_without_snapshots_has_nothing_along_it(given, tmp_path):
    run = pretrain(RECIPE, out=tmp_path / "run", **given)
    with pytest.raises(ConfigError, match=r"keeps no snapshots; pretrain with --set"):
        along_run(run.path, data=given["data"], device="cpu")
    part = pretrain(
        dataclasses.replace(RECIPE, snapshots=1), out=tmp_path / "part", seconds=0.0, **given
    )
    with pytest.raises(ConfigError, match="no snapshot of step 6 yet; go on with"):
        along_run(part.path, data=given["data"], device="cpu")


def test_the_online_probe_is_ridge_regression_on_the_best_layer(given, shapes_store, tmp_path):
    run = pretrain(
        dataclasses.replace(RECIPE, online_probe_images=20), out=tmp_path / "run", **given
    )
    line = losses(run.path)[-1]
    model = igpt.load(run.path)
    train, held = shapes_store.split("train").first(20), shapes_store.split("validation").first(8)
    parts = [extract_features(model, records) for records in (train, held)]
    scores = [
        RidgeClassifier(alpha=0.02)
        .fit(parts[0][:, n], train.labels)
        .score(parts[1][:, n], held.labels)
        for n in range(3)
    ]
    assert line["online_probe_accuracy"] == max(scores)
    assert line["online_probe_layer"] == int(np.argmax(scores))
    assert "online_probe_accuracy" not in losses(run.path)[0]


def test_an_online_probe_wants_labels(given, shapes_store, tmp_path, monkeypatch):
    splits = {
        name: dataclasses.replace(split, labelled=False)
        for name, split in shapes_store.splits.items()
    }
    bare = dataclasses.replace(shapes_store, splits=splits)
    monkeypatch.setattr("igpt.runs.pretrain.RecordStore.open", lambda _: bare)
    with pytest.raises(DataError, match="have no labels"):
        pretrain(dataclasses.replace(RECIPE, online_probe_images=20), out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def scratch(**settings):
    return dataclasses.replace(
        RECIPE.finetune, from_scratch=True, pixel_coefficient=0.0, **settings
    )


def test_from_scratch_begins_with_fresh_weights_of_its_seed(given, tmp_path):
    base = pretrain(RECIPE, out=tmp_path / "base", **given)
    other = pretrain(with_training(seed=7), out=tmp_path / "other", **given)
    arguments = {"data": given["data"], "config": scratch(), "device": "cpu"}
    one = finetune(base.path, out=tmp_path / "one", **arguments)
    two = finetune(other.path, out=tmp_path / "two", **arguments)
    pretrained = finetune(
        base.path,
        out=tmp_path / "three",
        data=given["data"],
        config=dataclasses.replace(RECIPE.finetune, pixel_coefficient=0.0),
        device="cpu",
    )
    assert losses(one.path) == losses(two.path)  # nothing of the source is in it but its shape
    assert losses(one.path)[1] != losses(pretrained.path)[1]
    assert not (one.path / "pretrained").exists()


def test_dropout_is_for_training_alone_and_resumes_bit_for_bit(given, tmp_path):
    base = pretrain(RECIPE, out=tmp_path / "base", **given)
    arguments = {"data": given["data"], "config": scratch(dropout=0.5), "device": "cpu"}
    whole = finetune(base.path, out=tmp_path / "whole", **arguments)
    parts = finetune(base.path, out=tmp_path / "parts", seconds=0.0, **arguments)
    while parts.read("finetune.json", FinetuneResult) is None:
        resume(parts.path, device="cpu", seconds=0.0)
    assert losses(parts.path) == losses(whole.path)
    without = finetune(
        base.path, out=tmp_path / "without", data=given["data"], config=scratch(), device="cpu"
    )
    assert losses(without.path)[1] != losses(whole.path)[1]


def test_dropout_zeroes_its_share_of_what_a_block_adds():
    torch.manual_seed(0)
    model = ImageGPT(ModelConfig(image_size=4, colors=4, layers=1, width=64, heads=2))
    model.set_dropout(0.25)
    dropped = model.blocks[0].dropout.train()(torch.ones(10_000))
    assert abs((dropped == 0).float().mean().item() - 0.25) < 0.03
    assert dropped.max().item() == pytest.approx(1 / 0.75)
    tokens = torch.zeros((1, 16), dtype=torch.int64)
    assert torch.equal(model.eval()(tokens), model(tokens))
    assert not torch.equal(model.train().final_state(tokens), model.final_state(tokens))


def test_a_handful_of_labels_is_fine_tuned_on_the_same_subsets(given, shapes_store, tmp_path):
    run = pretrain(RECIPE, out=tmp_path / "run", **given)
    arguments = {
        "data": given["data"], "labels_per_class": (4,), "subsets": 2, "layer": 1, "device": "cpu",
    }  # fmt: skip
    found = few_labels_run(run.path, finetune_steps=30, **arguments)
    (row,) = found.rows
    tuned = row.fine_tuned
    assert len(tuned.accuracies) == 2
    assert tuned.mean == pytest.approx(np.mean(tuned.accuracies))
    assert tuned.standard_deviation == pytest.approx(np.std(tuned.accuracies, ddof=1))
    again = few_labels_run(run.path, finetune_steps=30, **arguments)
    assert again == found
    assert few_labels_run(run.path, **arguments).rows[0].fine_tuned is None
    # with labels of two classes by their brightest half, many steps on few images tell them apart
    many = few_labels_run(run.path, finetune_steps=120, **arguments)
    assert many.rows[0].fine_tuned.mean > 0.8
    train = shapes_store.split("train")
    subset = train.chosen(balanced_subset(train.labels, 4, seed=0, subset=1))
    assert np.bincount(subset.labels).tolist() == [4, 4]


def test_a_fine_tuned_bert_answers_with_its_class_head_under_masks(given, shapes_store, tmp_path):
    recipe = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, causal=False))
    base = pretrain(recipe, out=tmp_path / "base", **given)
    tuned = finetune(
        base.path, data=given["data"], out=tmp_path / "tuned", config=recipe.finetune, device="cpu"
    )
    found = masks_run(tuned.path, data=given["data"], masks=3, seed=4, device="cpu")
    assert (found.layer, found.penalty, found.masks) == (2, None, 3)
    test, model = shapes_store.split("test"), igpt.load(tuned.path)
    votes = np.stack([igpt.predict(model, test, mask_seed=(4, 1, mask)) for mask in range(3)], 1)
    assert list(found.single) == (votes == test.labels[:, None]).mean(axis=0).tolist()
    assert found.unmasked == (igpt.predict(model, test) == test.labels).mean()
    with pytest.raises(ConfigError, match="has a class head, which reads one layer"):
        masks_run(tuned.path, data=given["data"], layer=1, device="cpu")


def test_a_tied_network_has_one_table_and_is_saved_and_read_back(given, tmp_path):
    tied = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, tied=True))
    whole = pretrain(tied, out=tmp_path / "whole", **given)
    loaded = igpt.load(whole.path).model.state_dict()
    assert torch.equal(loaded["color_head.weight"], loaded["token_embedding"])
    parts = pretrain(tied, out=tmp_path / "parts", seconds=0.0, **given)
    while len(losses(parts.path)) < 12:
        resume(parts.path, device="cpu", seconds=0.0)
    assert losses(parts.path) == losses(whole.path)


@pytest.mark.parametrize("tied", [False, True])
def test_heads_that_do_not_start_at_zero_start_like_the_embedding(tied):
    torch.manual_seed(0)
    config = ModelConfig(
        image_size=4, colors=64, layers=1, width=64, heads=2, zero_heads=False, tied=tied
    )
    model = ImageGPT(config, classes=64)
    assert model.color_head.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.class_head.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (model.color_head.weight is model.token_embedding) == tied
    assert sum(p.numel() for p in model.parameters()) == config.parameters + 64 * 64
    zero = ImageGPT(dataclasses.replace(config, zero_heads=True), classes=64)
    assert not zero.class_head.weight.any()
    assert bool(zero.color_head.weight.any()) == tied
