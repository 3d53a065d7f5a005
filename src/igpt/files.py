"""Files that are either whole or not there.

Everything igpt writes goes through here: written beside its place under a name of its own, flushed
to the disk, then renamed. A reader therefore never sees half a file, whenever the writer is killed.
"""

import errno
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from igpt.errors import CheckpointError, DataError, IgptError

_CANNOT_WRITE = {
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR,
    errno.EISDIR, errno.EEXIST, errno.EFBIG, errno.ENAMETOOLONG,
}  # fmt: skip
_MOST_DIGITS = 40  # of a whole number in JSON; a double has no more than 17 that count


@contextmanager
def refusals_told(path: Path) -> Iterator[None]:
    """Turn a disk's refusal to write `path` into one line for the user.

    Raises:
        DataError: The disk is full, or the place cannot be written to.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise DataError(
            f"could not write {path}: {error.strerror}; free some space or choose another place"
        ) from error


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The block may make a file or a folder there. If it raises, what it wrote is removed and `path`
    is as it was.

    Raises:
        DataError: The disk is full, or the place cannot be written to.
    """
    aside = path.with_name(f".partial-{os.getpid()}-{path.name}")  # keeps the file's ending
    replaced = path.with_name(f".replaced-{os.getpid()}-{path.name}")
    try:
        with refusals_told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield aside
            for file in [aside, *aside.rglob("*")] if aside.is_dir() else [aside]:
                _flush(file)
            if path.is_dir():
                if not aside.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
                path.rename(replaced)
            aside.replace(path)
    finally:
        if replaced.exists() and not path.exists():
            replaced.rename(path)
        for leftover in (aside, replaced):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_abandoned(folder: Path, name: str = "") -> None:
    """Remove what killed processes left half-written in `folder`, under `name` or any name."""
    wanted = re.escape(name) if name else ".*"
    for path in folder.iterdir() if folder.is_dir() else ():
        match = re.fullmatch(rf"\.(?:partial|replaced)-(\d+)-{wanted}", path.name)
        if match and not _is_running(int(match[1])):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing; only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()  # this process has only begun, so nothing there is its own


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path, *, error: type[IgptError] = CheckpointError) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        IgptError: Of the kind `error`: the file is missing, damaged, or holds something else.
    """
    try:
        if not path.is_file():  # a pipe or a device might never end
            path.stat()  # says why not
            raise OSError(errno.EINVAL, "it is no file")
        value = parse_json(path.read_bytes())
    except OSError as reason:
        raise error(
            f"could not read {path}: {reason.strerror}; is the folder a whole copy?"
        ) from reason
    except ValueError as reason:
        raise error(f"{path} is damaged: {reason}; restore it or make it again") from reason
    if not isinstance(value, dict):
        raise error(f"{path} is damaged: it holds no JSON object; restore it or make it again")
    return value


def parse_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Return the value of a JSON text, which is UTF-8 if it comes as bytes.

    Stricter than `json.loads`: a name may stand in an object only once, numbers are of a length
    that means something, and NaN and infinities, which are no JSON, are refused if `finite`.

    Raises:
        ValueError: It is no such text; the message is the reason, in one line.
    """
    try:
        return json.loads(
            text.decode() if isinstance(text, bytes) else text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_real if finite else float,
            parse_constant=_refuse_constant if finite else float,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no UTF-8") from error
    except RecursionError as error:
        raise ValueError("it is nested without end") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{max(names, key=names.count)!r} stands in it twice")
    return value


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of {len(digits):,} digits")
    return int(digits)


def _real(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits[:_MOST_DIGITS]} is larger than any number")
    return number


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")
