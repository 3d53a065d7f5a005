"""What a run is measured for, and what it keeps of it."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests import system
from tests.conftest import SHAPES_RECIPE, write_shapes

import igpt
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import CheckpointError, ConfigError
from igpt.evaluation.classifier import predict
from igpt.evaluation.few_labels import FewLabelsResult
from igpt.evaluation.likelihood import evaluate
from igpt.evaluation.masks import MasksResult, mask_ensemble
from igpt.evaluation.outliers import OutliersResult
from igpt.evaluation.probe import LayerProbes, probe, rank_correlation
from igpt.files import read_json, write_json
from igpt.pixels.images import read_image
from igpt.runs.finetune import finetune
from igpt.runs.measure import (
    Evaluation,
    evaluate_run,
    few_labels_run,
    masks_run,
    outliers_run,
    probe_run,
)
from igpt.runs.pretrain import pretrain
from igpt.runs.run import RunFolder
from igpt.values import to_dict


@pytest.fixture(scope="module", params=["autoregressive"])
def trained(request, shapes_store, tmp_path_factory):
    """A run of one step, of either objective; tests measure copies of it."""
    folder = tmp_path_factory.mktemp("trained")
    colors = np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)
    igpt.Palette(colors).save(folder / "palette.npy")
    model = replace(SHAPES_RECIPE.model, causal=request.param == "autoregressive")
    return pretrain(
        replace(SHAPES_RECIPE, model=model), data=shapes_store.path, out=folder / "run",
        palette=folder / "palette.npy", device="cpu", seconds=0.0,
    )  # fmt: skip


@pytest.fixture
def run(trained, tmp_path):
    return RunFolder(shutil.copytree(trained.path, tmp_path / "run"))


bert = pytest.mark.parametrize("trained", ["BERT"], indirect=True)


@pytest.fixture
def given(shapes_store):
    return {"data": shapes_store.path, "device": "cpu"}


def test_a_run_keeps_the_likelihood_of_each_whole_split(run, given, shapes_store):
    test = evaluate_run(run.path, **given)
    assert test == evaluate(igpt.load(run.path), shapes_store.split("test"))
    train = evaluate_run(run.path, split="train", **given)
    assert run.read("evaluation.json", Evaluation).splits == {"test": test, "train": train}


def test_the_likelihood_of_a_few_images_is_not_kept(run, given):
    assert evaluate_run(run.path, images=3, **given).images == 3
    assert run.read("evaluation.json", Evaluation) is None


def test_a_model_in_no_run_is_measured_and_keeps_nothing(run, given):
    before = sorted(run.model.iterdir())
    assert evaluate_run(run.model, **given) == evaluate_run(run.path, **given)
    outliers_run(run.model, images=2, **given)
    assert sorted(run.model.iterdir()) == before


@pytest.fixture
def other_store(tmp_path):
    """Other images of the same classes."""
    source = write_shapes(tmp_path / "images", images=80, seed=1)
    config = StoreConfig(image_size=8, validation_fraction=0.2, test_fraction=0.2)
    return prepare_store(str(source), tmp_path / "other", config)


MEASURES = {
    "evaluation.json": (evaluate_run, {}, {"seed": 1}),
    "probe.json": (probe_run, {"raw": False}, {"seed": 1}),
    "few-labels.json": (
        few_labels_run, {"labels_per_class": [1], "subsets": 1, "layer": 1}, {"subsets": 2},
    ),
    "outliers.json": (outliers_run, {"images": 4}, {"images": 5}),
}  # fmt: skip


def stamp(run, name):
    return (run.path / name).stat().st_mtime_ns


@pytest.mark.parametrize("name", MEASURES)
def test_a_result_is_used_again_where_model_store_and_settings_are_the_same(
    run, given, name, shapes_store, other_store, tmp_path
):
    measure, settings, others = MEASURES[name]
    measured = measure(run.path, reuse=True, **settings, **given)
    made = stamp(run, name)
    moved = shutil.copytree(shapes_store.path, tmp_path / "moved")
    assert measure(run.path, reuse=True, **settings, data=moved, device="cpu") == measured
    assert stamp(run, name) == made

    measure(run.path, reuse=True, **settings | others, **given)
    assert stamp(run, name) != made
    made = stamp(run, name)
    again = measure(run.path, reuse=True, **settings, data=other_store.path, device="cpu")
    assert stamp(run, name) != made
    assert again == measure(run.path, **settings, data=other_store.path, device="cpu")

    made = stamp(run, name)
    changed = igpt.load(run.path)
    with torch.no_grad():
        changed.model.position_embedding += 0.5
    changed.save(run.model)
    measure(run.path, reuse=True, **settings, data=other_store.path, device="cpu")
    assert stamp(run, name) != made


def test_a_result_says_what_it_was_made_from(run, given, shapes_store):
    probe_run(run.path, raw=False, seed=3, **given)
    evaluate_run(run.path, split="train", **given)
    model = igpt.load(run.path).identity
    assert read_json(run.path / "probe.json")["made_from"]["all"] == {
        "model": model,
        "store": shapes_store.identity,
        "settings": {
            "seed": 3,
            "compared_with": None,
            "raw": False,
            "concatenate": 1,
            "sgd": None,
        },
    }
    assert list(read_json(run.path / "evaluation.json")["made_from"]) == ["train"]


def test_probes_of_more_than_is_asked_for_will_do(run, given):
    more = probe_run(run.path, concatenate=2, **given)
    assert probe_run(run.path, reuse=True, raw=False, **given) == more
    assert probe_run(run.path, reuse=True, concatenate=3, **given).concatenated != more.concatenated


@pytest.mark.parametrize("text", ["", "{", '{"splits": {}}', "flipped"])
def test_a_damaged_result_is_refused_when_read_and_measured_anew_when_asked_for(run, given, text):
    measured = evaluate_run(run.path, **given)
    file = run.path / "evaluation.json"
    if text == "flipped":  # a figure, into another
        text = file.read_text().replace(f'"images": {measured.images}', '"images": 99')
        file.write_text(text)
        with pytest.raises(CheckpointError, match=r"evaluation\.json was changed since it was"):
            run.read("evaluation.json", Evaluation)
    file.write_text(text)
    assert evaluate_run(run.path, reuse=True, **given) == measured
    assert run.read("evaluation.json", Evaluation).splits == {"test": measured}


def test_a_result_of_an_earlier_igpt_is_read_and_not_used_again(run, given):
    measured = probe_run(run.path, raw=False, **given)
    write_json(run.path / "probe.json", to_dict(measured))
    assert run.read("probe.json", LayerProbes) == measured
    made = stamp(run, "probe.json")
    assert probe_run(run.path, raw=False, reuse=True, **given) == measured
    assert stamp(run, "probe.json") != made


@pytest.mark.parametrize("name", MEASURES)
def test_where_nothing_can_be_written_the_figures_come_with_a_note(run, given, name):
    measure, settings, _ = MEASURES[name]
    (run.path / name / "in the way").mkdir(parents=True)
    with pytest.warns(UserWarning, match=f"the figures are not kept: could not write .*{name}"):
        result = measure(run.path, **settings, **given)
    (run.path / name / "in the way").rmdir()
    (run.path / name).rmdir()
    assert measure(run.path, **settings, **given) == result


READ_ONLY = """
import shutil, subprocess, sys
from igpt.cli import main
run, data, disk = sys.argv[1:]
shutil.copytree(run, disk + "/run")
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
sys.stderr = sys.stdout
main(["evaluate", disk + "/run", "--data", data, "--device", "cpu"])
"""


@pytest.mark.slow
def test_on_a_disk_that_is_read_only_the_figures_are_printed_all_the_same(run, given, tmp_path):
    (tmp_path / "disk").mkdir()
    disk = (tmp_path / "disk", "size=20m")
    printed = system.run(READ_ONLY, run.path, given["data"], disk[0], mounted=disk)
    assert "igpt: note: the figures are not kept: could not write" in printed
    assert "Read-only file system" in printed
    assert f"{evaluate_run(run.path, **given).nats_per_pixel:.4f}" in printed


def test_probes_of_all_layers_are_kept_and_those_of_one_are_not(run, given, shapes_store):
    probes = probe_run(run.path, **given)
    assert probes == probe(igpt.load(run.path), shapes_store)
    assert run.read("probe.json", LayerProbes) == probes
    assert [row.layer for row in probe_run(run.path, layers=[1], **given).layers] == [1]
    assert run.read("probe.json", LayerProbes) == probes


def test_an_untrained_network_has_fresh_weights_of_the_seed_and_a_file_of_its_own(run, given):
    untrained = probe_run(run.path, untrained=True, **given)
    assert untrained.raw_pixels is None
    assert run.read("probe-untrained.json", LayerProbes) == untrained
    assert run.read("probe.json", LayerProbes) is None
    assert probe_run(run.path, untrained=True, **given) == untrained
    assert probe_run(run.path, untrained=True, seed=1, **given) != untrained
    probe_run(run.path, **given)
    ridge = probe_run(run.path, untrained=True, solver="ridge", raw=True, **given)
    assert run.read("probe-untrained-ridge.json", LayerProbes) == ridge
    assert ridge.raw_pixels is not None
    assert ridge.rank_correlation is None  # of a network with other weights


def test_another_solver_keeps_a_file_of_its_own_and_compares_its_ranking(run, given):
    assert probe_run(run.path, solver="ridge", **given).rank_correlation is None
    known = probe_run(run.path, raw=False, **given)
    probes = probe_run(run.path, solver="ridge", **given)
    assert run.read("probe-ridge.json", LayerProbes) == probes
    assert probes.rank_correlation == rank_correlation(probes, known)
    assert run.read("probe.json", LayerProbes) == known


@bert
def test_masks_choose_a_layer_of_their_own_beside_what_whole_images_give(run, given, shapes_store):
    with pytest.raises(ConfigError, match=r"has not been probed, .* run igpt probe first"):
        masks_run(run.path, **given)
    best = probe_run(run.path, raw=False, **given).best
    result = masks_run(run.path, masks=2, seed=3, **given)
    assert run.read("masks.json", MasksResult) == result
    assert result == mask_ensemble(
        igpt.load(run.path), shapes_store, unmasked=best.test_accuracy, masks=2, seed=3
    )
    assert masks_run(run.path, layer=0, masks=1, **given).layer == 0
    with pytest.raises(ConfigError, match="not been probed at layer 9"):
        masks_run(run.path, layer=9, **given)


@bert
def test_a_fine_tuned_network_answers_with_its_class_head_under_masks(
    run, given, shapes_store, tmp_path
):
    config = SHAPES_RECIPE.finetune
    tuned = finetune(run.path, out=tmp_path / "tuned", config=config, **given)
    result = masks_run(tuned.path, masks=3, seed=4, **given)
    assert (result.layer, result.penalty, result.masks) == (2, None, 3)
    test, model = shapes_store.split("test"), igpt.load(tuned.path)
    votes = np.stack([predict(model, test, mask_seed=(4, 1, mask)) for mask in range(3)], 1)
    assert list(result.single) == (votes == test.labels[:, None]).mean(axis=0).tolist()
    assert result.unmasked == (predict(model, test) == test.labels).mean()
    with pytest.raises(ConfigError, match="has a class head, which reads one layer"):
        masks_run(tuned.path, layer=1, **given)


def test_few_labels_are_read_from_the_best_layer_and_kept(run, given):
    with pytest.raises(ConfigError, match="run igpt probe first, or give --layer"):
        few_labels_run(run.path, **given)
    best = probe_run(run.path, raw=False, **given).best_layer
    result = few_labels_run(run.path, labels_per_class=[1, 2], subsets=2, **given)
    assert run.read("few-labels.json", FewLabelsResult) == result
    assert [row.labels_per_class for row in result.rows] == [1, 2]
    assert result.layer == best
    assert result.layer_chosen == "best on validation with all labels (probe.json)"
    chosen = few_labels_run(run.path, layer=1, labels_per_class=[1], subsets=1, **given)
    assert (chosen.layer, chosen.layer_chosen) == (1, "given")


def test_a_handful_of_labels_is_fine_tuned_on_for_so_many_steps(run, given):
    arguments = {"labels_per_class": [4], "subsets": 2, "layer": 1, **given}
    # with labels of two classes by their brightest half, many steps on few images tell them apart
    result = few_labels_run(run.path, finetune_steps=120, **arguments)
    assert result.finetune_steps == 120
    assert result.rows[0].fine_tuned.mean > 0.8
    few = few_labels_run(run.path, finetune_steps=2, **arguments)
    assert few.rows[0].fine_tuned.mean < result.rows[0].fine_tuned.mean
    assert few_labels_run(run.path, finetune_steps=2, **arguments) == few
    # fields that come later must not make what was kept before them another measure
    made_from = read_json(run.path / "few-labels.json")["made_from"]["all"]
    assert "averaging" not in made_from["settings"]["config"]["training"]
    assert few_labels_run(run.path, **arguments).rows[0].fine_tuned is None


def test_foreign_images_are_compared_and_drawn(run, given):
    result = outliers_run(run.path, images=12, others=[given["data"]], **given)
    assert run.read("outliers.json", OutliersResult) == result
    assert result.foreign[-1].name == str(given["data"])
    assert read_image(run.path / "extremes.png").shape == (2 * 64 + 2, 10 * 64 + 9 * 2, 3)
    assert read_image(run.path / "outliers.png").shape[1] == 1040
    drawn = {"own test images", "noise", "flat", "digits", "shuffled"}
    assert drawn <= result.spread.counts.keys()
    assert all(sum(counts) <= 12 for counts in result.spread.counts.values())
