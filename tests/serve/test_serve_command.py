import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from tests.serve.serving import in_a_process

from igpt.cli import main
from igpt.serve.server import listening_on


def said(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["serve", *map(str, arguments)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_path_without_a_model_is_refused_before_anything_is_served(capsys, tmp_path):
    assert "holds no model" in said(capsys, tmp_path)


def test_a_port_that_is_taken_is_one_line(capsys, folders):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = said(capsys, folders[0], "--port", port, "--device", "cpu")
    assert f"could not listen on 127.0.0.1, port {port}" in line
    assert "--port" in line


@pytest.mark.parametrize("host", ["203.0.113.1", "a\tb", "x" * 70])
def test_an_address_that_is_not_of_this_machine_is_one_line(capsys, folders, host):
    line = said(capsys, folders[0], "--host", host, "--port", 0, "--device", "cpu")
    assert "could not listen" in line


def test_a_limit_that_lets_nothing_through_is_one_line(capsys, folders):
    assert "max_samples must be at least 1" in said(capsys, folders[0], "--max-samples", 0)


def test_without_the_extra_it_says_what_to_install():
    code = (
        "import sys\n"
        "sys.modules['fastapi'] = None\n"
        "from igpt.serve.server import serve\n"
        "from igpt.errors import ConfigError\n"
        "try:\n"
        "    serve([])\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'igpt[web]'" in done.stdout, done.stderr


def test_help_needs_neither_the_extra_nor_torch():
    code = (
        "import sys, igpt.cli\n"
        "try:\n"
        "    igpt.cli.main(['serve', '--help'])\n"
        "except SystemExit:\n"
        "    print(sorted({'fastapi', 'uvicorn', 'torch', 'numpy'} & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("[]\n"), done.stderr


def test_without_a_model_it_serves_the_built_in_one_until_ctrl_c_without_a_fault():
    with in_a_process() as (address, server):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        assert httpx.get(address).status_code == 200
        model = httpx.get(f"{address}api/models/builtin", timeout=60).json()
        assert model["name"] == "builtin"
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
        assert server.stderr is not None
        assert server.stderr.read() == ""


def test_answers_are_not_held_back_until_their_heads_are_acknowledged():
    with (
        listening_on("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
