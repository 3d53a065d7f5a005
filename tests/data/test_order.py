import numpy as np
import pytest

from igpt.data.order import epoch_order, records_at_step
from igpt.errors import ConfigError


def read(step: int, rank: int, ranks: int) -> np.ndarray:
    return records_at_step(step, records=64, batch_size=8, seed=0, rank=rank, ranks=ranks)


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_an_epoch_reads_every_record_once_on_any_number_of_ranks(ranks):
    numbers = [read(step, rank, ranks) for step in range(8) for rank in range(ranks)]
    assert sorted(np.concatenate(numbers)) == list(range(64))


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_the_shares_of_a_batch_make_up_the_batch(ranks):
    batch = np.empty(8, dtype=np.int64)
    for rank in range(ranks):
        batch[rank::ranks] = read(11, rank, ranks)
    np.testing.assert_array_equal(batch, read(11, 0, 1))


def test_a_step_reads_the_same_records_whenever_it_is_asked_for():
    first = read(9, 0, 1)
    epoch_order.cache_clear()
    np.testing.assert_array_equal(read(9, 0, 1), first)


def test_every_epoch_and_seed_has_its_own_order():
    orders = [epoch_order(64, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({order.tobytes() for order in orders}) == 4


def test_records_that_fill_no_batch_wait_for_the_next_epoch():
    steps = [records_at_step(step, records=10, batch_size=4, seed=0) for step in range(3)]
    assert len(np.unique(np.concatenate(steps[:2]))) == 8
    np.testing.assert_array_equal(steps[2], epoch_order(10, seed=0, epoch=1)[:4])


def test_the_shared_order_cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        epoch_order(8, seed=0, epoch=0)[0] = 3


def test_a_batch_that_the_processes_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="batch_size=8 does not divide among 3"):
        records_at_step(0, records=64, batch_size=8, seed=0, ranks=3)
