"""One process at a time: the folder of a run is locked while something is written to it.

The lock is the operating system's, so it ends with its process, however that ends, and it holds
between hosts where the file system passes it on, as NFS does. Reading needs none.

`filelock` would do the same, but for the note in the file that says who holds it.
"""

import contextlib
import errno
import importlib
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from igpt.errors import CheckpointError
from igpt.files import refusals_told

try:
    import fcntl
except ImportError:  # on Windows, whose own `msvcrt` has locks
    fcntl = None

LOCK = ".lock"

_HELD = {errno.EWOULDBLOCK, errno.EACCES}
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}
_FAR = 2**30  # on Windows the byte that is locked cannot be read, so it is not one of the note's


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a run's folder; others, in this process too, are refused meanwhile.

    Where the file system has no locks, that is noted as a warning, and the block runs without.

    Raises:
        CheckpointError: It is held already; the message says by which process, where, since when.
        DataError: The folder cannot be written to.
    """
    path = folder / LOCK
    with refusals_told(path):
        file = _locked(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if _is_at(path, file):
                path.unlink()
        file.close()  # last, so that nobody locks a file which is about to go


def _locked(path: Path) -> TextIO:
    """Return the file at `path`, made if need be, locked, and saying by whom."""
    while True:
        with contextlib.ExitStack() as closed:
            file = closed.enter_context(path.open("a+"))  # cutting nothing: it may be another's
            try:
                _lock(file)
            except OSError as error:
                if error.errno in _HELD:
                    raise _held_already(path.parent, file) from error
                if error.errno not in _NO_LOCKS:
                    raise
                warnings.warn(
                    f"the disk of {path.parent} has no locks; see that nothing else writes there",
                    stacklevel=4,
                )
            if not _is_at(path, file):
                continue  # its holder had it removed between our two calls
            file.truncate(0)
            began = time.strftime("%Y-%m-%d %H:%M:%S %z")
            file.write(f"process {os.getpid()} on {platform.node()}, since {began}")
            file.flush()
            closed.pop_all()
            return file


def _lock(file: TextIO) -> None:
    """Lock an open file, without waiting.

    Raises:
        OSError: Another process, or another opening of the file, has the lock.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    msvcrt = importlib.import_module("msvcrt")
    os.lseek(file.fileno(), _FAR, os.SEEK_SET)
    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _held_already(folder: Path, file: TextIO) -> CheckpointError:
    file.seek(0)
    holder = file.read(200) or "another process"  # which has not yet come to say so
    return CheckpointError(
        f"{folder} is being written to by {holder}; wait until it is done, or stop it"
    )
