"""What a system does to programs, done for real: no call of Python's is replaced by another.

    run(code, ...)             a program of its own; `mounted` on a small disk, or as `nobody`
    refuse("fsync", EIO)       there: from now on the kernel refuses such calls
    deaths(work)               there: do some work again and again, dying one event later each time

A program says what it found with `print`; `run` returns that.
"""

import ctypes
import itertools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
_CALLS = {  # by the C library's names, in the kernel's numbers
    "x86_64": {"fsync": 74, "rename": 82, "link": 86, "renameat2": 316, "flock": 73},
    "aarch64": {"fsync": 82, "rename": 38, "link": 37, "renameat2": 276, "flock": 32},
}
_CHANGES = {"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
_OUR_CHANGES = {"igpt.rename", "igpt.fsync"}
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2  # of <linux/prctl.h>, <linux/seccomp.h>
_LOAD, _JUMP_IF, _RETURN = 0x20, 0x15, 0x06  # of <linux/bpf_common.h>
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000


def run(code: str, *arguments: object, mounted: tuple[Path, str] | None = None) -> str:
    """Run a program, which must end well, and return what it printed.

    Args:
        code: In Python.
        arguments: For its `sys.argv[1:]`.
        mounted: A folder on which the program, and nobody else, sees a small empty disk, and the
            options it is mounted with, such as "size=64k". The test is skipped where nobody may.
    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    if mounted is not None:
        folder, options = mounted
        mount = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
        apart = [
            "unshare",
            "--mount",
            *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]),
        ]
        tried = shutil.which("unshare") and subprocess.run(
            [*apart, "sh", "-c", mount, "sh", options, folder, "true"],
            capture_output=True,
            text=True,
        )
        if not tried or tried.returncode:
            _skip(f"cannot mount a disk here: {tried.stderr if tried else 'no unshare'}")
        command = [*apart, "sh", "-c", mount, "sh", options, str(folder), *command]
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def require_refusals() -> None:
    """Skip the test where `refuse` cannot work."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        _skip("only a Linux kernel can be asked to refuse calls")


def _skip(reason: str) -> None:
    import pytest  # which the programs need not wait for

    pytest.skip(reason)


def refuse(call: str, number: int) -> None:
    """Have the kernel refuse such calls of this process, with an error's number, for good.

    Source: seccomp(2), SECCOMP_RET_ERRNO.
    """
    words = [
        (_LOAD, 0, 0, 0),  # the call's number is the first word that a filter sees
        (_JUMP_IF, 0, 1, _CALLS[platform.machine()][call]),
        (_RETURN, 0, 0, _REFUSE | number),
        (_RETURN, 0, 0, _ALLOW),
    ]

    class Instruction(ctypes.Structure):
        _fields_ = (
            ("code", ctypes.c_uint16), ("then", ctypes.c_uint8),
            ("otherwise", ctypes.c_uint8), ("value", ctypes.c_uint32),
        )  # fmt: skip

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_uint16), ("words", ctypes.POINTER(Instruction)))

    program = Program(len(words), (Instruction * len(words))(*words))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program)) == 0, ctypes.get_errno()


def deaths(work: Callable[[], object]) -> Iterator[str]:
    """Do some work in a process that dies before its first change to the disk, its second, ...

    Changes are what Python's audit events, and igpt's own, tell of: opening a file to write,
    flushing, renaming and removing. The last time nothing is left to die before, and it is done.

    Yields:
        Before which event it died, or "" when it was done.
    """
    for number in itertools.count():
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                _die_before(number, writer)
                work()
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            event = pipe.read()
        _, status = os.waitpid(child, 0)
        assert event or status == 0, "the work failed by itself"
        yield event
        if not event:
            return


def _die_before(number: int, writer: int) -> None:
    """Have this process die before a change to the disk, having written which."""
    left = itertools.count(number, -1)

    def look(event: str, arguments: tuple[object, ...]) -> None:
        change = event in _CHANGES or event in _OUR_CHANGES
        if event == "open":
            change = bool(int(arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))  # pyrefly: ignore
        if change and next(left) == 0:
            os.write(writer, f"{event} {arguments}".encode(errors="replace"))
            os._exit(9)

    sys.addaudithook(look)
