"""Which process this is, of how many, and on which device: the one place that knows of others.

    torchrun --nproc-per-node 4 -m igpt pretrain ...     # starts four, which work as one

Everything drawn for a batch is drawn for the whole of it, and each process takes its `share`, so
that a batch is the same on any number of processes. Sums are added up over all (`total`), what
clocks and signals decide is decided by `agree`, and what is written is written by the first alone
(`by_first`). Alone, all of this does nothing.

The processes are started, watched and started again by PyTorch's own launcher, torchrun; they speak
through its groups: gloo between processors, NCCL between GPUs. `igpt.training.parallel` says how
weights and gradients are spread over them.
"""

import datetime
import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed

from igpt.errors import ConfigError, IgptError
from igpt.files import written_aside

Value = TypeVar("Value")
Group: TypeAlias = distributed.ProcessGroup

MINUTES = 30.0
"""How long processes wait for one that does not answer, if nothing else is asked for."""

_LOST_CODE = 1
_MEETING_SECONDS = 0.05  # between two looks for the others
_SAY_SECONDS = 3.0  # within which those that are left say so
_SAVING_SECONDS = 60  # that `launch` leaves processes to save, once they are to stop


class ProcessLost(IgptError):
    """Another process of the group ended or hangs; what was saved last can be gone on with."""

    exit_code = _LOST_CODE


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if _together() else 0


def count() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if _together() else 1


def first() -> bool:
    """Say whether this is the process that writes."""
    return rank() == 0


def share(whole: Tensor) -> Tensor:
    """Return what belongs to this process of something with a row for each image of a batch."""
    return whole[rank() :: count()]


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is a GPU, or else the CPU.

    Of several GPUs it is the first, or, where a launcher started this process, the one of its
    number on this machine.

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and launched():
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # "meta" holds nothing that could come back
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ConfigError(f"no device {name!r} here; try --device cpu") from error
    return device


def has_idle_cores() -> bool:
    """Say whether this machine has more cores than the processes on it have threads to compute."""
    return allowed_cores() > int(os.environ.get("LOCAL_WORLD_SIZE", "1")) * torch.get_num_threads()


def require_divisible(batch_size: int) -> None:
    """See that a batch can be shared out evenly.

    Raises:
        ConfigError: It cannot.
    """
    if over := batch_size % count():
        lower, higher = batch_size - over, batch_size - over + count()
        sizes = " or ".join(str(size) for size in (lower, higher) if size)
        raise ConfigError(
            f"batch_size={batch_size} does not divide among {count()} processes; set "
            f"training.batch_size={sizes}, or start another number of them"
        )


def total(values: Sequence[float]) -> list[float]:
    """Return the sums over all processes of some numbers, the same ones everywhere."""
    if count() == 1:
        return list(values)
    return _reduced(values, distributed.ReduceOp.SUM)


def agree(*values: int, group: Group | None = None) -> tuple[int, ...]:
    """Return the largest of each number over all processes, so that all decide alike."""
    if count() == 1:
        return values
    return tuple(map(int, _reduced(values, distributed.ReduceOp.MAX, group)))


def second_group() -> Group | None:
    """Return a group of all processes, for another thread of each to speak in; None of one alone.

    Every process must ask for it. Whatever takes a group is spoken in the first one by default.
    """
    if count() == 1:
        return None
    first_group = distributed.group.WORLD
    assert first_group is not None
    timeout = first_group._get_backend(torch.device("cpu")).options._timeout
    group = distributed.new_group(backend="gloo", timeout=timeout)
    assert isinstance(group, distributed.ProcessGroup)
    return group


def merge(array: np.ndarray) -> None:
    """Add up an array over all processes, in place; each has its own rows, and zeros elsewhere."""
    if count() > 1:
        distributed.all_reduce(torch.from_numpy(array))


def by_first(act: Callable[[], Value], group: Group | None = None) -> Value:
    """Have the first process do something, and return to all of them what it returned.

    Where it fails, its error is raised there, and ends the others.
    """
    if count() == 1:
        return act()
    outcome: list[Any] = [None, None]
    failed: BaseException | None = None
    if first():
        try:
            outcome[0] = act()
        except BaseException as error:
            outcome[1], failed = _exit_code(error), error
    # pickled, by this group's own processes and for them
    distributed.broadcast_object_list(outcome, device=torch.device("cpu"), group=group)
    if failed is not None:
        raise failed
    if outcome[1] is not None:
        raise SystemExit(outcome[1])
    return outcome[0]


def gather(value: Value, group: Group | None = None) -> list[Value]:
    """Return the value of each process, in their order."""
    values = [value] * count()
    if count() > 1:
        distributed.all_gather_object(values, value, group)  # pickled, as above
    return values


@contextmanager
def written_aside_by_all(path: Path, group: Group | None = None) -> Iterator[Path]:
    """Yield a temporary folder that all processes write into; rename it to `path` when all have.

    As `igpt.files.written_aside`, for a folder, which is there already.
    """
    if first():
        with written_aside(path) as aside:
            aside.mkdir()
            yield by_first(lambda: aside, group)
            agree(0, group=group)  # all are done
    else:
        yield by_first(lambda: path, group)
        agree(0, group=group)


def launched() -> bool:
    """Say whether torchrun, or what it is made of, started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def launch(processes: int) -> int:
    """Start this very command in several processes on this machine, and return its exit code.

    That of the first that failed, if one did; 128 and the signal's number after a signal, which is
    passed on to all.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, allowed_cores() // processes)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex,
        rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost", max_restarts=0,
        shutdown_timeout=_SAVING_SECONDS,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code
    except SignalException as stopped:
        return 128 + stopped.sigval
    return 0


@contextmanager
def together(device: str = "auto", *, minutes: float = MINUTES) -> Iterator[None]:
    """Let the processes that a launcher started work as one while in the block.

    Without a launcher, or where they do so already, this does nothing. What goes wrong is raised in
    one process, the first that comes to it, and ends the others with the same exit code.

    Args:
        device: As in `choose_device`.
        minutes: How long to wait for a process that does not answer.

    Raises:
        ConfigError: There is no such device here.
        ProcessLost: A process ended without a word, or does not answer.
    """
    if _together() or not launched():
        yield
        return
    timeout = datetime.timedelta(minutes=minutes)
    shared, number, processes = next(distributed.rendezvous("env://", timeout=timeout))
    store = _of_this_round(shared, number, processes, timeout)
    words = distributed.PrefixStore("words", store)
    try:
        chosen = choose_device(device)
        backend = "gloo"
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
            backend = "cpu:gloo,cuda:nccl"
        distributed.init_process_group(
            backend, store=store, rank=number, world_size=processes, timeout=timeout
        )
        yield
    except SystemExit:  # of a process that another has told to end
        raise
    except BaseException as error:
        _end_with(error, words, number, processes, minutes)
    if _together():
        distributed.destroy_process_group()


def _of_this_round(
    shared: distributed.Store, number: int, processes: int, timeout: datetime.timedelta
) -> distributed.Store:
    """Return a store of words that only these processes have part in.

    The launcher's lives on when its processes are started again, and with it the addresses of those
    before, by which nobody can be reached any more. So the first names the round, waits for all to
    answer under that name, and lists what they answered. A list from before lacks this process.
    """
    mine, deadline = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    name = "igpt round"
    if number == 0:
        shared.set(name, mine)
    while time.monotonic() < deadline:
        round = shared.get(name).decode() if shared.check([name]) else ""
        complete = f"{round} complete"
        if number == 0:
            answers = [f"{round} {other}" for other in range(1, processes)]
            if shared.check(answers):
                shared.set(complete, " ".join(shared.get(one).decode() for one in answers))
                return distributed.PrefixStore(round, shared)
        elif round:
            shared.set(f"{round} {number}", mine)
            if shared.check([complete]) and mine in shared.get(complete).decode():
                return distributed.PrefixStore(round, shared)
        time.sleep(_MEETING_SECONDS)
    raise ProcessLost(
        f"not all of {processes} processes have begun within {timeout.total_seconds():g} s; see "
        "whether their machines reach each other"
    )


def _end_with(
    error: BaseException, words: distributed.Store, number: int, processes: int, minutes: float
) -> None:
    """Raise the error, or where another process has raised one, end with its code.

    Raises:
        ProcessLost: The error is but that of a connection to a process that is gone or hangs.
    """
    text = str(error)
    lost = isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in text or "Connection" in text)
    )
    if lost:  # its reason may be on its way
        words.set(f"left {number}", "")
        time.sleep(_SAY_SECONDS)
    mine = f"{number} {_exit_code(error)}"
    said = words.compare_set("failed", "", mine).decode()
    if said != mine:
        raise SystemExit(int(said.split()[1])) from None
    if not lost:
        raise error
    gone = [str(n) for n in range(processes) if n != number and not words.check([f"left {n}"])]
    which = f"process {', '.join(gone) or '?'} of {processes}, from 0 on,"
    if "imed out" in text or "imeout" in text:
        what = f"has not answered for {minutes:g} minutes; see whether its machine or disk hangs"
    else:
        what = "ended without a word; it may have been killed, for want of memory"
    raise ProcessLost(f"{which} {what}; igpt resume goes on from what was saved last") from error


def allowed_cores() -> int:
    """Return on how many cores of this machine the process may run."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return len(allowed) or os.cpu_count() or 1


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    return getattr(error, "exit_code", 2 if isinstance(error, IgptError) else 1)


def _reduced(
    values: Sequence[float | int], operation: Any, group: Group | None = None
) -> list[float]:
    numbers = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(numbers, operation, group)
    return numbers.tolist()


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()
