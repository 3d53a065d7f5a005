import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import igpt
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.files import read_json
from igpt.model.config import ModelConfig
from igpt.objectives.autoregressive import autoregressive
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.finetune import resume as resume_finetune
from igpt.runs.pretrain import pretrain, resume
from igpt.runs.recipes import FinetuneConfig, Recipe
from igpt.runs.run import Interrupted
from igpt.training.config import TrainingConfig
from igpt.training.loop import TrainingDiverged
from igpt.training.metrics import read_metrics

RECIPE = Recipe(
    model=ModelConfig(image_size=4, colors=16, layers=2, width=16, heads=2),
    training=TrainingConfig(
        steps=12, batch_size=8, learning_rate=0.01, warmup_steps=3, validate_every=6,
        validation_images=8, checkpoint_every=4,
    ),
    finetune=FinetuneConfig(
        training=TrainingConfig(
            steps=12, batch_size=8, learning_rate=0.01, warmup_steps=0, schedule="constant",
            validate_every=4, checkpoint_every=4,
        ),
        augmentation="none",
    ),
    augmentation="flip",
)  # fmt: skip


def losses(run_path):
    """Every figure of a run that does not depend on the clock."""
    clock = ("images_per_second", "tokens_per_second", "seconds")
    return [
        {key: value for key, value in line.items() if key not in clock}
        for line in read_metrics(run_path / "metrics.jsonl")
    ]


@pytest.fixture(params=["autoregressive", "masked"])
def recipe(request):
    if request.param == "autoregressive":
        return RECIPE
    return dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, causal=False))


def test_a_run_holds_all_that_it_should(given, tmp_path):
    run = pretrain(RECIPE, name="shapes", out=tmp_path / "run", **given)
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
    assert run.settings["filter"] == "box"
    assert {"commit", "command", "libraries", "processor"} <= read_json(
        run.path / "provenance.json"
    ).keys()
    pretrained = igpt.load(run.path)
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    tokens = pretrained.tokenizer.encode(images)
    assert pretrained.model(tokens).shape == (2, 16, 16)
    assert pretrained.tokenizer.decode(tokens).shape == images.shape


def test_the_same_seed_gives_the_same_run_and_another_another(given, recipe, tmp_path):
    one = pretrain(recipe, out=tmp_path / "one", **given)
    two = pretrain(recipe, out=tmp_path / "two", **given)
    assert losses(one.path) == losses(two.path)
    other = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=1))
    three = pretrain(other, out=tmp_path / "three", **given)
    assert losses(one.path)[3]["loss"] != losses(three.path)[3]["loss"]


def test_a_run_out_of_time_goes_on_as_if_nothing_had_been(given, recipe, tmp_path):
    whole = pretrain(recipe, out=tmp_path / "whole", **given)
    run = pretrain(recipe, out=tmp_path / "parts", seconds=0.0, **given)
    assert len(losses(run.path)) == 1
    while len(losses(run.path)) < 12:
        resume(run.path, device="cpu", seconds=0.0)
    resume(run.path, device="cpu")  # a finished run is left as it is
    assert losses(run.path) == losses(whole.path)
    ours, wanted = igpt.load(run.path), igpt.load(whole.path)
    for name, weight in wanted.model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], weight)


_SLOWED = """
import sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from igpt.data.batches import TokenBatches
at = TokenBatches.at
def slowly(self, step):
    time.sleep(0.05)  # so that there is a middle to be killed in
    return at(self, step)
TokenBatches.at = slowly
from igpt.cli import main
main(sys.argv[1:])
"""


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", _SLOWED, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_lines(path, count, process):
    deadline = time.monotonic() + 60
    while len(read_metrics(path)) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def arguments_of(given, out):
    return [
        "pretrain", "digits-quickstart", "--data", given["data"], "--palette", given["palette"],
        "--out", out, "--device", "cpu", "--steps", "20",
        *(f"--set={setting}" for setting in (
            "model.image_size=4", "model.layers=2", "model.width=16", "training.batch_size=8",
            "training.warmup_steps=2", "training.checkpoint_every=3", "training.validate_every=8",
            "augmentation=flip",
        )),
    ]  # fmt: skip


def finish(process):
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0, told


def test_a_run_killed_at_any_moment_goes_on_bit_for_bit(given, tmp_path):
    finish(start(*arguments_of(given, tmp_path / "whole")))

    run = tmp_path / "killed"
    process = start(*arguments_of(given, run))
    for lines in (5, 11, 17):  # between checkpoints, which come at 3, 6, 9 ...
        wait_for_lines(run / "metrics.jsonl", lines, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        process = start("pretrain", "--resume", run, "--device", "cpu")
    finish(process)

    assert losses(run) == losses(tmp_path / "whole")
    weights = [path / "model" / "model.safetensors" for path in (run, tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_asked_to_stop_saves_and_says_how_to_go_on(given, tmp_path, number, code):
    run = tmp_path / "run"
    process = start(*arguments_of(given, run))
    wait_for_lines(run / "metrics.jsonl", 4, process)
    process.send_signal(number)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == code
    done = len(read_metrics(run / "metrics.jsonl"))
    assert told.strip().splitlines()[-1] == (
        f"igpt: stopped after {done} of 20 steps, all saved; go on with --resume {run}"
    )
    assert (run / "state" / f"step-{done:06d}").is_dir()


def test_a_loss_that_is_no_number_keeps_the_last_good_state(given, tmp_path, monkeypatch):
    seen = []

    def breaks_at_step_six(model, tokens, labels, generator):
        losses = autoregressive(model, tokens)
        seen.append(0)
        return {"loss": losses["loss"] * (float("nan") if len(seen) == 7 else 1)}

    monkeypatch.setattr("igpt.runs.pretrain.autoregressive", breaks_at_step_six)
    with pytest.raises(TrainingDiverged, match=r"the loss of step 6 is nan; the last good state"):
        pretrain(RECIPE, out=tmp_path / "run", **given)
    for name, weight in igpt.load(tmp_path / "run").model.state_dict().items():
        assert weight.isfinite().all(), name
    monkeypatch.undo()
    whole = pretrain(RECIPE, out=tmp_path / "whole", **given)
    resume(tmp_path / "run", device="cpu")
    assert losses(tmp_path / "run") == losses(whole.path)


def test_a_place_that_holds_a_run_is_refused(given, tmp_path):
    run = pretrain(RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    with pytest.raises(ConfigError, match="already holds a run; choose another --out, or go on"):
        pretrain(RECIPE, out=run.path, **given)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already and is not empty"):
        pretrain(RECIPE, out=tmp_path / "other", **given)


def test_a_store_smaller_than_the_model_is_refused_before_anything_is_written(given, tmp_path):
    large = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, image_size=16))
    with pytest.raises(DataError, match="images of 8x8 pixels, and 16x16 are wanted; prepare"):
        pretrain(large, out=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_refused(given, tmp_path):
    greedy = dataclasses.replace(
        RECIPE, training=dataclasses.replace(RECIPE.training, batch_size=5000)
    )
    with pytest.raises(ConfigError, match=r"batch_size=5000 is more than the \d+ train images"):
        pretrain(greedy, out=tmp_path / "run", **given)


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no run \(no recipe\.json\)"):
        resume(tmp_path)


def test_resuming_with_other_images_or_another_recipe_is_refused(given, shapes_store, tmp_path):
    run = pretrain(RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    moved = tmp_path / "moved"
    shutil.copytree(shapes_store.path, moved)
    resume(run.path, data=moved, device="cpu", seconds=0.0)
    description = json.loads((moved / "store.json").read_text())
    (moved / "store.json").write_text(json.dumps({**description, "source": "elsewhere"}))
    with pytest.raises(CheckpointError, match="holds other images than this run began with"):
        resume(run.path, data=moved, device="cpu")
    settings = run.settings
    settings["training"]["learning_rate"] = 0.5
    run.write("recipe.json", settings)
    with pytest.raises(CheckpointError, match="saved under another configuration"):
        resume(run.path, device="cpu")


def test_a_palette_that_was_swapped_and_data_that_moved_are_told(given, tmp_path, monkeypatch):
    run = pretrain(RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    other = np.linspace(-1, 1, 48, dtype=np.float32).reshape(16, 3)
    np.save(run.path / "palette.npy", other)
    with pytest.raises(CheckpointError, match="is not the palette this run began with"):
        resume(run.path, device="cpu")
    settings = run.settings
    settings["data"]["path"] = "gone"
    run.write("recipe.json", settings)
    with pytest.raises(CheckpointError, match=r"were at gone, where nothing is .* with --data"):
        resume(run.path, device="cpu")


def test_the_table_of_colors_lies_beside_the_palettes_and_nothing_else_is_left(
    given, tmp_path, monkeypatch
):
    monkeypatch.setattr("igpt.pixels.palette._FEW_COLORS", 1)
    run = pretrain(RECIPE, out=tmp_path / "runs" / "run", seconds=0.0, **given)
    igpt.load(run.path).tokenizer.encode(np.zeros((1, 4, 4, 3), dtype=np.uint8))
    assert [path.name for path in run.path.parent.iterdir()] == ["run"]
    assert len(list(given["palette"].parent.glob("palette.*.table.npy"))) == 1
    assert len(list(run.path.glob("palette.*.table.npy"))) == 1
    assert len(list(run.model.iterdir())) == 3


def test_what_a_killed_run_left_half_written_is_removed(given, tmp_path):
    run = pretrain(RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for leftover in (run.path / "state", run.path):
        (leftover / f".partial-{dead.pid}-step-000004").mkdir()
    resume(run.path, device="cpu", seconds=0.0)
    assert not list(run.path.rglob(".partial-*"))


def test_a_full_disk_while_saving_is_one_line_and_keeps_the_last_state(
    given, tmp_path, monkeypatch
):
    run = pretrain(RECIPE, out=tmp_path / "run", seconds=0.0, **given)

    def full(*_):
        raise DataError("could not write model.safetensors: No space left on device")

    monkeypatch.setattr("igpt.training.state.write_tensors", full)
    with pytest.raises(DataError, match="No space left"):
        resume(run.path, device="cpu")
    monkeypatch.undo()
    assert [path.name for path in (run.path / "state").iterdir()] == ["step-000001"]
    resume(run.path, device="cpu")
    assert len(losses(run.path)) == 12


def test_fine_tuning_learns_the_classes_and_resumes_bit_for_bit(given, tmp_path):
    base = pretrain(RECIPE, out=tmp_path / "base", **given)
    config = dataclasses.replace(
        RECIPE.finetune,
        training=dataclasses.replace(RECIPE.finetune.training, steps=80, learning_rate=0.003),
    )
    arguments = {"data": given["data"], "config": config, "device": "cpu"}
    whole = finetune(base.path, out=tmp_path / "whole", **arguments)
    result = whole.read("finetune.json", FinetuneResult)
    assert result.test_accuracy > 0.8
    parts = finetune(base.path, out=tmp_path / "parts", seconds=0.0, **arguments)
    shutil.rmtree(base.path)  # a run of its own: what it began with is in it
    assert parts.read("finetune.json", FinetuneResult) is None
    for _ in range(3):
        resume_finetune(parts.path, device="cpu", seconds=0.0)
    resume_finetune(parts.path, device="cpu")
    assert losses(parts.path) == losses(whole.path)
    again = parts.read("finetune.json", FinetuneResult)
    assert dataclasses.replace(again, seconds=result.seconds) == result


def test_fine_tuning_keeps_the_best_weights_and_stops_when_they_no_longer_improve(
    given, tmp_path, monkeypatch
):
    base = pretrain(RECIPE, out=tmp_path / "base", seconds=0.0, **given)
    accuracies = iter([0.3, 0.6, 0.5, 0.6, 0.4])
    monkeypatch.setattr("igpt.runs.finetune.accuracy", lambda *_, **__: next(accuracies))
    config = dataclasses.replace(
        RECIPE.finetune,
        patience=2,
        training=dataclasses.replace(RECIPE.finetune.training, steps=400),
    )
    run = finetune(base.path, data=given["data"], out=tmp_path / "run", config=config, device="cpu")
    result = run.read("finetune.json", FinetuneResult)
    # Measured every 4 steps: 0.3, 0.6, then two without gain; the last figure is the test's.
    assert (result.best_step, result.steps) == (8, 16)
    assert (result.validation_accuracy, result.test_accuracy) == (0.6, 0.4)


def test_the_two_kinds_of_runs_are_not_taken_for_each_other(given, tmp_path):
    base = pretrain(RECIPE, out=tmp_path / "base", seconds=0.0, **given)
    with pytest.raises(CheckpointError, match="is a pretraining run; use igpt pretrain --resume"):
        resume_finetune(base.path)
    tuned = finetune(
        base.path, data=given["data"], out=tmp_path / "tuned", config=RECIPE.finetune,
        device="cpu", seconds=0.0,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="is a fine-tuning run; use igpt finetune --resume"):
        resume(tuned.path)


def test_an_interrupted_run_carries_the_signal_s_exit_code():
    assert Interrupted("x", signal_number=signal.SIGTERM).exit_code == 143
