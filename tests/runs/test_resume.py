"""A run goes on from its newest state as if nothing had been, or says why it cannot."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import SHAPES_RECIPE, losses

import igpt
from igpt import locks
from igpt.cli import main
from igpt.data.batches import TokenBatches
from igpt.errors import CheckpointError, DataError
from igpt.evaluation.completion import complete_images
from igpt.files import read_json, write_json
from igpt.objectives.autoregressive import autoregressive
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import ensure, resume
from igpt.seals import sealed
from igpt.settings import with_settings
from igpt.training.metrics import read_metrics
from igpt.training.signals import Interrupted


@pytest.fixture(params=["autoregressive", "masked", "beyond the paper"])
def recipe(request):
    if request.param == "beyond the paper":
        return with_settings(
            SHAPES_RECIPE,
            [
                "model.query_key_norm=true", "model.value_embedding=true", "dropout=0.1",
                "training.optimizer=normuon", "training.averaging=0.3", "training.schedule=linear",
                "training.stable=0.5",
            ],
        )  # fmt: skip
    if request.param == "autoregressive":
        return SHAPES_RECIPE
    return replace(SHAPES_RECIPE, model=replace(SHAPES_RECIPE.model, causal=False))


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


def main_without_exit(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code in (None, 0)


def test_a_killed_run_goes_on_bit_for_bit(given, tmp_path):
    main_without_exit(*arguments_of(given, tmp_path / "whole"))

    run = tmp_path / "killed"
    process = start(*arguments_of(given, run))
    wait_for_lines(run / "metrics.jsonl", 11, process)  # between states, which come at 9 and 12
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    resume(run, device="cpu")

    assert losses(run) == losses(tmp_path / "whole")
    weights = [path / "model" / "model.safetensors" for path in (run, tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_asked_to_stop_saves_and_says_how_to_go_on(given, tmp_path):
    run = tmp_path / "run"
    process = start(*arguments_of(given, run))
    wait_for_lines(run / "metrics.jsonl", 4, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    done = len(read_metrics(run / "metrics.jsonl"))
    assert output.strip().splitlines()[-1] == (
        f"igpt: stopped after {done} of 20 steps, all saved; go on with igpt resume {run}"
    )
    assert (run / "state" / f"step-{done:06d}").is_dir()


def test_ctrl_c_stops_after_the_step_with_all_saved(given, tmp_path, monkeypatch):
    steps = []

    def interrupted(*batch):
        steps.append(batch)
        if len(steps) == 5:
            signal.raise_signal(signal.SIGINT)
        return autoregressive(*batch)

    monkeypatch.setattr("igpt.runs.pretrain.autoregressive", interrupted)
    with pytest.raises(Interrupted, match="stopped after 5 of 12 steps, all saved") as stop:
        pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
    assert stop.value.exit_code == 130
    assert (tmp_path / "run" / "state" / "step-000005").is_dir()


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no run \(no recipe\.json\)"):
        resume(tmp_path)


def change_recipe(run, path, value):
    """Change one of the settings in a run's `recipe.json`, and its checksum with it."""
    settings = read_json(run.path / "recipe.json")
    del settings["checksum"]
    *parents, name = path
    part = settings
    for parent in parents:
        part = part[parent]
    part[name] = value
    write_json(run.path / "recipe.json", sealed(settings))


def test_resuming_with_other_images_or_another_recipe_is_refused(given, shapes_store, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    moved = tmp_path / "moved"
    shutil.copytree(shapes_store.path, moved)
    resume(run.path, data=moved, device="cpu", seconds=0.0)
    description = read_json(moved / "store.json")
    del description["checksum"]
    names = description["class_names"][::-1]
    write_json(moved / "store.json", sealed({**description, "class_names": names}))
    with pytest.raises(CheckpointError, match="holds other images than this run began with"):
        resume(run.path, data=moved, device="cpu")
    change_recipe(run, ("recipe", "training", "learning_rate"), 0.5)
    with pytest.raises(CheckpointError, match="saved under another configuration"):
        resume(run.path, device="cpu")


def test_a_palette_that_was_swapped_and_data_that_moved_are_told(given, tmp_path, monkeypatch):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    other = np.linspace(-1, 1, 48, dtype=np.float32).reshape(16, 3)
    np.save(run.path / "palette.npy", other)
    with pytest.raises(CheckpointError, match="is not the palette this run began with"):
        resume(run.path, device="cpu")
    change_recipe(run, ("data", "path"), "gone")
    with pytest.raises(CheckpointError, match=r"were at gone, where nothing is .* with --data"):
        resume(run.path, device="cpu")


def test_what_a_killed_run_left_half_written_is_removed(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    killed = """
import os, sys
from pathlib import Path
from igpt.files import written_aside
for path in sys.argv[1:]:
    written_aside(Path(path)).__enter__().mkdir()
os._exit(0)
"""
    places = ["model", "state/step-000004", "state/step-000001/state.json", "samples/step-6.png"]
    paths = [run.path, *(run.path / place for place in places)]
    subprocess.run([sys.executable, "-c", killed, *map(str, paths)], check=True)
    assert len(list(tmp_path.rglob(".partial-*"))) == len(paths)
    resume(run.path, device="cpu", seconds=0.0)
    assert not list(tmp_path.rglob(".partial-*"))


def test_a_full_disk_while_saving_is_one_line_and_keeps_the_last_state(
    given, tmp_path, monkeypatch
):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)

    def full(*_):
        raise DataError("could not write model.safetensors: No space left on device")

    monkeypatch.setattr("igpt.training.state.write_tensors", full)
    with pytest.raises(DataError, match="No space left"):
        resume(run.path, device="cpu")
    monkeypatch.undo()
    assert sorted(os.listdir(run.path / "state")) == ["step-000000", "step-000001"]
    resume(run.path, device="cpu")
    assert len(losses(run.path)) == 12


def test_a_run_of_another_format_is_refused(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    change_recipe(run, ("format",), 1)
    with pytest.raises(CheckpointError, match="of another format than the 2 that this igpt reads"):
        resume(run.path, device="cpu")


def test_a_picture_that_cannot_be_drawn_loses_no_step_and_is_drawn_when_it_can_be(
    given, tmp_path, monkeypatch
):
    whole = pretrain(SHAPES_RECIPE, out=tmp_path / "whole", **given)
    out, at = tmp_path / "parts", TokenBatches.at
    seen = []

    def counted(self, step):
        seen.append(step)
        return at(self, step)

    monkeypatch.setattr(TokenBatches, "at", counted)
    out.mkdir()
    recipe = with_settings(SHAPES_RECIPE, ["training.prepare_ahead=0"])  # so that each is counted
    run = pretrain(recipe, out=out, seconds=0.0, **given)
    (out / "samples").write_text("in the way")
    for _ in range(2):
        with pytest.raises(DataError, match="samples"):
            resume(out, device="cpu")
    (out / "samples").unlink()
    resume(out, device="cpu")
    assert seen == list(range(12))
    assert losses(out) == losses(whole.path)
    for name in ("step-000006.png", "step-000012.png"):
        picture = Path("samples") / name
        assert (run.path / picture).read_bytes() == (whole.path / picture).read_bytes()


@pytest.mark.parametrize("harm", [shutil.rmtree, lambda path: path.rename(f"{path}-moved")])
def test_a_run_that_goes_away_while_it_is_validated_is_not_made_anew(
    given, tmp_path, monkeypatch, harm
):
    run = tmp_path / "run"

    def drawn_too_late(*arguments, **options):
        harm(run)
        return complete_images(*arguments, **options)

    monkeypatch.setattr("igpt.runs.pretrain.complete_images", drawn_too_late)
    with pytest.raises(CheckpointError, match=r"run.* was removed, renamed or replaced while the"):
        pretrain(SHAPES_RECIPE, out=run, **given)
    assert not run.exists()


def test_a_run_is_gone_on_with_by_one_process_at_a_time(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    with (
        locks.held(run.path),
        pytest.raises(CheckpointError, match=f"is being written to by process {os.getpid()} on"),
    ):
        resume(run.path, device="cpu")
    assert len(losses(run.path)) == 1


def test_what_is_missing_from_a_run_and_can_be_made_is_made(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
    picture, weights = run.path / "palette.png", run.model / "model.safetensors"
    whole = picture.read_bytes(), weights.read_bytes()
    picture.unlink()
    shutil.rmtree(run.model)
    resume(run.path, device="cpu")
    assert (picture.read_bytes(), weights.read_bytes()) == whole


def test_a_finished_run_needs_no_states(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", **given)
    shutil.rmtree(run.path / "state")
    whole = run.metrics.read_bytes(), (run.model / "model.safetensors").read_bytes()
    resume(run.path, device="cpu")
    assert (run.metrics.read_bytes(), (run.model / "model.safetensors").read_bytes()) == whole


def test_a_log_that_cannot_be_written_stops_nothing(given, tmp_path, capsys):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "run", seconds=0.0, **given)
    (run.path / "log.txt").unlink()
    (run.path / "log.txt").mkdir()
    resume(run.path, device="cpu")
    assert f"{run.path}: 12 of 12 steps in" in capsys.readouterr().err


def test_a_run_is_begun_where_there_is_none_and_gone_on_with_where_there_is_one(given, tmp_path):
    path = tmp_path / "run"
    path.mkdir()  # as a disk of its own would be
    begin = functools.partial(pretrain, SHAPES_RECIPE, out=path, seconds=0.0, **given)
    for updates in (1, 2, 3):
        run = ensure(path, begin, device="cpu", seconds=0.0)
        assert len(losses(run.path)) == updates
