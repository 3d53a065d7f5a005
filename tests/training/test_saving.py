"""What is saved beside a training is what there was when it was copied; failures are told."""

import threading

import pytest
import torch
from tests.conftest import random_model, random_tokens

from igpt.errors import DataError
from igpt.objectives.autoregressive import autoregressive
from igpt.training.config import TrainingConfig
from igpt.training.optimizer import build_optimizer
from igpt.training.saving import Writer
from igpt.training.state import Checkpoints, Memory, Tensors


def learn(model, optimizer):
    autoregressive(model, random_tokens())["loss"].backward()
    optimizer.step()
    optimizer.zero_grad()


def test_a_copy_stays_what_it_was_while_the_network_learns(tmp_path):
    model = random_model()
    optimizer = build_optimizer(model, TrainingConfig(steps=10, learning_rate=0.01))
    learn(model, optimizer)
    at_once, later = Checkpoints(tmp_path / "at once"), Checkpoints(tmp_path / "later")
    at_once.save(model, optimizer, Memory(updates=1))
    copied = Tensors.of(model, optimizer, copied=True)
    learn(model, optimizer)
    later.write(copied, Memory(updates=1))
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (later.path(1) / name).read_bytes() == (at_once.path(1) / name).read_bytes()
    assert not torch.equal(model.token_embedding, copied.weights["token_embedding"])


def test_one_thing_is_done_at_a_time_and_beside():
    writer, go_on, done = Writer(beside=True), threading.Event(), []

    def work(number):
        assert go_on.wait(60)
        done.append(number)

    writer.begin(lambda: work(1))
    assert done == []
    writer.check()  # nothing has failed yet
    go_on.set()
    writer.begin(lambda: work(2))
    assert 1 in done
    writer.wait()
    assert done == [1, 2]
    writer.close()


@pytest.mark.parametrize("told_by", ["begin", "check", "wait"])
def test_what_fails_is_raised_as_itself_and_once(told_by):
    writer, error, failed = Writer(beside=True), DataError("the disk is full"), threading.Event()

    def fail():
        failed.set()
        raise error

    writer.begin(fail)
    assert failed.wait(60)
    with pytest.raises(DataError) as raised:
        while told_by == "check":  # it may be about to end
            writer.check()
        writer.begin(lambda: None) if told_by == "begin" else writer.wait()
    assert raised.value is error
    writer.wait()
    writer.close()


def test_closing_waits_and_leaves_the_error_there_is():
    writer, done = Writer(beside=True), []

    def work():
        done.append(1)
        raise DataError("not to be told")

    writer.begin(work)
    writer.close()
    assert done == [1]


def test_what_is_not_to_be_done_beside_is_done_at_once():
    writer, done = Writer(beside=False), []
    writer.begin(lambda: done.append(threading.current_thread()))
    assert done == [threading.main_thread()]
    writer.close()
