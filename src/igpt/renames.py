"""The two renames that the standard library lacks.

    rename_new(source, target)   only to a name that nothing has; two writers cannot both win
    exchange(one, other)         each takes the other's name, and at no moment is either missing

Linux does both in one call, renameat2, on most of its file systems. Elsewhere the first is done by
other means, which are as safe but for the last, and the second is not done at all: it says so.
"""

import ctypes
import errno
import os
import sys
from pathlib import Path

_NOREPLACE, _EXCHANGE = 1, 2  # of <linux/fs.h>
_FROM_WORKING_FOLDER = -100  # AT_FDCWD of <fcntl.h>
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
"""What a system or a file system says that does not know such a call."""


def rename_new(source: Path, target: Path) -> None:
    """Rename a file or folder to a name that nothing has.

    Raises:
        FileExistsError: There is something at `target`; for a folder, more than an empty one.
        OSError: As `os.rename`.
    """
    if source.is_dir():
        try:
            os.rename(source, target)  # which never replaces a file, or a folder that is not empty
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR) and os.path.lexists(target):
                raise taken(target) from error
            raise
        return
    if _renamed(source, target, _NOREPLACE):
        return
    try:
        os.link(source, target)
    except FileExistsError:
        if not os.path.samefile(source, target):  # or else whoever was killed came as far as here
            raise
    except OSError as error:
        if error.errno not in {*_CANNOT, errno.EPERM}:
            raise
        # A file system without links, such as exFAT: whoever makes an empty file has the name.
        target.touch(exist_ok=False)
        os.replace(source, target)
        return
    os.unlink(source)


def taken(path: Path) -> FileExistsError:
    """Return the error that says that there is something at `path` already."""
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(path))


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders take each other's names at once.

    Returns:
        Whether that was done; it is not where the file system cannot.

    Raises:
        OSError: As `os.rename`.
    """
    return _renamed(one, other, _EXCHANGE)


def _renamed(source: Path, target: Path, flag: int) -> bool:
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = (_FROM_WORKING_FOLDER, os.fsencode(source), _FROM_WORKING_FOLDER, os.fsencode(target))
    if renameat2(*names, flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), os.fspath(source), None, os.fspath(target))
