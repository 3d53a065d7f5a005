"""Which process this is, and of how many: the one place that knows of others.

Everything drawn for a batch is drawn for the whole of it, and each process takes its `share`, so
that a batch is the same on any number of processes. Alone, all of this does nothing.
"""

from torch import Tensor, distributed


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if _together() else 0


def count() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if _together() else 1


def share(whole: Tensor) -> Tensor:
    """Return what belongs to this process of something with a row for each image of a batch."""
    return whole[rank() :: count()]


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
