"""The processes of a Ray cluster as the engine of a preparation, for sets that outgrow a machine.

    with cluster("local") as engine:     # or the address of one that is there
        engine.map(work, split, numbers)

Ray Data sends out some images at a time, by what names them (a path, a place in an archive, a row
of a table) and not by what is in them: whoever works on them reads them, so every node has to reach
the source, on a shared disk, the hub or an object store. What is made of them comes back in their
order to this process, which writes it. Ray is needed for nothing else, and imported here alone; it
never feeds training.

What is sent is pickled, by this process and for it.
"""

import importlib
import logging
import os
import pickle
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int64

from igpt.data.engines import Outcome, Work
from igpt.data.reading import versions
from igpt.data.sources import SourceImage, SourceSplit
from igpt.errors import ConfigError, DataError, IgptError

LOCAL = "local"
"""The address that starts a cluster of this machine alone."""

_CHUNK = 128  # images that are sent out together: a third of a second, where a task costs some ms
_AT_ONCE = 2**20  # images from whose names tasks are made at a time, of some 160 bytes each
_PATIENCE = 20  # seconds for a cluster to answer

_Task = tuple[Work, Callable[[int], SourceImage], list[int]]


@contextmanager
def cluster(address: str, *, workers: int | None = None) -> Iterator["RayCluster"]:
    """Connect to a Ray cluster, or start one here and stop it when the block ends.

    A connection that this process has already is used, and stays.

    Args:
        address: Such as 10.0.0.1:6379 or auto, or "local".
        workers: How many processes the local one has, one for each core by default.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster.
    """
    ray = _ray()
    if ray.is_initialized():
        yield RayCluster()
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
    of_local = {"num_cpus": workers, "include_dashboard": False} if address == LOCAL else {}
    try:
        if server := re.fullmatch(r"([\w.-]+):(\d+)", address):  # Ray would wait for it for minutes
            socket.create_connection((server[1], int(server[2])), timeout=_PATIENCE).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **of_local)
    except Exception as error:  # Ray's own and those of its network, of many kinds
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise ConfigError(
            f"there is no Ray cluster at {address} ({reason}); start one with `ray start --head`, "
            f"or one of this machine alone with --ray {LOCAL}"
        ) from error
    try:
        yield RayCluster()
    finally:
        ray.shutdown()


class RayCluster:
    """The cluster that this process is connected to."""

    budget = None

    def map(
        self, work: Work[Outcome], split: SourceSplit, numbers: Int64[np.ndarray, " image"]
    ) -> Iterator[Outcome]:
        """Yield the outcome for each image in order.

        Raises:
            ConfigError: The images are in the memory of this process alone, or a node has other
                versions of what shapes pixels.
            IgptError: What the work raises.
        """
        if split.sendable is None:
            raise ConfigError(
                "these images are read by this process alone, and cannot be shared by several; "
                "leave out --ray"
            )
        for first in range(0, len(numbers), _AT_ONCE):
            tasks: list[_Task] = [
                (work, split.sendable(chunk), chunk)
                for chunk in _chunks(numbers[first : first + _AT_ONCE], split.blocks)
            ]
            for outcomes in _done_in_order(tasks):
                yield from outcomes


def _chunks(
    numbers: Int64[np.ndarray, " image"], blocks: Int64[np.ndarray, " block"] | None
) -> Iterator[list[int]]:
    """Yield some numbers at a time: those of a block, if there are any, or else `_CHUNK`."""
    if blocks is None:
        ends = range(_CHUNK, len(numbers), _CHUNK)
    else:
        block = np.searchsorted(blocks, numbers, side="right")
        ends = (np.flatnonzero(np.diff(block)) + 1).tolist()
    for chunk in np.split(numbers, ends):
        if len(chunk):
            yield chunk.tolist()


def _done_in_order(tasks: Sequence[_Task]) -> Iterator[list[Any]]:
    """Yield what each task comes to, in order, with a bounded number of them under way."""
    rows = [{"task": pickle.dumps(task), "versions": versions()} for task in tasks]
    for row in rows_in_order(rows, _done):
        outcomes = pickle.loads(row["outcomes"])
        if isinstance(outcomes, IgptError):
            raise outcomes
        yield outcomes


def rows_in_order(rows: Sequence[dict[str, Any]], function: Any, **options: Any) -> Iterator[Any]:
    """Yield what Ray Data makes of each row, in order, with a bounded number under way.

    Args:
        rows: Names of columns and their values.
        function: Given a row, returns one; or a class whose instances do, one a process.
        options: Those of `ray.data.Dataset.map`.

    Raises:
        DataError: The cluster failed.
    """
    if not rows:
        return
    dataset = importlib.import_module("ray.data").from_items(
        list(rows), override_num_blocks=len(rows)
    )
    dataset.context.enable_progress_bars = False
    dataset.context.execution_options.preserve_order = True
    with _quiet(), _failures_told():
        yield from dataset.map(function, **options).iter_rows()


def shared(value: Any) -> Callable[[], Any]:
    """Return what gives a value in every process of the cluster, which is sent to a node once."""
    return partial(_ray().get, _ray().put(value))


def resources(kind: str) -> float:
    """Return how much of "CPU" or "GPU" the cluster has."""
    return _ray().cluster_resources().get(kind, 0.0)


def _done(row: Mapping[str, Any]) -> dict[str, bytes]:
    """Do a task, in a process of the cluster."""
    try:
        if (here := versions()) != row["versions"]:
            raise ConfigError(
                f"a node of the cluster has {_shown(here)}, where {_shown(row['versions'])} is "
                "wanted, so its pixels could differ; install the same there"
            )
        work, image, numbers = pickle.loads(row["task"])
        outcomes = work(image, numbers)
    except IgptError as error:
        outcomes = error
    return {"outcomes": pickle.dumps(outcomes)}


def _shown(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError("--ray needs an extra; pip install 'igpt[ray]'") from error


@contextmanager
def _failures_told() -> Iterator[None]:
    """Turn what goes wrong in the cluster itself into one line for the user."""
    try:
        yield
    except _ray().exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise DataError(
            f"the Ray cluster failed ({(lines or [type(error).__name__])[-1]}); give the same "
            "command again, which keeps the shards that are there"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Ray Data tells of each of its plans."""
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
