import errno

import pytest
import torch
from tests.conftest import random_model, random_tokens

from igpt.errors import CheckpointError, DataError
from igpt.objectives.autoregressive import autoregressive
from igpt.training.config import TrainingConfig
from igpt.training.optimizer import build_optimizer
from igpt.training.state import Checkpoints, Memory

MEMORY = Memory(updates=2, seconds=1.5, best_score=0.5, best_updates=1, without_gain=1)


def trained(steps=2, seed=0):
    model = random_model(seed=seed)
    optimizer = build_optimizer(model, TrainingConfig(steps=10, learning_rate=0.01))
    for _ in range(steps):
        autoregressive(model, random_tokens())["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path / "state", fingerprint="a")
    checkpoints.save(*trained(), MEMORY)
    return checkpoints


def test_a_restored_state_is_the_saved_one_bit_for_bit(saved):
    model, optimizer = trained(steps=0, seed=9)
    assert saved.restore(model, optimizer) == MEMORY
    wanted, wanted_optimizer = trained()
    for name, weight in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    ours, theirs = optimizer.state_dict()["state"], wanted_optimizer.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for number, values in theirs.items():
        for key, value in values.items():
            assert torch.equal(ours[number][key], value)


def test_without_a_state_nothing_is_touched(tmp_path):
    assert Checkpoints(tmp_path / "none").restore(*trained()) == Memory()


def test_only_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 999_999, 1_000_000):
        checkpoints.save(*trained(), Memory(updates=step))
    assert checkpoints.steps() == [999_999, 1_000_000]


def test_a_state_of_another_configuration_is_refused(saved):
    with pytest.raises(CheckpointError, match="saved under another configuration"):
        Checkpoints(saved.folder, fingerprint="b").restore(*trained())


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("harm", ["cut off", "changed", "missing"])
def test_a_damaged_file_is_told(saved, name, harm):
    file = saved.path(2) / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(content if harm == "changed" else content[:-100])
    with pytest.raises(
        CheckpointError, match=f"step-000002 is damaged: {name} .* start again from step 0"
    ):
        saved.restore(*trained())


def test_a_damaged_state_names_the_one_before(saved):
    saved.save(*trained(), Memory(updates=4))
    (saved.path(4) / "state.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"state\.json cannot be read; .* from step 2"):
        saved.restore(*trained())


def test_a_full_disk_leaves_the_state_before(saved, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("igpt.training.state.write_json", full)
    with pytest.raises(DataError, match="No space left on device; free some space"):
        saved.save(*trained(), Memory(updates=4))
    assert saved.steps() == [2]
    assert [path.name for path in saved.folder.iterdir()] == ["step-000002"]
