"""A run is measured as it was on the way, and at its end."""

from dataclasses import replace

import pytest
import torch
from tests.conftest import SHAPES_RECIPE, write_shapes

import igpt
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import CheckpointError, ConfigError
from igpt.evaluation.likelihood import evaluate
from igpt.evaluation.probe import LayerProbes
from igpt.runs.along import Along, along_run
from igpt.runs.finetune import finetune
from igpt.runs.measure import probe_run
from igpt.runs.pretrain import pretrain


def test_each_snapshot_is_measured_like_the_end(given, shapes_store, tmp_path):
    run = pretrain(replace(SHAPES_RECIPE, snapshots=2), out=tmp_path / "run", **given)
    along = along_run(run.path, data=given["data"], device="cpu")
    rows = along.snapshots
    assert [row.step for row in rows] == [3, 6, 12]
    wanted = evaluate(igpt.load(run.snapshot(6)), shapes_store.split("validation"))
    assert rows[1].nats_per_pixel == pytest.approx(wanted.nats_per_pixel, abs=1e-6)
    probed = probe_run(run.snapshot(6), data=given["data"], device="cpu")
    assert rows[1].layers == tuple(row.test_accuracy for row in probed.layers)
    assert (rows[1].best_layer, rows[1].test_accuracy) == (probed.best_layer, probed.test_accuracy)


def test_the_run_keeps_what_was_measured_and_the_probes_of_its_end(given, tmp_path):
    run = pretrain(replace(SHAPES_RECIPE, snapshots=1), out=tmp_path / "run", **given)
    along = along_run(run.path, data=given["data"], device="cpu")
    assert run.read("along.json", Along) == along
    kept = run.read("probe.json", LayerProbes)
    assert along.snapshots[-1].layers == tuple(row.test_accuracy for row in kept.layers)
    assert kept.raw_pixels is not None


def test_a_measurement_that_was_stopped_goes_on(given, tmp_path):
    run = pretrain(replace(SHAPES_RECIPE, snapshots=1), out=tmp_path / "run", **given)
    whole = along_run(run.path, data=given["data"], device="cpu")
    first = replace(whole.snapshots[0], nats_per_pixel=0.125)  # as only the file has it
    _, made_from = run.kept("along.json", Along)
    run.write("along.json", Along(snapshots=(first,)), {"6": made_from["6"]})
    again = along_run(run.path, data=given["data"], device="cpu")
    assert again.snapshots == (first, whole.snapshots[1])


def test_rows_of_other_images_or_another_model_are_measured_anew(given, tmp_path):
    run = pretrain(replace(SHAPES_RECIPE, snapshots=1), out=tmp_path / "run", **given)
    source = write_shapes(tmp_path / "images", images=80, seed=1)
    config = StoreConfig(image_size=8, validation_fraction=0.2, test_fraction=0.2)
    other = prepare_store(str(source), tmp_path / "other", config)
    first = along_run(run.path, data=given["data"], device="cpu")
    second = along_run(run.path, data=other.path, device="cpu")
    third = along_run(run.path, data=other.path, held_out=given["data"], device="cpu")
    losses = [[row.nats_per_pixel for row in along.snapshots] for along in (first, second, third)]
    assert losses[0] == losses[2]
    assert losses[0] != losses[1]
    changed = igpt.load(run.snapshot(6))
    with torch.no_grad():
        changed.model.position_embedding += 0.5
    changed.save(run.snapshot(6))
    fourth = along_run(run.path, data=other.path, held_out=given["data"], device="cpu")
    assert fourth.snapshots[0] != third.snapshots[0]
    assert fourth.snapshots[1] == third.snapshots[1]


def test_a_run_without_snapshots_or_without_an_end_is_refused(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    with pytest.raises(ConfigError, match=r"keeps no snapshots; pretrain with --set"):
        along_run(run.path, data=given["data"], device="cpu")
    recipe = replace(SHAPES_RECIPE, snapshots=1)
    part = pretrain(recipe, out=tmp_path / "part", seconds=0.0, **given)
    with pytest.raises(ConfigError, match="no snapshot of step 6 yet; go on with igpt resume"):
        along_run(part.path, data=given["data"], device="cpu")


def test_a_fine_tuning_run_is_refused(given, tmp_path):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", seconds=0.0, **given)
    tuned = finetune(
        base.path, data=given["data"], out=tmp_path / "tuned", config=SHAPES_RECIPE.finetune,
        device="cpu", seconds=0.0,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="give the pretraining run it began from"):
        along_run(tuned.path, data=given["data"], device="cpu")
