import json
import os

import pytest
import torch
from tests.conftest import random_model, random_tokens

from igpt.errors import CheckpointError, DataError
from igpt.objectives.autoregressive import autoregressive
from igpt.training.config import TrainingConfig
from igpt.training.optimizer import build_optimizer
from igpt.training.state import Checkpoints, Memory, StateDamaged

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


def test_a_loaded_state_is_the_saved_one_bit_for_bit(saved):
    model, optimizer = trained(steps=0, seed=9)
    assert saved.newest() == (MEMORY, {})
    saved.load(2, model, optimizer)
    wanted, wanted_optimizer = trained()
    for name, weight in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)
    ours, theirs = optimizer.state_dict()["state"], wanted_optimizer.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for number, values in theirs.items():
        for key, value in values.items():
            assert torch.equal(ours[number][key], value)


def test_where_nothing_was_saved_there_is_no_state(tmp_path):
    assert Checkpoints(tmp_path / "none").newest() == (None, {})


def test_before_the_first_update_nothing_is_loaded(tmp_path):
    checkpoints = Checkpoints(tmp_path, fingerprint="a")
    checkpoints.begin()
    assert checkpoints.newest() == (Memory(), {})
    model, optimizer = trained()
    checkpoints.load(0, model, optimizer)
    assert torch.equal(model.token_embedding, trained()[0].token_embedding)


def test_only_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 999_999, 1_000_000):
        checkpoints.save(*trained(), Memory(updates=step))
    assert checkpoints.steps() == [999_999, 1_000_000]
    checkpoints.path(5).mkdir()  # what a killed process left of its removal
    checkpoints.remove_old()
    assert checkpoints.steps() == [999_999, 1_000_000]


def test_a_settled_state_remembers_something_else_of_the_same_weights(saved):
    weights = (saved.path(2) / "model.safetensors").read_bytes()
    settled = Memory(updates=2, finished=True)
    saved.settle(settled)
    assert saved.newest() == (settled, {})
    assert (saved.path(2) / "model.safetensors").read_bytes() == weights


def test_a_state_of_another_configuration_is_refused(saved):
    with pytest.raises(CheckpointError, match="saved under another configuration"):
        Checkpoints(saved.folder, fingerprint="b").newest()


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
    with pytest.raises(StateDamaged, match=f"step-000002 is damaged: {name} is missing, cut"):
        saved.check(2)


@pytest.mark.parametrize("harm", ["a step", "a score", "a name", "no text", "cut off", "empty"])
def test_a_damaged_memory_is_told(saved, harm):
    file = saved.path(2) / "state.json"
    text = file.read_text()
    changed = {
        "a step": text.replace('"updates": 2', '"updates": 1'),
        "a score": text.replace('"best_score": 0.5', '"best_score": 0.4'),
        "a name": text.replace('"checksum"', '"checksun"'),
        "no text": "\udcff" + text,
        "cut off": text[: len(text) // 2],
        "empty": "",
    }[harm]
    assert changed != text
    file.write_text(changed, errors="surrogateescape")
    with pytest.raises(StateDamaged, match=r"step-000002 is damaged: its state\.json "):
        saved.check(2)


def test_a_state_from_before_the_checksum_is_read_but_not_as_that_of_another_step(saved):
    file = saved.path(2) / "state.json"
    values = json.loads(file.read_text())
    del values["checksum"], values["memory"]["pending"], values["memory"]["metrics_sha256"]
    file.write_text(json.dumps(values))
    assert saved.check(2) == MEMORY
    saved.path(2).rename(saved.path(5))
    with pytest.raises(StateDamaged, match=r"its state\.json is that of step 2"):
        saved.check(5)


def test_the_newest_whole_state_is_found_and_newer_ones_can_be_set_aside(saved):
    saved.keep = 3
    for step in (4, 6):
        saved.save(*trained(), Memory(updates=step))
        (saved.path(step) / "state.json").write_text("{")
    memory, damaged = saved.newest()
    assert memory == MEMORY
    assert list(damaged) == [6, 4]
    assert saved.set_aside(6) == saved.folder / "damaged-step-000006"
    saved.path(4).rename(saved.path(6))
    assert saved.set_aside(6) == saved.folder / "damaged-step-000006-2"
    assert saved.steps() == [2]


def test_a_state_that_cannot_be_written_leaves_the_one_before(saved):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with pytest.raises(DataError, match="; free some space or choose another place"):
            saved.save(*trained(), Memory(updates=4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.steps() == [2]
    assert os.listdir(saved.folder) == ["step-000002"]
