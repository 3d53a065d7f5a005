"""One thing at a time done beside the training: a state, copied, is written while steps go on.

    writer = Writer(beside=True)
    writer.begin(write)     # waits for the one before, and returns at once
    writer.check()          # now and then: has it failed?
    writer.wait()           # it is done

What fails there is raised, as itself, by the next of these calls. Without `beside`, `begin` does
the work itself.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Writer:
    """Does what it is given, in a thread of its own or at once."""

    def __init__(self, *, beside: bool) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="saving") if beside else None
        self._under_way: Future[None] | None = None

    def begin(self, work: Callable[[], None]) -> None:
        """Begin some work once that before it is done.

        Raises:
            Exception: What that before it, or if nothing is done beside this one, raised.
        """
        self.wait()
        if self._pool is None:
            work()
        else:
            self._under_way = self._pool.submit(work)

    def check(self) -> None:
        """See that the work has not failed so far; raise what it raised if it has."""
        if self._under_way is not None and self._under_way.done():
            self.wait()

    def wait(self) -> None:
        """Wait until the work is done; raise what it raised, once."""
        future, self._under_way = self._under_way, None
        if future is not None:
            future.result()

    def close(self) -> None:
        """Let the work come to its end, for there is another error to tell of, or none."""
        with contextlib.suppress(BaseException):
            self.wait()
        if self._pool is not None:
            self._pool.shutdown()
