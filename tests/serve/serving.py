"""What tests of the server share: a picture, and a server that runs."""

import asyncio
import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from igpt.serve.app import create_app
from igpt.serve.connections import AskingConnection
from igpt.serve.limits import Limits
from igpt.serve.models import Models


class SlowModels(Models):
    """Models of which each piece takes a moment; `computed` counts what was computed."""

    computed = 0

    async def compute(self, function, *arguments, **named):
        self.computed += 1

        def slowly():
            time.sleep(0.1)
            return function(*arguments, **named)

        return await super().compute(slowly)


def picture_file(size=(20, 12), *, form="PNG") -> bytes:
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=form)
    return file.getvalue()


@contextmanager
def asking(
    folders: Sequence[Path], limits: Limits | None = None, *, names: Sequence[str] = ()
) -> Iterator[TestClient]:
    """Return a client of an application that no server runs."""
    app = create_app(Models(folders, device="cpu"), limits, names=names)
    with TestClient(app, base_url="http://localhost:8000") as client:
        yield client


@contextmanager
def in_a_process(*folders: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start `igpt serve` as people do, and return its address and its process."""
    options = ("--port", "0", "--device", "cpu")
    command = [sys.executable, "-m", "igpt", "serve", *map(str, folders), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().partition(" ")[0], server
        finally:
            server.terminate()


@contextmanager
def running(
    models: Models,
    limits: Limits | None = None,
    *,
    http: type[AskingConnection] = AskingConnection,
) -> Iterator[httpx.Client]:
    """Serve on a free port of this machine, in a thread, and return a client of it."""
    app = create_app(models, limits)
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=http, log_level="error", ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
