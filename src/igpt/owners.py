"""Whose a temporary file is: the process that makes it, by its host, its number and its start.

A number alone is soon another process's, and on a shared disk another host's. So what is under way
is named for its `owner()`, and `is_abandoned` says whether that is surely gone.
"""

import contextlib
import hashlib
import os
import platform
import time
from pathlib import Path

OWNER = r"[0-9a-f]{8}\.\d{1,9}\.\d+"
"""What `owner()` looks like, as a regular expression: host, process, start."""

_ABANDONED_SECONDS = 24 * 60 * 60
_UNKNOWN_START = "0"


def owner() -> str:
    """Return a name for this process that no other has or will have."""
    return f"{_host()}.{os.getpid()}.{_start(os.getpid())}"


def is_abandoned(path: Path, owner: str) -> bool:
    """Say whether nobody can be at work on a file or folder any more.

    A process of this host is asked for, where the system has a way to. What comes from elsewhere,
    or from before this host was last started, is abandoned when nothing in it has changed for a
    day.

    Raises:
        OSError: The file is gone, or cannot be looked at.
    """
    host, process, start = owner.split(".")
    if host == _host() and os.name == "posix":  # on Windows, to ask for a process is to stop it
        return not _is_running(int(process), start)
    changed = max(file.lstat().st_mtime for file in (path, *path.rglob("*")))
    return time.time() - changed > _ABANDONED_SECONDS


def _host() -> str:
    """Return a short name of this machine, since its start, and of who share its process numbers.

    Containers number their processes themselves, even where they have the machine's name.
    """
    began = numbers = ""
    with contextlib.suppress(OSError):  # elsewhere than on Linux
        began = Path("/proc/sys/kernel/random/boot_id").read_text()
        numbers = os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(f"{platform.node()} {began} {numbers}".encode()).hexdigest()[:8]


def _is_running(process: int, start: str) -> bool:
    try:
        os.kill(process, 0)  # sends nothing; only asks
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return _start(process) in (start, _UNKNOWN_START)


def _start(process: int) -> str | None:
    """Return when a process began, in the clock ticks of its host; None if it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return _UNKNOWN_START
    state, *numbers = stat.rpartition(")")[2].split()  # what is in brackets is the program's name
    return None if state in "ZX" else numbers[18]
