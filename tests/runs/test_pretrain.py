"""A recipe, images and a palette become a run."""

from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from tests.conftest import SHAPES_RECIPE, losses, with_training, write_shapes

import igpt
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import ConfigError, DataError
from igpt.evaluation.features import extract_features
from igpt.objectives.autoregressive import autoregressive
from igpt.pixels.palette import Palette
from igpt.planning.here import OutOfMemory
from igpt.runs.palette import fit_palette_file
from igpt.runs.pretrain import pretrain
from igpt.runs.provenance import Provenance, provenance
from igpt.runs.resume import resume
from igpt.runs.run import RunFolder
from igpt.training.loop import TrainingDiverged


@pytest.fixture(params=["autoregressive", "masked", "diffusion"])
def recipe(request):
    if request.param == "autoregressive":
        return SHAPES_RECIPE
    bert = replace(SHAPES_RECIPE.model, causal=False)
    return replace(SHAPES_RECIPE, model=bert, objective=request.param)


def test_a_run_holds_all_that_it_should(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, name="shapes", out=tmp_path / "run", **given)
    names = {path.name for path in run.path.iterdir()}
    assert names == {
        "recipe.json", "provenance.json", "palette.npy", "palette.png", "metrics.jsonl", "log.txt",
        "samples", "state", "model",
    }  # fmt: skip
    lines = losses(run.path)
    assert [line["step"] for line in lines] == list(range(12))
    assert [line["step"] for line in lines if "validation_nats_per_pixel" in line] == [5, 11]
    assert sorted(path.name for path in (run.path / "samples").iterdir()) == [
        "step-000006.png",
        "step-000012.png",
    ]
    assert run.pretraining.filter == "box"
    assert run.require("provenance.json", Provenance).libraries["torch"] == version("torch")
    pretrained = igpt.load(run.path)
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    tokens = pretrained.tokenizer.encode(images)
    assert pretrained.model(tokens).shape == (2, 16, 16)
    assert pretrained.tokenizer.decode(tokens).shape == images.shape


def test_the_same_seed_gives_the_same_run_and_another_another(given, recipe, tmp_path):
    one = pretrain(recipe, out=tmp_path / "one", **given)
    two = pretrain(recipe, out=tmp_path / "two", **given)
    assert losses(one.path) == losses(two.path)
    other = with_training(recipe, seed=1)
    three = pretrain(other, out=tmp_path / "three", **given)
    assert losses(one.path)[3]["loss"] != losses(three.path)[3]["loss"]


def test_a_loss_that_is_no_number_keeps_the_last_good_state(given, tmp_path, monkeypatch):
    seen = []

    def breaks_at_step_six(model, tokens, labels, generator):
        losses = autoregressive(model, tokens)
        seen.append(0)
        return {"loss": losses["loss"] * (float("nan") if len(seen) == 7 else 1)}

    monkeypatch.setattr("igpt.runs.pretrain.autoregressive", breaks_at_step_six)
    with pytest.raises(TrainingDiverged, match=r"the loss of step 7 is nan; the last good state"):
        pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
    for name, weight in igpt.load(tmp_path / "run").model.state_dict().items():
        assert weight.isfinite().all(), name
    monkeypatch.undo()
    whole = pretrain(SHAPES_RECIPE, out=tmp_path / "whole", **given)
    resume(tmp_path / "run", device="cpu")
    assert losses(tmp_path / "run") == losses(whole.path)


def test_a_place_that_holds_a_run_is_refused(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    with pytest.raises(ConfigError, match="already holds a run; choose another --out, or go on"):
        pretrain(SHAPES_RECIPE, out=run.path, **given)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already and is not empty"):
        pretrain(SHAPES_RECIPE, out=tmp_path / "other", **given)


def test_of_two_runs_begun_at_one_place_the_later_is_refused(given, tmp_path, monkeypatch):
    first = pretrain(SHAPES_RECIPE, out=tmp_path / "first", seconds=0.0, **given)
    place = tmp_path / "run"

    def meanwhile(device):
        first.path.rename(place)
        return provenance(device)

    monkeypatch.setattr("igpt.runs.run.provenance", meanwhile)
    recipe = with_training(SHAPES_RECIPE, seed=1)
    with pytest.raises(DataError, match=r"could not write .*run: File exists; choose another"):
        pretrain(recipe, out=place, **given)
    assert RunFolder.open(place).pretraining.recipe == SHAPES_RECIPE
    assert len(losses(place)) == 1


def test_a_store_smaller_than_the_model_is_refused_before_anything_is_written(given, tmp_path):
    large = replace(SHAPES_RECIPE, model=replace(SHAPES_RECIPE.model, image_size=16))
    with pytest.raises(DataError, match="images of 8x8 pixels, and 16x16 are wanted; prepare"):
        pretrain(large, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_refused(given, tmp_path):
    greedy = with_training(SHAPES_RECIPE, batch_size=5000)
    with pytest.raises(ConfigError, match=r"batch_size=5000 is more than the \d+ train images"):
        pretrain(greedy, out=tmp_path / "run", **given)


def test_tokens_of_another_palette_are_refused_before_anything_is_written(given, tmp_path):
    palette = Palette.load(given["palette"])
    tokens = np.random.default_rng(0).integers(0, 16, (40, 16))
    np.save(tmp_path / "noise_trX.npy", tokens)
    store = prepare_store(
        str(tmp_path / "noise"),
        tmp_path / "store",
        StoreConfig(image_size=4),
        palette=given["palette"],
    )
    pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given | {"data": store.path}, seconds=0.0)
    Palette(-palette.colors).save(tmp_path / "other.npy")
    given |= {"data": store.path, "palette": tmp_path / "other.npy"}
    with pytest.raises(DataError, match=r"tokens of palette .* prepare them again with the model"):
        pretrain(SHAPES_RECIPE, out=tmp_path / "another", **given)
    assert not (tmp_path / "another").exists()


def weights(folder):
    return igpt.load(folder).model.state_dict()


@pytest.mark.parametrize(("size", "noted"), [(8, True), (4, False)])
def test_a_palette_fitted_at_another_size_is_noted(given, shapes_store, tmp_path, size, noted):
    given["palette"].unlink()
    fit_palette_file(shapes_store.path, given["palette"], size=16, image_size=size)
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    said = "was fitted to images of 8x8 pixels, and the network sees 4x4; igpt palette fit"
    assert (said in (run.path / "log.txt").read_text()) == noted


def test_snapshots_are_the_network_as_it_was_at_each_halving(given, tmp_path):
    recipe = replace(SHAPES_RECIPE, snapshots=3)
    run = pretrain(recipe, out=tmp_path / "run", **given)
    names = sorted(path.name for path in (run.path / "snapshots").iterdir())
    assert names == ["step-000001", "step-000003", "step-000006"]  # of 12: 524 thousandths, 262 ...
    begun = pretrain(recipe, out=tmp_path / "begun", seconds=0.0, **given)
    assert len(losses(begun.path)) == 1
    at_one, stopped_at_one = weights(run.snapshot(1)), weights(begun.model)
    assert all(torch.equal(at_one[name], stopped_at_one[name]) for name in at_one)


def test_the_online_probe_is_ridge_regression_on_the_best_layer(given, shapes_store, tmp_path):
    recipe = replace(SHAPES_RECIPE, online_probe_images=20)
    run = pretrain(recipe, out=tmp_path / "run", **given)
    line = losses(run.path)[-1]
    train, held = shapes_store.split("train").sample(20), shapes_store.split("validation").sample(8)
    network = igpt.load(run.path)
    parts = [extract_features(network, records).astype(np.float64) for records in (train, held)]
    scores = [
        RidgeClassifier(alpha=20e-6 * parts[0][:, n].var(axis=0).sum())
        .fit(parts[0][:, n], train.labels)
        .score(parts[1][:, n], held.labels)
        for n in range(3)
    ]
    assert line["online_probe_accuracy"] == max(scores)
    assert line["online_probe_layer"] == int(np.argmax(scores))
    assert "online_probe_accuracy" not in losses(run.path)[0]


def test_an_online_probe_needs_labels(given, tmp_path):
    folder = write_shapes(tmp_path / "images") / "left"  # without the folders that are classes
    given["data"] = prepare_store(str(folder), tmp_path / "s", StoreConfig(image_size=8)).path
    with pytest.raises(DataError, match="have no labels"):
        pretrain(replace(SHAPES_RECIPE, online_probe_images=5), out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_without_a_validation_split_nothing_passes_for_one(given, tmp_path):
    config = StoreConfig(image_size=8, validation_fraction=0.0)
    source = write_shapes(tmp_path / "images")
    given["data"] = prepare_store(str(source), tmp_path / "bare", config).path
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
    assert len(losses(run.path)) == 12
    assert not any("validation_nats_per_pixel" in line for line in losses(run.path))
    assert not (run.path / "samples").exists()
    said = "bare has no validation split, so nothing is measured on the way"
    assert said in (run.path / "log.txt").read_text()


def test_a_tied_network_has_one_table_and_is_saved_and_read_back(given, tmp_path):
    tied = replace(SHAPES_RECIPE, model=replace(SHAPES_RECIPE.model, tied=True))
    whole = pretrain(tied, out=tmp_path / "whole", **given)
    loaded = weights(whole.path)
    assert torch.equal(loaded["color_head.weight"], loaded["token_embedding"])
    parts = pretrain(tied, out=tmp_path / "parts", seconds=0.0, **given)
    resume(parts.path, device="cpu")
    assert losses(parts.path) == losses(whole.path)


def test_what_somebody_might_not_expect_is_said_before_the_training(given, tmp_path, capsys):
    recipe = with_training(SHAPES_RECIPE, steps=200)
    pretrain(
        replace(recipe, model=replace(recipe.model, colors=512)),
        out=tmp_path / "run", seconds=0.0, **given,
    )  # fmt: skip
    told = capsys.readouterr().err
    assert "palette.npy has 16 colors, and the recipe 512; the palette decides" in told
    assert "31 passes over 51 images are so many that the network will learn them by heart" in told
    pretrain(SHAPES_RECIPE, out=tmp_path / "another", seconds=0.0, **given)
    told = capsys.readouterr().err
    assert "the palette decides" not in told
    assert "by heart" not in told


def test_auto_is_settled_once_and_recorded(given, tmp_path):
    recipe = with_training(SHAPES_RECIPE, precision="auto", steps=1, warmup_steps=0)
    run = pretrain(recipe, out=tmp_path / "run", **given)
    assert run.pretraining.recipe.training.precision in ("float32", "bfloat16")


def test_what_cannot_fit_is_refused_before_anything_is_written(given, tmp_path):
    huge = replace(SHAPES_RECIPE, model=replace(SHAPES_RECIPE.model, layers=1024, width=32_768))
    with pytest.raises(OutOfMemory, match="a training step needs about"):
        pretrain(huge, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_running_out_of_memory_says_what_would_help(given, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("igpt.runs.pretrain.fit", fail)
    with pytest.raises(OutOfMemory, match="out of memory: a training step needs about"):
        pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
