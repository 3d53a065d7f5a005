"""What a run's folder says of itself."""

from dataclasses import replace

import pytest
from tests.conftest import SHAPES_RECIPE, with_training

from igpt.errors import CheckpointError
from igpt.runs.finetune import finetune
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.training.metrics import read_metrics


def test_a_run_has_ended_when_it_has_done_the_steps_that_it_was_given_last(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    assert not run.ended
    assert resume(run.path, device="cpu").ended
    resume(run.path, steps=14, device="cpu", seconds=0.0)
    assert not run.ended
    assert resume(run.path, device="cpu").ended
    assert len(read_metrics(run.metrics)) == 14


def test_without_a_line_of_metrics_no_run_has_ended_and_damaged_ones_are_told(given, tmp_path):
    recipe = with_training(SHAPES_RECIPE, steps=1, warmup_steps=0)
    run = pretrain(recipe, out=tmp_path / "run", **given)
    assert run.ended
    run.metrics.write_bytes(b"no numbers\n")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged"):
        _ = run.ended
    run.metrics.write_bytes(b"")
    assert not run.ended
    run.metrics.unlink()
    assert not run.ended


def test_fine_tuning_that_stopped_early_has_ended(given, tmp_path):
    base = pretrain(SHAPES_RECIPE, out=tmp_path / "base", **given)
    slow = replace(SHAPES_RECIPE.finetune.training, learning_rate=1e-9)
    config = replace(SHAPES_RECIPE.finetune, training=slow, patience=1)
    options = {"data": given["data"], "config": config, "device": "cpu"}
    run = finetune(base.path, out=tmp_path / "tuned", seconds=0.0, **options)
    assert not run.ended
    resume(run.path, device="cpu")
    assert len(read_metrics(run.metrics)) < 12
    assert run.ended
