"""How much of the server one may ask for, and who waits.

    places = Places(at_once=4, waiting=32)
    async with places.at_work():         # or Busy, at once
        ...

No web framework here: the command line reads the limits before anything slow is imported.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields

from igpt.errors import ConfigError, IgptError

MAX_JSON = 2**20
"""Bytes of a request that is no picture: tokens of a 256x256 image are less than half of it."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused, so that no request takes the machine."""

    max_upload: int = 2**25
    """Bytes of a picture that is sent, 32 MiB by default."""
    max_pixels: int = 50_000_000
    """Pixels of such a picture, which take ten bytes or more each while it is decoded."""
    max_samples: int = 16
    """Images that are drawn side by side at one request."""
    at_once: int = 4
    """Requests that draw at the same time; they take turns, piece by piece."""
    queue: int = 32
    """Requests to draw that wait, beyond which they are refused."""

    def __post_init__(self) -> None:
        """Reject limits that let nothing through."""
        for one in fields(self):
            least = 0 if one.name == "queue" else 1
            if (value := getattr(self, one.name)) < least:
                raise ConfigError(f"{one.name} must be at least {least}, got {value}")


class Busy(IgptError):
    """There is no place left, at work or waiting; later there may be one."""


@dataclass(eq=False)
class Ticket:
    """A place at work or in the queue."""

    turn: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is at work."""


class Places:
    """So many at work at the same time, so many that wait in their order, and no more."""

    def __init__(self, *, at_once: int, waiting: int) -> None:
        self._free = at_once
        self._waiting = waiting
        self._queue: deque[Ticket] = deque()

    @contextmanager
    def ticket(self) -> Iterator[Ticket]:
        """Hold a place while in the block; it is at work once its `turn` is set.

        Raises:
            Busy: All places are taken, those to wait in too.
        """
        ticket = Ticket()
        if self._free:
            self._free -= 1
            ticket.turn.set()
        elif len(self._queue) < self._waiting:
            self._queue.append(ticket)
        else:
            raise Busy("too much is being done or waits to be; try again in a few seconds")
        try:
            yield ticket
        finally:
            if not ticket.turn.is_set():
                self._queue.remove(ticket)
            elif self._queue:
                self._queue.popleft().turn.set()
            else:
                self._free += 1

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Wait for a place at work, and hold it while in the block.

        Raises:
            Busy: All places are taken, those to wait in too.
        """
        with self.ticket() as ticket:
            await ticket.turn.wait()
            yield

    def ahead(self, ticket: Ticket) -> int:
        """Return how many wait before this one, and itself; 0 for one that is at work."""
        return 0 if ticket.turn.is_set() else self._queue.index(ticket) + 1
