"""What some processes saved, any number of others goes on with."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import SHAPES_RECIPE, losses, with_training
from tests.parallel.group import run_in_group

from igpt.formats.load import load
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.runs.run import RunFolder
from igpt.runs.verify import verify
from igpt.training.config import TrainingConfig
from igpt.training.fit import STATE
from igpt.training.state import Checkpoints, StateDamaged

RECIPE = replace(
    SHAPES_RECIPE,
    training=TrainingConfig(
        steps=8, batch_size=12, learning_rate=0.003, warmup_steps=2, validate_every=4,
        validation_images=14, checkpoint_every=2, parallel="fsdp", background_saving=True,
    ),
)  # fmt: skip


def begin(folder, given):
    """Train for a step, and a second one."""
    pretrain(RECIPE, out=folder / "begun", seconds=0.0, **given)
    resume(folder / "begun", seconds=0.0)


def go_on(folder, parallel):
    resume(folder, device="cpu", parallel=parallel)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_saved_by_four_processes_goes_on_in_any_number_by_any_strategy(given, tmp_path):
    pretrain(RECIPE, out=tmp_path / "alone", **given)
    run_in_group(4, begin, tmp_path, given)
    state = tmp_path / "begun" / STATE / "step-000002"
    assert files(state) == [
        *(f"shard-{number:05}-model-00001-of-00001.safetensors" for number in (1, 2, 3, 4)),
        "state.json",
    ]
    assert verify(tmp_path / "begun").whole
    load(tmp_path / "begun")
    for ranks, parallel in ((1, None), (2, "ddp"), (3, "fsdp")):
        run = shutil.copytree(tmp_path / "begun", tmp_path / f"on {ranks}")
        if ranks == 1:
            go_on(run, parallel)
        else:
            run_in_group(ranks, go_on, run, parallel)
        for ours, theirs in zip(losses(run), losses(tmp_path / "alone"), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
        assert verify(run).whole


def save_and_stop(folder, given):
    pretrain(RECIPE, out=folder / "sharded", seconds=0.0, **given)


@pytest.mark.slow
def test_a_sharded_state_is_told_from_a_damaged_one(given, tmp_path):
    run_in_group(2, save_and_stop, tmp_path, given)
    run = RunFolder(tmp_path / "sharded")
    states = Checkpoints(run.path / STATE, fingerprint=run.fingerprint)
    assert states.check(1).updates == 1
    share = next(states.path(1).glob("shard-00002-*"))
    whole = share.read_bytes()
    for harm in ("cut off", "changed", "missing", "one too many"):
        if harm == "missing":
            share.unlink()
        elif harm == "one too many":
            share.with_name(share.name.replace("00002", "00003")).write_bytes(whole)
        else:
            share.write_bytes(whole[:-8] if harm == "cut off" else whole[:-1] + b"\0")
        with pytest.raises(StateDamaged, match="step-000001 is damaged: shard-0000"):
            states.check(1)
        share.write_bytes(whole)
    Path(share.with_name(share.name.replace("00002", "00003"))).unlink()
    assert states.check(1).updates == 1
    # and, damaged, it is set aside for the state before, of any number of processes
    share.write_bytes(whole[:-8])
    with pytest.warns(UserWarning, match="goes on from the state of step 0"):
        resume(run.path, device="cpu")
    assert len(losses(run.path)) == RECIPE.training.steps


def test_a_recipe_that_asks_for_shares_learns_alone_as_any_other(given, tmp_path):
    for strategy in ("fsdp", "ddp"):
        pretrain(with_training(RECIPE, parallel=strategy), out=tmp_path / strategy, **given)
    assert losses(tmp_path / "fsdp") == losses(tmp_path / "ddp")
