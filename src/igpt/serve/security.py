"""Who may ask, and what a browser may do with the answers.

A page that somebody else serves must not use this server through the browser of who visits it. It
could, by having its own name lead to this machine (DNS rebinding), or by sending requests from
where it is. So a request has to call the server by a name that is the server's own, and one that a
page sends has to come from the server's own page. Browsers are told to load nothing from elsewhere
and to show the page in no frame.

And nobody is to fill the memory or to keep a place for ever: of a body no more is read than is
allowed, and who neither sends nor reads is waited for only so long. (For who does not even ask
anything, see `igpt.serve.connections`.)
"""

import asyncio
import contextlib
import ipaddress
import json
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}


class Guard:
    """Lets through what is sent to the server by its own names, and protects the answers."""

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        """Take the application, and by which names it may be called beside `localhost`.

        Numeric addresses go without saying: no name was looked up, so nobody can have bent it.
        """
        self._app = app
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_own(host):
            await _refuse(
                send_protected, 421,
                "the server is called by a name that is not its own; use its address, or let "
                "igpt serve know the name with --allow-host",
            )  # fmt: skip
        elif origin is not None and origin.partition("://")[2].lower() != host.lower():
            await _refuse(send_protected, 403, "a page from elsewhere may not use this server")
        else:
            await self._app(scope, receive, send_protected)

    def _is_own(self, host: str) -> bool:
        """Say whether a Host header, with its port or not, is a name of the server's."""
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.lower().rstrip(".").removeprefix("[").removesuffix("]")
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class BodyLimit:
    """Reads no more of a request's body than is allowed, nor for longer."""

    def __init__(self, app: ASGIApp, *, limit: int, of_json: int, seconds: float) -> None:
        """Take the application and what is allowed.

        Args:
            app: The application.
            limit: Bytes of a picture.
            of_json: Bytes of all that is no picture, which is read as JSON whatever it is called:
                its objects take many times that.
            seconds: In which all of it has to arrive, from when it is first asked for.
        """
        self._app = app
        self._limit = limit
        self._of_json = of_json
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit if scope["path"].endswith("/tokens") else self._of_json
        too_long = HTTPException(413, f"at most {limit:,} bytes are taken; send less")
        too_late = HTTPException(
            408, f"what was sent did not arrive in {self._seconds:g} seconds; send less"
        )
        declared = Headers(scope=scope).get("content-length", "")
        read, complete, deadline = 0, False, None

        async def receive_bounded() -> Message:
            nonlocal read, complete, deadline
            if declared.isdecimal() and int(declared) > limit:
                raise too_long
            if deadline is None:  # a model that loads, or others' turns, are not the sender's time
                deadline = asyncio.get_running_loop().time() + self._seconds
            try:
                async with asyncio.timeout_at(None if complete else deadline):
                    message = await receive()
            except TimeoutError:
                raise too_late from None
            read += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if read > limit:
                raise too_long
            return message

        await self._app(scope, receive_bounded, send)


class AnswerLimit:
    """Ends an answer that is not read: who draws it would keep its place for ever."""

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        """Take the application, and in how many seconds each message has to be taken."""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def send_bounded(message: Message) -> None:
            try:
                async with asyncio.timeout(self._seconds):
                    await send(message)
            except TimeoutError:
                raise _Unread from None

        with contextlib.suppress(_Unread):  # the server then closes what is not complete
            await self._app(scope, receive, send_bounded)


class _Unread(Exception):
    """Nobody reads the answer."""


async def _refuse(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
