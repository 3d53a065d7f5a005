"""`igpt` in one of several processes, that comes to harm at a chosen moment.

    torchrun ... -m tests.parallel.victim "0 1 kill step 5, 1 0 kill saving 3" pretrain ...

Each harm is the launcher's round (0, and 1 after the first restart), the process, what befalls it,
and where: before it reads the batch of a step, or at the n-th saving or validation.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from igpt.cli import main
from igpt.data.batches import TokenBatches
from igpt.model import pretrained
from igpt.runs import pretrain

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def harmed(function: Callable[..., Any], harm: str, now: Callable[..., bool]) -> Callable[..., Any]:
    """Return a function that comes to harm when it is called at that moment."""

    def call(*arguments: Any, **named: Any) -> Any:
        if now(*arguments):
            os.kill(os.getpid(), SIGNALS[harm])
        return function(*arguments, **named)

    return call


def at_call(number: int) -> Callable[..., bool]:
    calls: list[int] = []

    def now(*_: Any) -> bool:
        calls.append(len(calls) + 1)
        return calls[-1] == number

    return now


def prepare(harms: str) -> None:
    """See that this process comes to its harm, if one of them is its own."""
    here = (os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"])
    for round, rank, harm, where, number in (one.split() for one in harms.split(",")):
        if (round, rank) != here:
            continue
        if where == "step":
            TokenBatches.at = harmed(
                TokenBatches.at, harm, lambda _, step, wanted=int(number): step == wanted
            )
        elif where == "saving":
            pretrained.write_tensors = harmed(pretrained.write_tensors, harm, at_call(int(number)))
        else:
            pretrain.evaluate = harmed(pretrain.evaluate, harm, at_call(int(number)))


if __name__ == "__main__":
    prepare(sys.argv[1])
    main(sys.argv[2:])
