"""Serving until somebody stops it.

serve([Path("runs/a")], announce=print)
"""

import contextlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from igpt.errors import ConfigError
from igpt.places import BUILTIN
from igpt.serve.limits import Limits

_CONNECTIONS = 256
_GRACE_SECONDS = 2  # for what is being drawn when it is stopped


def serve(
    paths: Sequence[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    names: Sequence[str] = (),
    limits: Limits | None = None,
    device: str = "auto",
    announce: Callable[[str], object] = print,
) -> None:
    """Serve models and the page until Ctrl-C.

    Args:
        paths: Runs, model folders and names on the hub; none for the model that comes with igpt.
        host: Address to listen on.
        port: 0 for any that is free.
        names: By which the server may be called, beside `localhost`, numeric addresses and `host`.
        limits: What is refused.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        announce: Is given the page's address once it can be asked.

    Raises:
        ConfigError: The extra is missing, there is no such device, or the address cannot be
            listened on.
    """
    try:
        import uvicorn

        from igpt.serve.app import create_app
        from igpt.serve.connections import AskingConnection
    except ImportError as error:
        raise ConfigError(
            f"igpt serve needs an extra ({error}); pip install 'igpt[web]'"
        ) from error
    from igpt.serve.models import Models

    models = Models(paths or [Path(BUILTIN)], device=device)
    with listening_on(host, port) as listening:
        app = create_app(models, limits, names=[host, *names])
        config = uvicorn.Config(
            app, http=AskingConnection, log_level="warning", access_log=False, server_header=False,
            limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=_GRACE_SECONDS,
        )  # fmt: skip
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listening.getsockname()[1]}/")
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            uvicorn.Server(config).run(sockets=[listening])


def listening_on(host: str, port: int) -> socket.socket:
    """Return a socket that listens, whose connections send at once what is written to them.

    asyncio asks for this only of sockets that were made with TCP's number, which those of
    `socket.create_server` are not. An answer's body then waits for its head to be acknowledged,
    which clients put off by some 40 ms.

    Raises:
        ConfigError: The address is taken, or none of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except (OSError, OverflowError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"could not listen on {host}, port {port}: {reason}; choose another --port (0 is any "
            "that is free) or --host"
        ) from error
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
