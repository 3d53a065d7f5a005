"""What `.npy` files hold, and what is said of those that are damaged."""

import io
import os
import tracemalloc

import numpy as np
import pytest

from igpt.arrays import read_array
from igpt.errors import CheckpointError, DataError

NUMBERS = np.arange(24, dtype=np.int64).reshape(4, 6)


def npy(array, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def header(text: str, numbers: bytes = bytes(192)) -> bytes:
    """Return a file with this header."""
    padded = text + " " * (118 - len(text) % 64 + 64 * (len(text) > 117)) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode() + numbers


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    "array",
    [
        NUMBERS, np.asfortranarray(NUMBERS), NUMBERS.astype(">i8"), np.zeros((0, 6), np.int64),
        np.array(7), NUMBERS[:, 0],
    ],
)  # fmt: skip
def test_what_numpy_writes_is_read(tmp_path, array, mmap):
    (tmp_path / "a.npy").write_bytes(npy(array))
    read = read_array(tmp_path / "a.npy", dtype=np.int64, shape=array.shape, mmap=mmap)
    np.testing.assert_array_equal(read, array)
    assert read.shape == array.shape
    assert read.dtype == array.dtype
    assert isinstance(read, np.memmap) == (mmap and array.size > 0)


def test_a_length_may_be_left_open(tmp_path):
    np.save(tmp_path / "a.npy", NUMBERS)
    assert read_array(tmp_path / "a.npy", dtype=np.integer, shape=(None, 6)).shape == (4, 6)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "EOF"),
        (b"no array", "magic string"),
        (npy(NUMBERS)[:-1], "promises 192 bytes of numbers, and it has 191"),
        (npy(NUMBERS)[:40], "EOF"),
        (npy(NUMBERS) + b"\0", "promises 192 bytes of numbers, and it has 193"),
        (npy(np.array([{}]), allow_pickle=True), "Python objects"),
        (b"\x93NUMPY\x09\x00" + npy(NUMBERS)[8:], "version 9.0"),
        (b"PK\x03\x04" + bytes(60), "magic string"),
        (header("{'descr': '<i8', 'fortran_order': False, 'shape': (-4, -6)}"), "the shape"),
        (header("{'descr': '<i8', 'fortran_order': False, 'shape': (True, 24)}"), "the shape"),
        (header("{'descr': '<i8', 'fortran_order': False, 'shape': (10**30,)}"), ""),
        (header("{'descr': '|S0', 'fortran_order': False, 'shape': (9,)}", b""), "promises 0"),
        (header("{'descr': '<i8', 'fortran_order': 0, 'shape': (24,)}"), "fortran_order"),
        (header("{'descr': '<q9', 'fortran_order': False, 'shape': (24,)}"), "descr"),
        (header("(" * 100), ""),
        (header("exit()"), ""),
    ],
)
def test_no_whole_file_is_one_line(tmp_path, content, reason):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.npy is not a whole \.npy file") as told:
        read_array(tmp_path / "a.npy", dtype=np.generic, error=CheckpointError)
    assert reason in str(told.value)
    assert "\n" not in str(told.value)


def test_several_arrays_in_one_file_are_not_taken_for_one(tmp_path):
    np.savez(tmp_path / "a.npz", NUMBERS)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(DataError, match="not a whole"):
        read_array(tmp_path / "a.npy", dtype=np.int64)


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        (np.int64, (4, 7), r"should hold int64 \(4, 7\) but holds int64 \(4, 6\); copy it"),
        (np.int64, (24,), r"should hold int64 \(24,\) but holds"),
        (np.int64, (None, None, 3), r"should hold int64 \(any, any, 3\) but holds"),
        (np.uint8, None, r"should hold uint8 but holds int64 \(4, 6\)"),
        (np.bytes_, (4, 6), r"should hold bytes \(4, 6\) but holds int64"),
    ],
)
def test_other_numbers_than_wanted_are_one_line(tmp_path, dtype, shape, message):
    np.save(tmp_path / "a.npy", NUMBERS)
    with pytest.raises(DataError, match=message):
        read_array(tmp_path / "a.npy", dtype=dtype, shape=shape, advice="copy it")


def test_what_cannot_be_read_is_one_line(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name, reason in (
        ("", "Is a directory"), ("gone.npy", "No such file"), ("pipe.npy", "Invalid argument"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=f"could not read .*{reason}"):
            read_array(tmp_path / name, dtype=np.uint8)


def test_no_memory_is_taken_for_what_a_file_only_promises(tmp_path):
    promise = "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000, 1000)}"
    (tmp_path / "a.npy").write_bytes(header(promise))
    tracemalloc.start()
    with pytest.raises(DataError, match="promises 8,000,000,000 bytes"):
        read_array(tmp_path / "a.npy", dtype=np.int64)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
