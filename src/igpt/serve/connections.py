"""Connections on which nothing is asked, which are not kept.

uvicorn closes one that is idle after an answer, but waits without end for the first request on it,
and for the rest of a head that has begun. As many of these as there may be connections would shut
everybody else out.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class AskingConnection(H11Protocol):
    """A connection that is closed where no request comes on it."""

    seconds = 10.0
    """For which there may be no whole head of a request; at most twice as many are waited."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, and begin to wait."""
        super().connection_made(transport)
        self._look_again(None)

    def _look_again(self, answered: object) -> None:
        self.loop.call_later(self.seconds, self._close_if_idle, answered)

    def _close_if_idle(self, answered: object) -> None:
        """Close it, if no request has come since this one was answered; None is for the first."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is answered:
            self.transport.close()
        elif not self.transport.is_closing():
            self._look_again(self.cycle if is_idle else self)  # which is no request
