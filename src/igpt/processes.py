"""Which process this is, of how many, and on which device: the one place that knows of others.

Everything drawn for a batch is drawn for the whole of it, and each process takes its `share`, so
that a batch is the same on any number of processes. Alone, all of this does nothing.
"""

import torch
from torch import Tensor, distributed

from igpt.errors import ConfigError


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if _together() else 0


def count() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if _together() else 1


def share(whole: Tensor) -> Tensor:
    """Return what belongs to this process of something with a row for each image of a batch."""
    return whole[rank() :: count()]


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is the first GPU, or else the CPU.

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # "meta" holds nothing that could come back
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ConfigError(f"no device {name!r} here; try --device cpu") from error
    return device


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
