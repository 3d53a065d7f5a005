"""A run is given other numbers of steps than it began with, or they are refused."""

import shutil
from dataclasses import replace

import pytest
from tests.conftest import SHAPES_RECIPE, losses, with_training

from igpt.errors import CheckpointError, ConfigError
from igpt.runs.finetune import finetune
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.runs.verify import verify


def test_a_finished_run_is_trained_further_and_keeps_the_change(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
    whole = resume(run.path, steps=20, device="cpu")
    lines = losses(run.path)
    assert len(lines) == 20
    assert lines[12]["learning_rate"] == pytest.approx(0.005)  # half of the peak: warmed up again
    assert lines[19]["learning_rate"] < 0.001
    assert "validation_nats_per_pixel" in lines[19]
    (change,) = whole.longer
    assert (change.after, change.before, change.steps) == (12, 12, 20)
    assert change.made.igpt
    assert whole.pretraining.recipe.training.steps == 20
    assert "20 steps instead of 12; its cosine had come to its end" in (
        (run.path / "log.txt").read_text()
    )
    assert verify(run.path).whole
    resume(run.path, device="cpu")  # finished again, and left as it is
    assert losses(run.path) == lines


def test_a_run_made_longer_goes_on_bit_for_bit(given, tmp_path):
    for name, seconds in (("whole", None), ("parts", 0.0)):
        pretrain(SHAPES_RECIPE, out=tmp_path / name, **given)
        resume(tmp_path / name, steps=18, device="cpu", seconds=seconds)
        while len(losses(tmp_path / name)) < 18:
            resume(tmp_path / name, device="cpu", seconds=0.0)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("parts", "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_on_its_way_is_stretched(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    resume(run.path, steps=16, device="cpu")
    alone = pretrain(with_training(SHAPES_RECIPE, steps=16), out=tmp_path / "alone", **given)
    rates = [[line["learning_rate"] for line in losses(path)] for path in (run.path, alone.path)]
    assert rates[0] == rates[1]  # the one step that was done was in the warm-up
    assert run.longer[0].learning_rate is None


def test_what_cannot_be_made_longer_is_refused_and_left_as_it_is(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
    with pytest.raises(ConfigError, match="has done 12 steps already; give more than that"):
        resume(run.path, steps=9, device="cpu")
    data = {"data": given["data"], "device": "cpu"}
    tuned = finetune(run.path, out=tmp_path / "tuned", config=SHAPES_RECIPE.finetune, **data)
    with pytest.raises(ConfigError, match="has ended, and the test images were measured"):
        resume(tuned.path, steps=99, device="cpu")
    kept = pretrain(replace(SHAPES_RECIPE, snapshots=1), out=tmp_path / "kept", **given)
    with pytest.raises(ConfigError, match="keeps snapshots at shares of the steps"):
        resume(kept.path, steps=99, device="cpu")
    shutil.rmtree(run.path / "state")
    with pytest.raises(CheckpointError, match="has no whole state to go on from"):
        resume(run.path, steps=99, device="cpu")
    assert not any(folder.longer for folder in (run, tuned, kept))


@pytest.mark.parametrize("warmup", [{"warmup_steps": 6}, {"warmup_steps": 0, "warmup_epochs": 1.0}])
def test_fewer_steps_than_the_warm_up_takes_are_refused_and_left_out(given, tmp_path, warmup):
    recipe = with_training(SHAPES_RECIPE, **warmup)  # of 6 steps
    run = pretrain(recipe, out=tmp_path / "run", seconds=0.0, **given)
    with pytest.raises(ConfigError, match="its end, at step 5, before its warm-up does; give more"):
        resume(run.path, steps=5, device="cpu")
    assert not run.longer
    resume(run.path, steps=6, device="cpu")
    assert len(losses(run.path)) == 6


def test_so_are_those_that_end_in_the_middle_of_warming_up_again(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
    resume(run.path, steps=50, device="cpu", seconds=0.0)  # warmed up again over 3
    with pytest.raises(ConfigError, match="its end, at step 14, before its warm-up does"):
        resume(run.path, steps=14, device="cpu")
    resume(run.path, steps=15, device="cpu")
    assert len(losses(run.path)) == 15
