"""Several processes as one group, in which a test's function runs: no launcher, no command line."""

import os
import sys
import tempfile
from pathlib import Path

import torch
from torch import distributed, multiprocessing


def _work(rank, ranks, meeting, function, arguments):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=ranks
    )
    try:
        function(*arguments)
    finally:
        distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # as the command line's processes do: see igpt.cli.main


def run_in_group(ranks, function, *arguments):
    """Call a function of a test module in so many new processes that work as one."""
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder, "meeting")
        multiprocessing.spawn(_work, (ranks, meeting, function, arguments), nprocs=ranks)
