"""A server that runs: pixels come as they are drawn, and who goes away is drawn for no longer."""

import asyncio
import json
import random
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from tests.serve.serving import SlowModels, in_a_process, picture_file, running

from igpt.pixels.nearest import FEW_COLORS
from igpt.serve.app import create_app
from igpt.serve.limits import Limits
from igpt.serve.models import Models


@pytest.fixture
def slow(folders):
    return SlowModels(folders[:1], device="cpu")


def drawing(client, **asked):
    return client.stream("POST", "/api/models/a/completions", json=asked)


def test_pixels_come_while_the_others_are_drawn(slow):
    with running(slow) as client, drawing(client, samples=1) as answer:
        arrived = [time.monotonic() for line in answer.iter_lines() if "drawn" in line]
    assert len(arrived) > 2
    assert arrived[-1] - arrived[0] > 0.15


def test_a_client_that_goes_away_stops_its_drawing_and_frees_its_place(slow):
    with running(slow, Limits(at_once=1, queue=0)) as client:
        with drawing(client) as answer:
            next(answer.iter_lines())
        deadline = time.monotonic() + 10
        while client.post("/api/models/a/completions", json={"samples": 1}).status_code == 429:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert slow.computed < 5 + 2 + 2  # a whole drawing, and no whole other one


def test_who_waits_is_told_so_and_who_finds_no_place_is_refused(slow):
    with running(slow, Limits(at_once=1, queue=1)) as client, ThreadPoolExecutor() as pool:
        with drawing(client) as first:
            lines = first.iter_lines()
            next(lines)

            def waited():
                with drawing(client) as second:
                    return [json.loads(line) for line in second.iter_lines()]

            second = pool.submit(waited)
            time.sleep(0.1)
            third = client.post("/api/models/a/completions", json={})
            list(lines)
        assert third.status_code == 429
        assert third.headers["retry-after"] == "2"
        assert "try again" in third.json()["detail"]
        came = second.result()
    assert came[0] == {"event": "waiting", "ahead": 1}
    assert came[-1]["event"] == "done"


def test_one_who_leaves_the_queue_keeps_nobody_waiting(slow):
    with running(slow, Limits(at_once=1, queue=1)) as client, drawing(client) as first:
        next(first.iter_lines())
        with drawing(client) as second:
            next(second.iter_lines())
        time.sleep(0.05)
        with drawing(client) as third:
            assert [line for line in third.iter_lines() if "done" in line]


def test_a_short_question_is_answered_between_the_pieces_of_a_drawing(slow):
    with running(slow) as client, drawing(client) as answer:
        lines = answer.iter_lines()
        next(lines)
        asked = {"tokens": [0] * 16, "position": 3}
        assert client.post("/api/models/a/distribution", json=asked).status_code == 200
        assert sum("drawn" in line for line in lines) > 4


def begin_upload(client):
    """Begin to send a picture of which nothing comes, and return the connection."""
    connection = socket.create_connection((client.base_url.host, client.base_url.port))
    connection.sendall(
        b"POST /api/models/a/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    )
    return connection


def test_pictures_that_arrive_slowly_have_places_of_their_own_and_keep_nobody_from_work(folders):
    with running(Models(folders[:1], device="cpu")) as client, ExitStack() as stack:
        uploads = [stack.enter_context(begin_upload(client)) for _ in range(8 + 64 + 1)]
        answered, _, _ = select.select(uploads, [], [], 30)
        assert [one.recv(12) for one in answered] == [b"HTTP/1.1 429"]
        asked = {"tokens": [0] * 16, "position": 3}
        found = client.post("/api/models/a/distribution", json=asked, timeout=30)
        assert found.status_code == 200


def test_a_picture_that_breaks_off_is_no_fault_of_the_server_s(folders, capsys):
    with running(Models(folders[:1], device="cpu")) as client:
        begin_upload(client).close()
        client.get("/api/models/a")
    assert capsys.readouterr().err == ""


async def drawn_for(app, *, read):
    """Ask an application for a drawing; return the answer's status, though it may not be read."""
    scope = {
        "type": "http", "method": "POST", "path": "/api/models/a/completions", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }  # fmt: skip
    coming = asyncio.Queue()
    coming.put_nowait({"type": "http.request", "body": b"{}"})
    statuses = []

    async def send(message):
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif not read:
            await asyncio.Event().wait()

    await asyncio.wait_for(app(scope, coming.get, send), 10)
    return statuses


def test_a_client_that_does_not_read_its_drawing_loses_its_place(folders):
    async def use(app):
        stuck = asyncio.create_task(drawn_for(app, read=False))
        await asyncio.sleep(0.1)
        refused = await drawn_for(app, read=True)
        return await stuck, refused, await drawn_for(app, read=True)

    models = Models(folders[:1], device="cpu")
    app = create_app(models, Limits(at_once=1, queue=0), patience=0.5)
    assert asyncio.run(use(app)) == ([200], [429], [200])
    models.close()


def seconds_of_use(client, seed, problems, until):
    """Do what people do at a page, in any order, until it is time; note what went wrong."""
    chance, done = random.Random(seed), 0
    read = client.post("/api/models/a/tokens", content=picture_file()).json()["tokens"]
    expected: dict[int, dict] = {}
    while time.monotonic() < until:
        what, number = chance.randrange(4), chance.randrange(3)
        try:
            if what == 0:
                asked = {"tokens": read, "seed": number, "samples": 2}
                answer = client.post("/api/models/a/completions", json=asked)
                if answer.status_code == 200:
                    drawn = [json.loads(line) for line in answer.text.splitlines()]
                    pixels = {
                        (line["sample"], position): token
                        for line in drawn
                        if line["event"] == "drawn"
                        for position, token in zip(line["positions"], line["tokens"], strict=True)
                    }
                    if len(pixels) != 2 * 8 or expected.setdefault(number, pixels) != pixels:
                        problems.append(f"seed {number}: {answer.text}")
            elif what == 1:
                asked = {"tokens": read, "position": number}
                answer = client.post("/api/models/a/distribution", json=asked)
            elif what == 2:
                answer = client.post("/api/models/a/tokens", content=picture_file())
                if answer.status_code == 200 and answer.json()["tokens"] != read:
                    problems.append(answer.text)
            else:
                with drawing(client) as answer:
                    next(answer.iter_lines(), None)
            if answer.status_code not in (200, 429):
                problems.append(f"{answer.status_code}: {answer.text}")
            done += answer.status_code == 200
            if answer.status_code == 429:
                time.sleep(int(answer.headers["retry-after"]) / 4)
        except httpx.HTTPError as error:
            problems.append(repr(error))
    return done


def many_at_once(address, *, clients, seconds):
    with httpx.Client(base_url=address, timeout=60) as client:
        assert client.get("/api/models/a").status_code == 200  # once it is loaded
    problems: list[str] = []
    until = time.monotonic() + seconds

    def one(seed):
        with httpx.Client(base_url=address, timeout=60) as client:
            return seconds_of_use(client, seed, problems, until)

    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(one, range(clients)))
    assert problems == []
    assert sum(done) > clients


def test_several_clients_at_once_get_each_their_own_answers(folders):
    with running(Models(folders[:1], device="cpu")) as client:
        many_at_once(str(client.base_url), clients=5, seconds=3)


def resident_bytes(process):
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_fifty_clients_for_two_minutes_leave_memory_as_it_was(folders):
    with in_a_process(folders[0]) as (address, server):
        with httpx.Client(base_url=address, timeout=60) as client:
            for _ in range(FEW_COLORS // 16 + 1):  # 32 MiB come once: the palette's table
                assert client.post("/api/models/a/tokens", content=picture_file()).is_success
        many_at_once(address, clients=50, seconds=20)
        before = resident_bytes(server)
        many_at_once(address, clients=50, seconds=120)
        assert resident_bytes(server) - before < 2**24
