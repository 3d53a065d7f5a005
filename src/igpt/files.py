"""Files and folders that are either whole or not there.

Everything igpt writes goes through here: written beside its place under a name of its own, flushed
to the disk, then renamed. A reader therefore never sees half a file, whenever the writer is killed.

    with written_aside(path) as aside:
        aside.write_text("...")          # or aside.mkdir(), and files in it

What a killed writer leaves lies beside `path`, or in it where that was an empty folder:

    .partial-OWNER-NAME    not finished, or replaced by what is now whole: to be removed
    .replaced-OWNER-NAME   the folder before, moved out of the way of the new one: to be put back
    .complete-OWNER-NAME   finished, and being moved into the folder around it: to be moved on

The next writer of `path`, and `remove_abandoned`, put that right. The owner is a process by its
host, number and start, so that what another is still at work on, here or elsewhere, is left alone.
"""

import contextlib
import errno
import hashlib
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
from igpt.owners import OWNER, is_abandoned, owner
from igpt.renames import exchange, rename_new, taken

_AT_WORK = re.compile(rf"\.(?P<kind>partial|replaced|complete)-(?P<owner>{OWNER})\.[0-9a-f]{{8}}-")
"""How the names above begin; what follows the owner tells apart what one process has under way."""

_SPACE = "free some space or choose another place"
_FILES_OPEN = "close other programs, or allow more open files with ulimit -n"
_ADVICE = {
    errno.ENOSPC: _SPACE, errno.EDQUOT: _SPACE,
    errno.EMFILE: _FILES_OPEN, errno.ENFILE: _FILES_OPEN,
    errno.EEXIST: "choose another place, or remove what is there",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "see whether the disk is sound, or choose another place",
}  # fmt: skip
_MOST_DIGITS = 40  # of a whole number in JSON; a double has no more than 17 that count


@contextmanager
def written_aside(path: Path, *, exclusive: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The block may make a file or a folder there. If it raises, what it wrote is removed and `path`
    is as it was. A file takes the place of a file, a folder that of a folder, at once where the
    file system can; a file never takes that of a folder. Then:

    - A symbolic link is followed: what it leads to is written, and the link stays.
    - An empty folder, which may be a mount point, stays too. What the block makes in the temporary
      folder is moved into it, JSON files last, since they say what a folder is.

    Args:
        path: What to write; folders above it are made.
        exclusive: Replace nothing: there may be an empty folder at `path`, or nothing, both now and
            when the block ends. Of two that write it at a time, one is refused.

    Raises:
        DataError: The disk is full or failing, the place cannot be written to, or is taken.
    """
    with refusals_told(path):
        target = _followed(path)
        missing = _missing_above(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = _room_for(target, exclusive=exclusive)
        try:
            yield aside
            for file in (aside, *aside.rglob("*")):
                _flush(file)
            _put(aside, target, exclusive=exclusive)
            for folder in (aside.parent, *(folder.parent for folder in missing)):
                _flush(folder)
        finally:
            _remove(aside)


def require_writable(path: Path, *, exclusive: bool = False) -> None:
    """See, before long work, that `written_aside` could write `path`.

    That is found out by making an empty folder where the temporary one would be. What a killed
    process left there is put right first.

    Raises:
        DataError: It could not, as there.
    """
    with refusals_told(path):
        target = _followed(path)
        missing = _missing_above(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = _room_for(target, exclusive=exclusive)
            aside.mkdir()
            aside.rmdir()
        finally:
            for folder in missing:
                with contextlib.suppress(OSError):
                    folder.rmdir()


@contextmanager
def refusals_told(path: Path) -> Iterator[None]:
    """Turn a system's refusal to write `path` into one line for the user.

    Raises:
        DataError: The disk is full or failing, or the place cannot be written to.
    """
    try:
        yield
    except OSError as error:
        # Those of a network, and what libraries derive that has no number, tell of other things;
        # NumPy's has no number either, where less was written than it asked for.
        if isinstance(error, ConnectionError) or (not error.errno and type(error) is not OSError):
            raise
        place, culprit = (_AT_WORK.sub("", str(name)) for name in (path, error.filename or path))
        reason = error.strerror or str(error)
        if culprit != place:
            reason += f" ({culprit})"
        advice = _ADVICE.get(error.errno or 0, "choose another place")
        raise DataError(f"could not write {place}: {reason}; {advice}") from error


def remove_abandoned(folder: Path, name: str = "") -> None:
    """Put right what killed processes left half-done in `folder`, under `name` or any name.

    What they had not finished is removed, and what was finished is put in its place; see the top of
    this module. Only what is surely abandoned is touched: its process was of this host and is gone,
    or it cannot be asked for and nothing has changed for a day. What resists is left as it is.
    """
    for place in {folder, folder / name}:
        with contextlib.suppress(OSError):
            for path in list(place.iterdir()):
                leftover = _AT_WORK.match(path.name)
                if leftover and name in ("", path.name[leftover.end() :]):
                    with contextlib.suppress(OSError):
                        _put_right(path, leftover)


def discard(path: Path) -> None:
    """Remove a file or folder that lies in a folder of ours, the whole of it at once.

    What a killed process leaves of it has another name by then, and goes with the next writer of
    the folder around it.

    Raises:
        DataError: The place cannot be written to.
    """
    with refusals_told(path):
        aside = path.with_name(f".partial-{owner()}.{os.urandom(4).hex()}-{path.parent.name}")
        path.rename(aside)
        _remove(aside)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all.

    Raises:
        DataError: The disk is full or failing, or the place cannot be written to.
    """
    with written_aside(path) as aside:
        aside.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path, *, error: type[IgptError] = CheckpointError) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
        IgptError: Of the kind `error`: the file is missing, damaged, or holds something else.
    """
    with unreadable_told(path, error=error):
        if not path.is_file():  # a pipe or a device might never end
            path.stat()  # says why not
            kind = errno.EISDIR if path.is_dir() else errno.EINVAL
            raise OSError(kind, os.strerror(kind))
        written = path.read_bytes()
    try:
        value = parse_json(written)
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


def digest(path: Path, *, error: type[IgptError] = CheckpointError) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        IgptError: Of the kind `error`: the file is missing or cannot be read.
    """
    with unreadable_told(path, error=error), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def unreadable_told(path: Path, *, error: type[IgptError] = CheckpointError) -> Iterator[None]:
    """Turn a system's refusal to read `path` into one line for the user.

    Raises:
        IgptError: Of the kind `error`: the file is missing or cannot be read.
    """
    try:
        yield
    except OSError as reason:
        missing = isinstance(reason, FileNotFoundError)
        advice = "is the folder a whole copy?" if missing else "see that it can be read"
        raise error(f"could not read {path}: {reason.strerror or reason}; {advice}") from reason


def _followed(path: Path) -> Path:
    """Return what a symbolic link leads to, and any other path as it is."""
    try:
        os.lstat(path)
    except ValueError as error:  # a zero byte, or letters that no name here can have
        raise OSError(errno.EINVAL, str(error)) from error
    except OSError:
        pass  # it comes up again where the path is used
    target = path
    if path.is_symlink() or path.name in ("", ".."):
        target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target


def _missing_above(target: Path) -> list[Path]:
    """Return the folders above that are still to be made, the lowest first."""
    return [folder for folder in target.parents if not os.path.lexists(folder)]


def _room_for(target: Path, *, exclusive: bool) -> Path:
    """Return where to write first: beside `target`, or in it where that is an empty folder.

    Raises:
        OSError: `target` is taken, where that matters.
    """
    remove_abandoned(target.parent, target.name)
    inside = os.path.isdir(target) and _is_empty(target)
    if exclusive and not inside and os.path.lexists(target):
        raise taken(target)
    name = f".partial-{owner()}.{os.urandom(4).hex()}-{target.name}"
    return (target if inside else target.parent) / name


def _put(aside: Path, target: Path, *, exclusive: bool) -> None:
    """Give what is whole by now its name."""
    if aside.parent == target:
        if not aside.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not _is_empty(target):
            raise taken(target)
        complete = _as(aside, "complete")
        aside.rename(complete)
        try:
            _move_in(complete, target)
        except FileExistsError:  # of two that were as fast the other's first entry was there first
            _remove(complete)
            raise
    elif not aside.is_dir() and not exclusive:
        os.replace(aside, target)
    else:
        try:
            rename_new(aside, target)
        except FileExistsError:
            if exclusive or not (aside.is_dir() and target.is_dir()):
                raise
            _replace_folder(aside, target)


def _replace_folder(aside: Path, target: Path) -> None:
    if exchange(aside, target):
        return  # what was there is aside now, and goes with it
    replaced = _as(aside, "replaced")
    target.rename(replaced)
    try:
        aside.rename(target)
    except BaseException:
        replaced.rename(target)
        raise
    _flush(target.parent)
    _remove(replaced)


def _move_in(complete: Path, folder: Path) -> None:
    """Move what `complete` holds into `folder`, JSON files last: they say what a folder is."""
    for entry in sorted(complete.iterdir(), key=lambda entry: (entry.suffix == ".json", entry)):
        rename_new(entry, folder / entry.name)
    with contextlib.suppress(OSError):  # everything is in its place
        complete.rmdir()


def _put_right(path: Path, leftover: re.Match[str]) -> None:
    """Finish or remove what a killed process left at `path`, if one did."""
    if not is_abandoned(path, leftover["owner"]):
        return
    place = path.with_name(path.name[leftover.end() :])
    if leftover["kind"] == "complete":
        _move_in(path, path.parent)
    elif leftover["kind"] == "replaced" and not os.path.lexists(place):
        path.rename(place)
    else:
        _remove(path)


def _is_empty(folder: Path) -> bool:
    """Say whether a folder holds nothing but what file systems and writers of ours put there."""
    before = folder.stat()
    names = os.listdir(folder)
    if not os.path.samestat(before, folder.stat()):
        return False  # another took its place meanwhile, and what was listed was on its way out
    return all(name == "lost+found" or _AT_WORK.match(name) for name in names)


def _as(aside: Path, kind: str) -> Path:
    return aside.with_name(aside.name.replace(".partial-", f".{kind}-", 1))


def _flush(path: Path) -> None:
    """See that a file, or the names in a folder, outlive a power cut."""
    try:
        # Windows flushes only what may be written, and no folders.
        descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # A folder that one may write but not read, or a file system that flushes no folders.
        if error.errno not in (errno.EACCES, errno.EINVAL):
            raise


def _remove(path: Path) -> None:
    """Remove a file or a folder if it is there and can be: there is another error to tell of."""
    try:
        path.unlink()
    except OSError:
        shutil.rmtree(path, ignore_errors=True)
