import asyncio
import shutil
import zlib

import pytest
from starlette.exceptions import HTTPException
from tests.serve.serving import asking, picture_file

from igpt.pixels.decoding import MAX_PIXELS
from igpt.serve.limits import MAX_JSON, Limits
from igpt.serve.security import BodyLimit


def detail(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    (text,) = answer.json().values()
    assert "\n" not in text
    return text


def huge_png(side=20_000):
    """A PNG of a few bytes that says to be large."""

    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = side.to_bytes(4) * 2 + bytes([8, 0, 0, 0, 0])
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.1.7", "BOX.local"],
)
def test_the_server_answers_to_its_own_names_and_to_addresses(strict, host):
    assert strict.get("/api/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", ":", "a:b:c"],
)
def test_a_name_that_was_bent_to_this_machine_is_refused(strict, host):
    assert "name" in detail(strict.get("/api/models", headers={"Host": host}), 421)


def test_a_page_from_elsewhere_may_not_ask(strict):
    def ask(origin):
        return strict.post("/api/models/a/completions", json={}, headers={"Origin": origin})

    assert ask("http://localhost:8000").status_code == 200
    for origin in ("http://evil.example", "http://localhost:9000", "null"):
        assert "elsewhere" in detail(ask(origin), 403)


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/api/models", "/api/models/none", "/x"])
def test_every_answer_has_a_policy_that_lets_nothing_in_from_elsewhere(strict, path):
    headers = strict.get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_a_refusal_has_the_policy_too(strict):
    answer = strict.get("/", headers={"Host": "evil.example"})
    assert "content-security-policy" in answer.headers


def test_a_picture_of_too_many_bytes_is_refused_before_it_is_read(strict):
    answer = strict.post("/api/models/a/tokens", content=bytes(5001))
    assert detail(answer, 413) == "at most 5,000 bytes are taken; send less"


def test_a_body_that_does_not_say_how_long_it_is_is_cut_off(strict):
    def endless():
        while True:
            yield bytes(1000)

    answer = strict.post("/api/models/a/tokens", content=(next(endless()) for _ in range(6)))
    assert "5,000 bytes" in detail(answer, 413)


@pytest.mark.parametrize(("busy", "on_the_way"), [(0.2, 0.01), (0, 10)])
def test_only_the_time_that_a_body_takes_is_counted_and_not_the_server_s_own(busy, on_the_way):
    async def application(scope, receive, send):
        await asyncio.sleep(busy)
        read.append(await receive())

    async def receive():
        await asyncio.sleep(on_the_way)
        return {"type": "http.request", "body": b"all"}

    read, scope = [], {"type": "http", "path": "/", "headers": []}
    limited = BodyLimit(application, limit=9, of_json=9, seconds=0.1)
    if busy:
        asyncio.run(limited(scope, receive, None))
        assert read == [{"type": "http.request", "body": b"all"}]
    else:
        with pytest.raises(HTTPException, match="did not arrive in"):
            asyncio.run(limited(scope, receive, None))


@pytest.mark.parametrize("kind", ["application/json", "application/JSON", "image/png"])
def test_json_has_a_limit_of_its_own_whatever_it_is_called(client, kind):
    content = b'{"tokens": [' + b"1," * (MAX_JSON // 2) + b"1]}"
    headers = {"Content-Type": kind}
    answer = client.post("/api/models/a/surprise", content=content, headers=headers)
    assert "1,048,576 bytes" in detail(answer, 413)


@pytest.mark.parametrize("file", [picture_file((30, 30)), huge_png()])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(strict, file):
    answer = strict.post("/api/models/a/tokens", content=file)
    assert "where at most 300 are decoded" in detail(answer, 413)


def test_more_pixels_are_decoded_than_elsewhere_if_the_server_is_told_so(folders):
    with asking(folders, Limits(max_pixels=2 * MAX_PIXELS)) as client:
        answer = client.post("/api/models/a/tokens", content=huge_png(9500))
        assert MAX_PIXELS < 9500**2
        assert detail(answer, 422).startswith("the picture is broken")  # and not too large


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "the picture is empty; export or download it again"),
        (b"<svg/>", "the picture is not an image in a format that can be read"),
        (picture_file()[:90], "the picture is broken"),
    ],
)
def test_what_is_no_picture_gets_the_line_that_the_command_prints(client, file, said):
    assert detail(client.post("/api/models/a/tokens", content=file), 422).startswith(said)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"samples": 5}, "samples must lie between 1 and 4 here, got 5"),
        ({"samples": 0}, "samples: input should be greater than or equal to 1, got 0"),
        ({"given": 4}, "given is 4, but no tokens came; send those of a picture"),
        ({"tokens": [0] * 16, "given": 16}, "given must lie between 0 and 15"),
        ({"tokens": [0] * 15}, "a 4x4 image has 16 tokens, but these have 15"),
        ({"tokens": [16] * 16}, "tokens of a 16-color palette lie in [0, 16)"),
        ({"tokens": [0] * 16, "hidden": [3]}, "an autoregressive network draws what comes last"),
        ({"tokens": [0] * 16, "hidden": [16]}, "hidden holds positions, from 0 to 15"),
        ({"tokens": [0] * 16, "hidden": []}, "hidden holds positions, from 0 to 15, and one"),
        ({"hidden": [14, 15]}, "hidden leaves pixels to be given, but no tokens came; send those"),
        ({"given": 1, "hidden": [15]}, "say either given or hidden, and not both"),
        ({"passes": 3}, "passes and most_certain_first are for networks that were trained with"),
        ({"temperature": -1}, "temperature: "),
        ({"compile": True}, "compile: unexpected keyword argument, got True"),
        ({"seed": 2**32}, "seed: "),
        (
            {"seed": "x" * 10**5},
            "seed: input should be a valid integer, unable to parse string as an integer, got "
            "'xxxxxxxxxxxx...xxxxxxxxxxxxx'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(strict, asked, said):
    answer = strict.post("/api/models/a/completions", json=asked)
    assert detail(answer, 422).startswith(said)


def test_json_that_is_not_called_so_is_refused_with_what_to_say(client):
    answer = client.post("/api/models/a/completions", content=b'{"samples": 2}')
    assert "send it with Content-Type: application/json" in detail(answer, 422)


def test_no_number_is_too_strange_for_an_answer(client):
    headers = {"Content-Type": "application/json"}
    for content in (
        '{"temperature": NaN}',
        '{"seed": 1e999}',
        "[" * 50_000,
        '{"top_p": "\\u0000"}',
    ):
        answer = client.post("/api/models/a/completions", content=content, headers=headers)
        detail(answer, 400 if content.startswith("[[") else 422)


def test_a_model_that_is_not_there_is_named_with_those_that_are(client):
    assert detail(client.get("/api/models/none"), 404).endswith("choose from a, bert")


def test_no_path_of_the_server_is_in_an_answer(own_folders, capsys):
    shutil.rmtree(own_folders[0])
    with asking(own_folders) as client:
        said = detail(client.get("/api/models/a"), 503)
        assert "secret" not in said
        assert str(own_folders[0]) in capsys.readouterr().err
        assert client.get("/api/models").json()["models"][0]["state"] == "failed"
        for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd"):
            assert client.get(path).status_code == 404


def test_a_model_that_failed_is_tried_again(own_folders, pretrained, capsys):
    shutil.rmtree(own_folders[0])
    with asking(own_folders) as client:
        assert client.get("/api/models/a").status_code == 503
        pretrained.save(own_folders[0])
        assert client.get("/api/models/a").status_code == 200
