"""Arrays in `.npy` files: bytes to numbers of the wanted kind and shape, or one line for the user.

    labels = read_array(path, dtype=np.int64, shape=(records,))
    images = read_array(path, dtype=np.uint8, shape=(None, 32, 32, 3), mmap=True)

Every `.npy` that igpt reads comes through here. What a header promises is held against the length
of the file before any memory is taken, so a file that was cut, or that promises terabytes, is
refused at once. Pickled objects are never read.
"""

import errno
import math
import os
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from igpt.errors import DataError, IgptError

Shape = tuple[int | None, ...]
_LONGEST_HEADER = 10_000  # bytes; NumPy parses it as Python


def read_array(
    path: Path,
    *,
    dtype: type[np.generic],
    shape: Shape | None = None,
    mmap: bool = False,
    error: type[IgptError] = DataError,
    advice: str = "restore it or make it again",
) -> np.ndarray:
    """Return the array in an `.npy` file.

    Args:
        path: The file.
        dtype: Of the numbers, such as `np.uint8`, or a kind of them, such as `np.integer`.
        shape: That it has to have; None for a length that may be any.
        mmap: Map the file, read-only, and read nothing yet.
        error: What is raised.
        advice: What the message says to try.

    Raises:
        IgptError: Of the kind `error`: the file is missing or cannot be read, is not a whole `.npy`
            file, or holds something else.
    """
    try:
        if not path.is_file():  # a pipe or a device might never end
            path.stat()  # says why not
            kind = errno.EISDIR if path.is_dir() else errno.EINVAL
            raise OSError(kind, os.strerror(kind))
        with path.open("rb") as file:
            found, order, kind = _read_header(file)
            if _fits(found, shape) and np.issubdtype(kind, dtype):
                return _read_numbers(file, found, order, kind, mmap=mmap)
    except OSError as reason:
        tried = advice if isinstance(reason, FileNotFoundError) else "see that it can be read"
        raise error(f"could not read {path}: {reason.strerror or reason}; {tried}") from reason
    except Exception as reason:  # NumPy parses the header as Python: it may fail in any way
        told = " ".join(str(reason).split()) or type(reason).__name__
        raise error(f"{path} is not a whole .npy file of numbers ({told}); {advice}") from reason
    wanted = f" {_shown(shape)}" if shape is not None else ""
    raise error(
        f"{path} should hold {dtype.__name__.removesuffix('_')}{wanted} but holds {kind} "
        f"{_shown(found)}; {advice}"
    )


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], str, np.dtype]:
    """Return shape, order ("C" or "F") and type, and leave the file where the numbers begin."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"it is of version {version[0]}.{version[1]}")
    with warnings.catch_warnings(action="ignore"):  # of old or odd Python in the header
        found, fortran, kind = readers[version](file, max_header_size=_LONGEST_HEADER)
    if kind.hasobject:
        raise ValueError("it holds Python objects")
    if any(type(length) is not int or length < 0 for length in found):
        raise ValueError(f"it has the shape {found}")
    promised = math.prod(found) * kind.itemsize
    held = os.fstat(file.fileno()).st_size - file.tell()
    if promised != held or not kind.itemsize:
        raise ValueError(f"its header promises {promised:,} bytes of numbers, and it has {held:,}")
    return found, "F" if fortran else "C", kind


def _read_numbers(
    file: BinaryIO, shape: tuple[int, ...], order: str, kind: np.dtype, *, mmap: bool
) -> np.ndarray:
    count = math.prod(shape)
    if mmap and count:  # nothing cannot be mapped
        return np.memmap(file, kind, "r", file.tell(), shape, order)  # pyrefly: ignore
    numbers = np.fromfile(file, kind, count)
    if len(numbers) < count:
        raise ValueError("it became shorter while it was read")
    return numbers.reshape(shape, order=order)  # pyrefly: ignore


def _fits(found: tuple[int, ...], wanted: Shape | None) -> bool:
    if wanted is None:
        return True
    lengths = zip(found, wanted, strict=False)
    return len(found) == len(wanted) and all(want in (None, length) for length, want in lengths)


def _shown(shape: Shape) -> str:
    return str(shape).replace("None", "any")
