"""Arrays in several files that read like one: the shards of a split, end to end.

    images = joined([first, second])     # memory-mapped, (1000, 32, 32, 3) and (700, 32, 32, 3)
    images.shape                         # (1700, 32, 32, 3)
    images[[3, 1200]]                    # (2, 32, 32, 3), one row of each file

Nothing is copied but what is asked for. An array that needs all of it in memory takes it with
`np.asarray`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


class JoinedArray:
    """Some arrays that differ in their length alone, or in that of their texts, one after another.

    It is read-only, and is indexed like an array whose rows they are: by a number, by a slice, by
    numbers in any order, or by a mask, each with further indices of the rows behind it. A row, and
    a slice that lies in one of the arrays, are views of it; all else is a copy of what was asked
    for.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        """Join `parts`, of which there is at least one."""
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self.parts])
        self._starts = [0, *self._ends[:-1].tolist()]
        rows = {part.shape[1:] for part in self.parts}
        assert len(rows) == 1, f"arrays of rows of {rows} are no one array"
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *rows.pop())
        self.dtype = np.result_type(*self.parts)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        """Count the rows."""
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the rows in order."""
        for part in self.parts:
            yield from part

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Return all of it in memory."""
        if copy is False:
            raise ValueError("an array in several files is in memory only as a copy")
        whole = np.concatenate(self.parts)
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getitem__(self, index: object) -> Any:  # as NumPy has it: rows, or one number of one
        """Return a row, or some of them.

        Raises:
            IndexError: There is no such row.
        """
        first, *rest = index if isinstance(index, tuple) else (index,)
        if isinstance(first, int | np.integer):
            part, row = self._found(int(first))
            return part[(row, *rest)]
        if isinstance(first, slice):
            start, stop, step = first.indices(len(self))
            near = step == 1
            rows = self._between(start, stop) if near else self._taken(range(start, stop, step))
        else:
            rows = self._taken(first)
        return rows[(slice(None), *rest)] if rest else rows

    def _found(self, number: int) -> tuple[np.ndarray, int]:
        """Return the array that a row lies in, and its number there."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"there is no row {number} among {len(self)}")
        number %= len(self)
        place = int(np.searchsorted(self._ends, number, side="right"))
        return self.parts[place], number - self._starts[place]

    def _between(self, start: int, stop: int) -> np.ndarray:
        """Return the rows from `start` up to `stop`."""
        pieces = [
            part[max(start - first, 0) : max(stop - first, 0)]
            for part, first in zip(self.parts, self._starts, strict=True)
            if first < stop and start < first + len(part)
        ]
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), self.dtype)

    def _taken(self, numbers: object) -> np.ndarray:
        """Return the rows of these numbers, in their order, or those that a mask has."""
        wanted = np.asarray(numbers)
        if wanted.dtype == bool:
            if wanted.shape != (len(self),):
                raise IndexError(f"a mask of {wanted.shape} fits no {len(self)} rows")
            wanted = np.flatnonzero(wanted)
        if wanted.size == 0:
            wanted = wanted.astype(np.int64)
        low, high = wanted.min(initial=0), wanted.max(initial=-1)
        if wanted.dtype.kind not in "iu" or low < -len(self) or high >= len(self):
            raise IndexError(f"there are no rows {numbers} among {len(self)}")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        places = np.searchsorted(self._ends, wanted, side="right")
        rows = np.empty((*wanted.shape, *self.shape[1:]), self.dtype)
        for place in np.unique(places):
            here = places == place
            rows[here] = self.parts[place][wanted[here] - self._starts[place]]
        return rows


def joined(parts: Sequence[np.ndarray]) -> np.ndarray | JoinedArray:
    """Return arrays as one: the very array if there is but one, and without a copy if more."""
    return parts[0] if len(parts) == 1 else JoinedArray(parts)
