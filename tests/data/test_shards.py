"""A joined array gives what the array of all its rows would."""

import numpy as np
import pytest

from igpt.data.shards import JoinedArray, joined

WHOLE = np.random.default_rng(0).integers(0, 256, (11, 2, 3), dtype=np.uint8)


@pytest.fixture
def rows() -> JoinedArray:
    """Eleven rows, in pieces of four, none, six and one."""
    return JoinedArray([WHOLE[:4], WHOLE[4:4], WHOLE[4:10], WHOLE[10:]])


@pytest.mark.parametrize(
    "index",
    [
        0, 3, 4, 10, -1, -11, np.int64(5),
        slice(None), slice(1, 3), slice(3, 5), slice(4, 10), slice(9, 99), slice(5, 5),
        slice(7, 2), slice(-3, None), slice(None, None, 3), slice(None, None, -1),
        [3, 4, 0, 4], np.array([10, 0, -1, -8]), np.array([[1, 9], [4, 4]]), [],
        np.arange(11) % 3 == 0, np.zeros(11, bool),
        (slice(2, 9), 1), (slice(None), slice(None), 0), ([8, 2], slice(1)), (6, 1, 2),
    ],
)  # fmt: skip
def test_it_is_indexed_like_the_array_of_all_rows(rows, index):
    expected = WHOLE[index]
    found = rows[index]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == WHOLE.dtype


@pytest.mark.parametrize("index", [11, -12, [0, 11], [-12], 1.5, [0.5], np.zeros(4, bool)])
def test_rows_that_are_not_there_are_an_index_error(rows, index):
    with pytest.raises(IndexError):
        rows[index]


def test_it_has_the_shape_and_the_rows_of_the_array(rows):
    assert (rows.shape, rows.ndim, rows.dtype, len(rows)) == ((11, 2, 3), 3, np.uint8, 11)
    np.testing.assert_array_equal(np.asarray(rows), WHOLE)
    np.testing.assert_array_equal(np.stack(list(rows)), WHOLE)
    assert np.asarray(rows, np.float32).dtype == np.float32


def test_what_lies_in_one_piece_is_no_copy(rows):
    assert np.shares_memory(rows[5:8], WHOLE)
    assert np.shares_memory(rows[10], WHOLE)


def test_texts_of_several_lengths_are_joined():
    names = JoinedArray([np.array([b"a", b"bc"]), np.array([b"def"])])
    assert names[[2, 0]].tolist() == [b"def", b"a"]
    assert np.asarray(names).tolist() == [b"a", b"bc", b"def"]


def test_one_array_is_itself():
    assert joined([WHOLE]) is WHOLE
