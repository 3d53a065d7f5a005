import os

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from igpt import processes
from igpt.errors import ConfigError, DataError
from igpt.model.block import Dropout
from igpt.objectives.diffusion import any_share_mask
from igpt.objectives.masked import random_mask

BATCH = torch.zeros(8, 16, dtype=torch.long)


def draws(rank=0, ranks=1):
    """Return what of the pixels and features of a batch's share is hidden or dropped."""
    images = len(BATCH) // ranks
    generator = torch.Generator().manual_seed(3)
    hidden = random_mask(BATCH[rank::ranks], generator, 0.3)
    torch.manual_seed(4)
    dropout = Dropout()
    dropout.probability = 0.4
    generator = torch.Generator().manual_seed(3)
    any_share = any_share_mask(BATCH[rank::ranks], generator)
    return hidden, any_share, dropout.train()(torch.ones(images, 16, 5))


def fail():
    raise DataError("it cannot be written")


def decide(rank):
    """Add up, agree, and follow the first, in both of two processes."""
    assert processes.total([0.5, float(rank)]) == [1.0, 1.0]
    assert processes.agree(7 * rank, 1 - rank, 0) == (7, 1, 0)
    assert processes.by_first(lambda: f"of {rank}") == "of 0"
    assert processes.gather(rank) == [0, 1]
    rows = np.zeros(4)
    rows[rank::2] = 1 + rank
    processes.merge(rows)
    assert rows.tolist() == [1, 2, 1, 2]
    with pytest.raises((DataError, SystemExit)) as ended:
        processes.by_first(fail)
    assert (ended.type, str(ended.value)) == (
        (SystemExit, "2") if rank else (DataError, "it cannot be written")
    )
    with pytest.raises(ConfigError, match=r"batch_size=7 .* 2 processes; set .*batch_size=6 or 8"):
        processes.require_divisible(7)


def work(rank, ranks, folder):
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks
    )
    assert (processes.rank(), processes.count()) == (rank, ranks)
    torch.save(draws(rank, ranks), f"{folder}/{rank}.pt")
    decide(rank)
    distributed.destroy_process_group()


def test_two_processes_hide_and_drop_what_one_does_and_decide_alike(tmp_path):
    multiprocessing.spawn(work, (2, str(tmp_path)), nprocs=2)
    whole = draws()
    for rank in range(2):
        for part, all_of_it in zip(torch.load(tmp_path / f"{rank}.pt"), whole, strict=True):
            assert torch.equal(part, all_of_it[rank::2])
    assert not torch.equal(whole[0][::2], whole[0][1::2])


def test_alone_a_process_has_all_of_a_batch():
    assert (processes.rank(), processes.count()) == (0, 1)
    assert torch.equal(processes.share(BATCH), BATCH)
    assert processes.total([0.5]) == [0.5]
    assert processes.agree(3, 0) == (3, 0)
    assert processes.by_first(lambda: 5) == 5
    assert processes.gather("a") == ["a"]


def test_processes_share_the_cores_that_they_may_run_on(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {*range(6)}, raising=False)
    monkeypatch.setattr(
        "torch.distributed.launcher.api.elastic_launch", lambda *_: lambda *arguments: None
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert processes.launch(2) == 0
    assert os.environ["OMP_NUM_THREADS"] == "3"
