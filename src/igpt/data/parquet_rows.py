"""Parquet files, here or behind URLs, of which the images are read a row group at a time.

    table = ParquetRows.open(["s3://bucket/train-0.parquet", "s3://bucket/train-1.parquet"])
    table.column("label")                 # all of it, as plain values
    table.images("image")(1200)           # the value of one row

What a set holds is read from the ends of its files, so several processes can share it, each reading
the row groups that its images lie in. `igpt.data.tables` says what the values mean.
"""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from igpt.data.remote import tried

_OPEN = 16  # files whose ends are read at the same time


@dataclass(frozen=True, kw_only=True)
class ParquetRows:
    """The rows of some parquet files, one file after another."""

    schema: Any
    """Arrow's, of the first file."""
    rows: int
    groups: tuple[tuple[str, int], ...]
    """File and number there of each row group that has rows."""
    starts: Int64[np.ndarray, " group"]
    """The number of the first row of each."""

    @classmethod
    def open(cls, files: Sequence[str]) -> "ParquetRows":
        """Look at the ends of the files.

        Raises:
            Exception: Of arrow's or fsspec's: one cannot be read, or has other columns.
        """
        with ThreadPoolExecutor(_OPEN) as pool:
            ends = list(pool.map(_end, files))
        schema = ends[0][0]
        for (other, _), file in zip(ends, files, strict=True):
            if not other.equals(schema):
                raise ValueError(f"{file} has other columns than {files[0]}")
        sizes = [
            (file, group, rows)
            for (_, groups), file in zip(ends, files, strict=True)
            for group, rows in enumerate(groups)
            if rows
        ]
        counts = np.array([rows for _, _, rows in sizes], np.int64)
        return cls(
            schema=schema,
            rows=int(counts.sum()),
            groups=tuple((file, group) for file, group, _ in sizes),
            starts=np.cumsum(counts) - counts,
        )

    def column(self, name: str) -> list[Any]:
        """Return the values of a column."""
        files = list(dict.fromkeys(file for file, _ in self.groups))
        with ThreadPoolExecutor(_OPEN) as pool:
            parts = pool.map(lambda file: _whole_column(file, name), files)
            return [value for part in parts for value in part]

    def images(self, column: str) -> "RowValues":
        """Return what gives the values of a column by the numbers of their rows."""
        return RowValues(column, self.groups, self.starts)


class RowValues:
    """Gives the values of a column of some row groups; it can be sent to another process."""

    def __init__(
        self,
        column: str,
        groups: Sequence[tuple[str, int]],
        starts: Int64[np.ndarray, " group"],
    ) -> None:
        """Give those of `column` in these row groups, which begin at these rows."""
        self._column, self._groups, self._starts = column, tuple(groups), starts
        self._lock = threading.Lock()
        self._read: dict[int, Any] = {}
        """The two groups that were read last: images are asked for in order, by several threads."""

    def __call__(self, row: int) -> Any:
        """Return the value of a row, as a plain one."""
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._lock:
            if group not in self._read:
                while len(self._read) > 1:
                    del self._read[next(iter(self._read))]
                self._read[group] = _group_column(*self._groups[group], self._column)
            values = self._read[group]
        return values[row - int(self._starts[group])].as_py()

    def part(self, rows: Sequence[int]) -> "RowValues":
        """Return what gives those of some rows alone."""
        groups = np.unique(np.searchsorted(self._starts, rows, side="right") - 1)
        of_rows = [self._groups[group] for group in groups.tolist()]
        return RowValues(self._column, of_rows, self._starts[groups])

    def __reduce__(self) -> tuple[Any, ...]:
        """Be sent without what was read."""
        return RowValues, (self._column, self._groups, self._starts)


@contextmanager
def _opened(file: str) -> Iterator[Any]:
    import fsspec
    import pyarrow.parquet

    with fsspec.open(file, "rb") as content:
        yield pyarrow.parquet.ParquetFile(content)


def _end(file: str) -> tuple[Any, list[int]]:
    """Return the schema of a file, and the rows of its row groups."""
    with _opened(file) as parquet:
        known = parquet.metadata
        return parquet.schema_arrow, [
            known.row_group(group).num_rows for group in range(known.num_row_groups)
        ]


def _whole_column(file: str, name: str) -> list[Any]:
    with _opened(file) as parquet:
        return parquet.read(columns=[name]).column(name).to_pylist()


def _group_column(file: str, group: int, name: str) -> Any:
    def read() -> Any:
        with _opened(file) as parquet:
            return parquet.read_row_group(group, columns=[name]).column(name)

    return tried(file, read)
