import socket
import time

import pytest
from tests.serve.serving import running

from igpt.serve.connections import AskingConnection
from igpt.serve.models import Models

HEAD = b"GET /api/models HTTP/1.1\r\nHost: localhost\r\n"


class HastyConnection(AskingConnection):
    seconds = 0.3


@pytest.fixture(scope="module")
def client(folders):
    with running(Models(folders[:1], device="cpu"), http=HastyConnection) as client:
        yield client


def connected(client):
    connection = socket.create_connection((client.base_url.host, client.base_url.port))
    connection.settimeout(5)
    return connection


def test_who_asks_nothing_is_not_waited_for(client):
    with connected(client) as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize("asked_before", [False, True])
def test_who_does_not_end_what_is_asked_is_not_waited_for(client, asked_before):
    with connected(client) as connection:
        if asked_before:
            connection.sendall(HEAD + b"\r\n")
            assert connection.recv(2**16).startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD)
        connection.setblocking(False)
        deadline = time.monotonic() + 5
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() < deadline:
                connection.sendall(b"X: y\r\n")
                time.sleep(0.05)


def test_who_has_asked_is_waited_for(client):
    with connected(client) as connection:
        connection.sendall(
            b"POST /api/models/a/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        )
        time.sleep(3 * HastyConnection.seconds)
        connection.sendall(b"{}")
        answer = b"".join(iter(lambda: connection.recv(2**16), b""))
    assert b'"event":"done"' in answer
