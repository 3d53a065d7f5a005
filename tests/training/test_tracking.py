"""The curves that TensorBoard shows are the record's numbers, each once."""

import importlib.util
import sys
from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import SHAPES_RECIPE

from igpt.errors import ConfigError
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.training.metrics import MetricsFile, read_metrics
from igpt.training.tracking import begin_tracking

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs the extra igpt[track]"
)


def drawn(run):
    """Return the points that TensorBoard shows of a run, by the curve's name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def recorded(run):
    """Return the same of the run's own record."""
    curves = {}
    for line in read_metrics(run / "metrics.jsonl"):
        for name, value in line.items():
            if name not in ("step", "seconds"):
                curves.setdefault(name, []).append((line["step"], np.float32(value)))
    return curves


def write(folder, steps, *, loss, kept=0):
    metrics = MetricsFile(folder / "metrics.jsonl", lines=kept)
    for step in steps:
        metrics.write({"step": step, "loss": loss + step, "seconds": 1.0 + step})
    metrics.close()


@needs_tensorboard
def test_what_a_training_does_again_is_drawn_once(tmp_path):
    begin_tracking(tmp_path, "tensorboard")
    write(tmp_path, range(6), loss=10.0)
    write(tmp_path, range(4, 8), loss=20.0, kept=4)  # killed, and gone on with after four steps
    assert drawn(tmp_path) == recorded(tmp_path)
    assert [step for step, _ in drawn(tmp_path)["loss"]] == [*range(8)]


@needs_tensorboard
def test_a_run_that_is_tracked_later_is_drawn_whole(tmp_path):
    write(tmp_path, range(3), loss=10.0)
    assert not (tmp_path / "tensorboard").exists()
    begin_tracking(tmp_path, "tensorboard")
    write(tmp_path, range(3, 5), loss=10.0, kept=3)
    assert drawn(tmp_path) == recorded(tmp_path)


@needs_tensorboard
def test_a_run_that_was_begun_so_is_tracked_when_it_is_resumed(given, tmp_path):
    recipe = replace(SHAPES_RECIPE, model=replace(SHAPES_RECIPE.model, layers=1))
    run = pretrain(recipe, out=tmp_path / "run", seconds=0.0, track="tensorboard", **given)
    assert len(read_metrics(run.metrics)) < 12
    resume(run.path, device="cpu")
    assert drawn(run.path) == recorded(run.path)
    assert [step for step, _ in drawn(run.path)["loss"]] == [*range(12)]
    assert [step for step, _ in drawn(run.path)["validation_nats_per_pixel"]] == [5, 11]


@needs_tensorboard
def test_a_finished_run_that_is_tracked_later_is_drawn_once(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
    for _ in range(2):
        resume(run.path, device="cpu", track="tensorboard")
        assert drawn(run.path) == recorded(run.path)
    assert len(list((run.path / "tensorboard").iterdir())) == 1


def test_without_the_extra_nothing_is_begun(given, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as where it is not installed
    with pytest.raises(ConfigError, match=r"needs an extra; pip install 'igpt\[track\]'"):
        pretrain(SHAPES_RECIPE, out=tmp_path / "run", track="tensorboard", **given)
    assert not (tmp_path / "run").exists()
