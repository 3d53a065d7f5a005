"""What a system does to programs, done for real: no call of Python's is replaced by another.

    run(code, ...)             a program of its own; `mounted` on a small disk, or as `nobody`
    refuse("fsync", EIO)       there: from now on the kernel refuses such calls
    look_at(numbers)           there: from now on another process decides on such calls

A program says what it found with `print`; `run` returns that.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).parents[1]
_CALLS = {  # by the C library's names, in the kernel's numbers
    "x86_64": {"fsync": 74, "rename": 82, "link": 86, "renameat2": 316, "flock": 73},
    "aarch64": {"fsync": 82, "rename": 38, "link": 37, "renameat2": 276, "flock": 32},
}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_NO_NEW_PRIVILEGES, _SET_FILTER, _NEW_LISTENER = 38, 1, 8  # of <linux/prctl.h>, <linux/seccomp.h>
_LOAD, _JUMP_IF, _RETURN = 0x20, 0x15, 0x06  # of <linux/bpf_common.h>
_ALLOW, _ASK, _REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000


def run(
    code: str, *arguments: object, mounted: tuple[Path, str] | None = None, seconds: int = 120
) -> str:
    """Run a program, which must end well, and return what it printed.

    Args:
        code: In Python.
        arguments: For its `sys.argv[1:]`.
        mounted: A folder on which the program, and nobody else, sees a small empty disk, and the
            options it is mounted with, such as "size=64k". The test is skipped where nobody may.
        seconds: That it may take.
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
        timeout=seconds,
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
    _filter([_CALLS[platform.machine()][call]], _REFUSE | number)


def look_at(calls: Collection[int]) -> int:
    """Have the kernel ask another process about such calls of this one, for good.

    Source: seccomp_unotify(2).

    Args:
        calls: By the kernel's numbers.

    Returns:
        The file descriptor that the other process reads from and answers at.
    """
    return _filter(calls, _ASK, _NEW_LISTENER)


def _filter(calls: Collection[int], answer: int, flags: int = 0) -> int:
    """Have the kernel answer such calls so, and allow all others."""
    words = [(_LOAD, 0, 0, 0)]  # the call's number is the first word that a filter sees
    for left, call in enumerate(reversed(sorted(calls))):
        words.insert(1, (_JUMP_IF, left + 1, 0, call))
    words += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, answer)]

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
    seccomp = _SECCOMP[platform.machine()]
    result = libc.syscall(seccomp, _SET_FILTER, flags, ctypes.byref(program))
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result
