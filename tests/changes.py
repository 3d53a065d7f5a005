"""Work that is killed before any one of its changes to the disk, or in the middle of one.

    changes(work, folder)              do it, and list every change it makes to files of the folder
    killed(work, folder, 7)            do it in a process that is killed before its eighth change
    killed(work, folder, 7, half=True)     ... when half of what that was to write is written

Changes are the calls that the kernel is asked for: writing, flushing, renaming, linking, removing,
making, cutting. The process is stopped at each until this one has looked at it, in whatever thread
or library it is made, and it is killed by SIGKILL. What is done is thus what would be on the disk.
"""

import contextlib
import ctypes
import fcntl
import itertools
import os
import platform
import select
import signal
import socket
import struct
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.system import look_at

_CALLS = {
    # name: the kernel's numbers on x86_64 and aarch64 (None if it is not there), and which argument
    # is the file's descriptor, or its path, at a folder's descriptor before it if it is of an `at`
    "write": (1, 64, "file", 0), "writev": (20, 66, "file", 0),
    "pwrite64": (18, 68, "file", 0), "pwritev": (296, 70, "file", 0),
    "sendfile": (40, 71, "file", 0), "copy_file_range": (326, 285, "file", 2),
    "fallocate": (285, 47, "file", 0), "ftruncate": (77, 46, "file", 0),
    "fsync": (74, 82, "file", 0), "fdatasync": (75, 83, "file", 0),
    "truncate": (76, 45, "path", 0), "creat": (85, None, "path", 0),
    "open": (2, None, "path", 0), "openat": (257, 56, "at", 1),
    "mkdir": (83, None, "path", 0), "mkdirat": (258, 34, "at", 1),
    "rename": (82, None, "path", 0), "renameat": (264, 38, "at", 1),
    "renameat2": (316, 276, "at", 1),
    "link": (86, None, "path", 0), "linkat": (265, 37, "at", 1),
    "symlink": (88, None, "path", 1), "symlinkat": (266, 36, "at", 2),
    "rmdir": (84, None, "path", 0), "unlink": (87, None, "path", 0),
    "unlinkat": (263, 35, "at", 1),
}  # fmt: skip
_FLAGS = {"open": 1, "openat": 2}
"""Which argument says whether a file is opened to write."""
_NOTICE = struct.Struct("QIIiIQ6Q")  # struct seccomp_notif: id, thread, flags; call, ..., arguments
_ANSWER = struct.Struct("QqiI")  # struct seccomp_notif_resp: id, value, error, flags
_RECEIVE, _SEND, _LET = 0xC0502100, 0xC0182101, 1  # of <linux/seccomp.h>
_WORKING_FOLDER, _LONGEST_PATH = 0xFFFFFF9C, 4096  # AT_FDCWD, PATH_MAX
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
_MAKES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Change:
    """A call that changes something."""

    call: str
    path: str
    """In the folder, of the file or folder that is changed."""


def changes(work: Callable[[], object], folder: Path) -> list[Change]:
    """Do some work in a process of its own, which must end well; return what it changed."""
    return [change for change, _ in _watched(work, folder)]


def killed(
    work: Callable[[], object], folder: Path, number: int, *, half: bool = False
) -> Change | None:
    """Do some work in a process that is killed before its change of this number, from 0 on.

    With `half`, it is killed when half of what it was to write is written, if it was to write.

    Returns:
        That change; None if there were not as many, and the work is done.
    """
    with contextlib.closing(_watched(work, folder)) as watched:
        for change, call in itertools.islice(watched, number, None):
            if half and change.call == "write":
                call.write_half()
            call.kill()
            return change
    return None


def deaths(work: Callable[[], object], folder: Path) -> Iterator[Change | None]:
    """Do some work again and again, in a process that dies one change later each time.

    Yields:
        Before which change it died; None when it was done.
    """
    for number in itertools.count():
        yield (died := killed(work, folder, number))
        if died is None:
            return


@dataclass(frozen=True)
class _Call:
    """A call that a process is stopped at."""

    process: int
    thread: int
    arguments: tuple[int, ...]

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)

    def file(self, argument: int) -> str:
        """Return the path of an open file."""
        try:
            return os.readlink(f"/proc/{self.thread}/fd/{self.arguments[argument]}")
        except OSError:
            return ""

    def path(self, argument: int, *, at: bool) -> str:
        """Return the path that is given, made absolute."""
        text = self.memory(self.arguments[argument], _LONGEST_PATH).partition(b"\0")[0]
        at = at and self.arguments[argument - 1] & 0xFFFFFFFF != _WORKING_FOLDER
        where = self.file(argument - 1) if at else os.readlink(f"/proc/{self.thread}/cwd")
        return os.path.normpath(os.path.join(where, os.fsdecode(text)))

    def memory(self, address: int, length: int) -> bytes:
        with open(f"/proc/{self.thread}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(length)

    def write_half(self) -> None:
        """Write the first half of what `write` was to write."""
        number, address, length = self.arguments[:3]
        text = Path(f"/proc/{self.thread}/fdinfo/{number}").read_text()
        facts = dict(line.split(":", 1) for line in text.splitlines())
        flags = int(facts["flags"], 8) & os.O_APPEND
        file = os.open(f"/proc/{self.thread}/fd/{number}", os.O_WRONLY | flags)
        os.lseek(file, int(facts["pos"]), os.SEEK_SET)
        os.write(file, self.memory(address, length // 2))
        os.close(file)


def _watched(work: Callable[[], object], folder: Path) -> Generator[tuple[Change, _Call]]:
    """Do some work in a process that waits, before each change to `folder`, until it is looked at.

    It must end well, unless it is killed.
    """
    machine = ("x86_64", "aarch64").index(platform.machine())
    names = {call[machine]: name for name, call in _CALLS.items() if call[machine] is not None}
    ours, theirs = socket.socketpair()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)  # as nobody would answer
            socket.send_fds(theirs, [b"-"], [look_at(names)])
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    theirs.close()
    with ours:
        _, [listener], _, _ = socket.recv_fds(ours, 1, 1)
    try:
        for notice in _notices(listener):
            identity, thread, _, number, _, _, *arguments = notice
            call = _Call(process, thread, tuple(arguments))
            change = _change(names[number], call, folder)
            if change is not None:
                yield change, call
            with contextlib.suppress(FileNotFoundError):  # it was killed
                fcntl.ioctl(listener, _SEND, _ANSWER.pack(identity, 0, 0, _LET))
    finally:
        os.close(listener)
        _, status = os.waitpid(process, 0)
    assert status == 0, "the work failed by itself"


def _notices(listener: int) -> Iterator[tuple[int, ...]]:
    """Yield what the kernel asks until there is nobody left to ask about."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        [(_, event)] = poll.poll()
        if not event & select.POLLIN:
            return
        notice = bytearray(_NOTICE.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, notice)
        except FileNotFoundError:  # it was killed
            continue
        yield _NOTICE.unpack(notice)


def _change(name: str, call: _Call, folder: Path) -> Change | None:
    """Return what a call would change in `folder`; None if nothing."""
    *_, kind, argument = _CALLS[name]
    if name in _FLAGS and not call.arguments[_FLAGS[name]] & _MAKES:
        return None
    path = call.file(argument) if kind == "file" else call.path(argument, at=kind == "at")
    if not Path(path).is_relative_to(folder):
        return None
    return Change(name, os.path.relpath(path, folder))
