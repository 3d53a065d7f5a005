"""A record has what is needed to get a run's figures again, and tells when they are others."""

import shlex
import shutil
from dataclasses import replace

import pytest
from benchmarks.record import _measuring, check, make_record, read_record, table

from igpt.errors import ConfigError, DataError
from igpt.files import read_json
from igpt.runs.finetune import finetune
from igpt.runs.measure import evaluate_run, few_labels_run, probe_run
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from tests.conftest import SHAPES_RECIPE, with_training


@pytest.fixture(scope="module")
def recorded(shapes_store, tmp_path_factory):
    """A short run, measured, and its record."""
    folder = tmp_path_factory.mktemp("recorded")
    import numpy as np

    from igpt.pixels.palette import Palette

    Palette(np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)).save(
        folder / "palette.npy"
    )
    recipe = with_training(SHAPES_RECIPE, steps=2, warmup_steps=0, validate_every=2, seed=5)
    run = pretrain(
        recipe, data=shapes_store.path, palette=folder / "palette.npy", out=folder / "run",
        device="cpu",
    )  # fmt: skip
    evaluation = evaluate_run(run.path, data=shapes_store.path, device="cpu")
    return run, evaluation, make_record(run.path, folder / "results" / "shapes")


def test_a_record_has_seed_settings_results_and_the_command(recorded):
    run, evaluation, record = recorded
    assert (record.seed, record.steps, record.weights) == (5, 2, 7_008)
    assert record.settings["recipe"]["training"]["learning_rate"] == 0.01
    known = record.results["evaluation.json"]["splits"]["test"]["nats_per_pixel"]
    assert known == evaluation.nats_per_pixel
    assert record.commands[0] == record.made.command
    assert record.commands[1].startswith(f"igpt evaluate {run.path} --data ")


def test_the_figure_is_measured_again(recorded, shapes_store, tmp_path):
    run, evaluation, _ = recorded
    record = read_record(run.path.parent / "results" / "shapes")
    model = tmp_path / "shipped"
    shutil.copytree(run.model, model)
    assert check(record, model, shapes_store.path, device="cpu") == evaluation.nats_per_pixel
    assert f"| shapes | 7,008 | 2 | 5 | {evaluation.nats_per_pixel:.4f} |" in table(
        run.path.parent / "results"
    )
    (model / "model.safetensors").write_bytes(b"others")
    with pytest.raises(DataError, match="is not the model of the record shapes"):
        check(record, model, shapes_store.path, device="cpu")


def test_what_was_changed_is_refused(recorded, tmp_path):
    run, _, _ = recorded
    folder = tmp_path / "record"
    shutil.copytree(run.path.parent / "results" / "shapes", folder)
    (folder / "evaluation.json").write_text("{}")
    with pytest.raises(DataError, match=r"evaluation\.json was changed since it was recorded"):
        read_record(folder)
    changed = tmp_path / "run"
    shutil.copytree(run.path, changed)
    (changed / "model" / "model.safetensors").write_bytes(b"others")
    with pytest.raises(DataError, match=r"model\.safetensors is changed"):
        make_record(changed, tmp_path / "new")


def test_a_longer_run_s_record_has_all_commands_and_all_steps(recorded, shapes_store, tmp_path):
    longer = tmp_path / "run"
    shutil.copytree(recorded[0].path, longer)
    resume(longer, steps=3, data=shapes_store.path, device="cpu")
    (longer / "evaluation.json").unlink()  # of the run as it was
    record = make_record(longer, tmp_path / "record")
    assert (record.steps, len(record.commands), list(record.results)) == (3, 2, ["provenance.json"])
    assert read_json(tmp_path / "record" / "longer.json")["changes"][0]["steps"] == 3
    with pytest.raises(DataError, match="has no likelihood of test images to check"):
        check(record, longer, shapes_store.path, device="cpu")


def test_a_run_that_is_not_finished_has_no_record(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    with pytest.raises(ConfigError, match="has done 1 of 12 steps"):
        make_record(run.path, tmp_path / "record")


def test_a_fine_tuning_that_stopped_early_has_a_record_of_the_steps_it_did(recorded, tmp_path):
    run, data = recorded[0], recorded[0].settings.data.path
    config = SHAPES_RECIPE.finetune
    training = replace(config.training, steps=30, learning_rate=1e-12, validate_every=1)
    tuned = finetune(
        run.path, data=data, out=tmp_path / "run", device="cpu",
        config=replace(config, training=training, patience=2),
    )  # fmt: skip
    assert make_record(tuned.path, tmp_path / "record").steps < 30


def test_commands_have_the_settings_that_were_measured_with(recorded, tmp_path):
    run, data = tmp_path / "run", recorded[0].settings.data.path
    shutil.copytree(recorded[0].path, run)
    evaluate_run(run, data=data, split="validation", seed=4, eight_bit=True, device="cpu")
    probe_run(run, data=data, concatenate=2, device="cpu")
    few_labels_run(run, data=data, labels_per_class=(2, 3), subsets=2, layer=0, device="cpu")
    measuring = [shlex.split(command) for command in make_record(run, tmp_path / "r").commands[1:]]
    assert measuring == [
        ["igpt", "evaluate", str(run), "--data", data, "--split", "test", "--seed", "0"],
        ["igpt", "evaluate", str(run), "--data", data, "--split", "validation", "--seed", "4",
         "--eight-bit"],
        ["igpt", "probe", str(run), "--data", data, "--seed", "0", "--concatenate", "2"],
        ["igpt", "few-labels", str(run), "--data", data, "--seed", "0", "--subsets", "2",
         "--layer", "0", "--labels", "2", "--labels", "3"],
    ]  # fmt: skip


def test_images_of_another_store_than_the_run_s_are_named_as_such(recorded):
    run, data = recorded[0], recorded[0].settings.data
    (command,) = _measuring(run.path, ["evaluation.json"], replace(data, sha256="others"))
    assert f" --data STORE-{data.sha256} " in command
