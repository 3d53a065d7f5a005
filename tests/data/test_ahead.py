"""Batches that are made ready ahead are those that would have been made, in order, and not many."""

import threading
import time

import numpy as np
import pytest
import torch

from igpt.data.ahead import prepared_ahead
from igpt.data.batches import Batch, TokenBatches
from igpt.data.store import Records
from igpt.errors import DataError
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer

CPU = torch.device("cpu")


def numbered(step):
    return Batch(tokens=torch.full((1, 1), step), labels=None)


def number(batch):
    return batch.tokens.item()


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_the_batch_of_each_step_is_the_same(ahead):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    records = Records(name="train", images=pixels, labels=np.arange(24), class_names=None)
    colors = np.random.default_rng(1).uniform(-1, 1, (16, 3)).astype(np.float32)
    batches = TokenBatches(
        records, ImageTokenizer(Palette(colors), 8), batch_size=8, seed=3,
        augmentation="random-resize-crop",
    )  # fmt: skip
    with prepared_ahead(batches.at, range(2, 12), ahead=ahead, device=CPU) as batch_at:
        for step in range(2, 12):
            found, wanted = batch_at(step), batches.at(step)
            assert torch.equal(found.tokens, wanted.tokens)
            assert torch.equal(found.labels, wanted.labels)


def test_they_are_made_while_another_is_learned_from_and_no_more_than_asked_for():
    begun, in_time = [], threading.Event()

    def batch_at(step):
        begun.append(step)
        if step == 3:
            in_time.set()
        return numbered(step)

    with prepared_ahead(batch_at, range(8), ahead=2, device=CPU) as ready_at:
        for step in range(8):
            assert number(ready_at(step)) == step
            if step == 1:
                assert in_time.wait(60)
            assert max(begun) <= step + 2
    assert sorted(begun) == list(range(8))


def test_an_error_is_raised_as_itself_at_its_own_step():
    error = DataError("the third cannot be read")

    def batch_at(step):
        if step == 2:
            raise error
        return numbered(step)

    with prepared_ahead(batch_at, range(5), ahead=3, device=CPU) as ready_at:
        assert [number(ready_at(step)) for step in (0, 1)] == [0, 1]
        with pytest.raises(DataError) as raised:
            ready_at(2)
    assert raised.value is error


@pytest.mark.parametrize("how", ["early", "by an error", "by Ctrl-C"])
def test_nothing_is_under_way_once_the_block_has_ended(how):
    begun, before = [], threading.active_count()

    def batch_at(step):
        begun.append(step)
        time.sleep(0.02)
        return numbered(step)

    error = {"by an error": DataError, "by Ctrl-C": KeyboardInterrupt}.get(how, StopIteration)
    with (
        pytest.raises(error),
        prepared_ahead(batch_at, range(100), ahead=2, device=CPU) as ready_at,
    ):
        ready_at(0)
        raise error
    assert threading.active_count() == before
    assert len(begun) <= 3
