"""Ctrl-C and SIGTERM while a network learns: the first time kindly, the second at once.

signals = StopSignals()
with signals.caught():
...                       # now and then: is signals.received set?
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from igpt.errors import IgptError


class Interrupted(IgptError):
    """Stopped by a signal, with everything saved; the message says how to go on."""

    def __init__(self, done: str, *, signal_number: int, again: str = "the same command") -> None:
        super().__init__(f"{done}; go on with {again}")
        self.done = done
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number


class StopSignals:
    """Whether someone asked to stop."""

    def __init__(self, *, repeated: bool = False) -> None:
        """Begin with none.

        Args:
            repeated: One wish to stop may come several times, as a launcher passes on what has come
                to all processes already; then a second signal asks for nothing more.
        """
        self.received: int | None = None
        self._repeated = repeated

    def _receive(self, number: int, _: object) -> None:
        if self.received is not None:
            if self._repeated:
                return
            raise KeyboardInterrupt
        self.received = number

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take note of SIGINT and SIGTERM while in the block; only the main thread can."""
        old = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                old[number] = signal.signal(number, self._receive)
            except ValueError:  # not in the main thread: leave signals to the caller
                break
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
