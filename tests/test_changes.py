from tests.system import require_refusals, run

_WORK = """
import os, sys, threading
from pathlib import Path
from tests.changes import changes, deaths, killed
home = Path(sys.argv[1])

def write():
    with open(home / "aside", "wb") as file:
        file.write(b"abcdef")
    (home / "aside").rename(home / "file")

def work():
    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    (home / "folder").mkdir()
    os.chdir(home / "folder")
    os.rmdir("../folder")
    (home.parent / "elsewhere").write_text("no change here")
"""


def test_every_change_is_seen_in_any_thread_and_by_any_path(tmp_path):
    require_refusals()
    (tmp_path / "home").mkdir()
    code = _WORK + "print(*[f'{change.call} {change.path}' for change in changes(work, home)])"
    assert run(code, tmp_path / "home").replace("mkdirat", "mkdir").split() == [
        "openat", "aside", "write", "aside", "rename", "aside",
        "mkdir", "folder", "rmdir", "folder",
    ]  # fmt: skip


def test_what_is_killed_before_a_change_has_done_all_before_it_and_no_more(tmp_path):
    require_refusals()
    code = _WORK + (
        "for change in deaths(write, home):\n"
        "    texts = {path.name: path.read_text() for path in home.iterdir()}\n"
        "    print(change and change.call, texts)\n"
        "(home / 'file').unlink()\n"
        "print(killed(write, home, 1, half=True).call, (home / 'aside').read_text())\n"
    )
    assert run(code, tmp_path).splitlines() == [
        "openat {}",
        "write {'aside': ''}",
        "rename {'aside': 'abcdef'}",
        "None {'file': 'abcdef'}",
        "write abc",
    ]
