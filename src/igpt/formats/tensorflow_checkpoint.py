"""TensorFlow's checkpoints, read without TensorFlow.

    checkpoint = TensorFlowCheckpoint.open(Path("model.ckpt-1000000"))
    checkpoint.shapes["model/wte"]         # (512, 512)
    checkpoint.read("model/wte")           # a tensor

A checkpoint is `PREFIX.index`, a sorted table of names, and the variables' bytes one after another
in `PREFIX.data-00000-of-000NN`. Everything read is checked against the checksum that lies beside
it, so that a damaged file is told and never computed with. What the names mean is not known here
but in `igpt.formats.tensorflow`.

Sources: tensorflow/core/util/tensor_bundle/tensor_bundle.h and
tensorflow/core/protobuf/tensor_bundle.proto (what the table holds); leveldb's
doc/table_format.md (how the table lies on the disk).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import torch
from torch import Tensor

from igpt.errors import CheckpointError, nearest_name

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_DTYPES = {
    1: torch.float32,
    2: torch.float64,
    3: torch.int32,
    4: torch.uint8,
    6: torch.int8,
    9: torch.int64,
    10: torch.bool,
    14: torch.bfloat16,
    19: torch.float16,
}
"""By their numbers in tensorflow/core/framework/types.proto; strings and the like are not read."""


class _Damaged(Exception):
    """What stands in the index cannot be; the message says what."""


@dataclass(frozen=True)
class _Variable:
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    checksum: int
    sliced: bool


class TensorFlowCheckpoint:
    """The variables of one checkpoint; each is read when asked for."""

    def __init__(self, prefix: Path, shards: int, variables: dict[str, _Variable]) -> None:
        self.prefix = prefix
        self.shards = shards
        self._variables = variables

    @classmethod
    def open(cls, path: Path) -> "TensorFlowCheckpoint":
        """Return the checkpoint at `path`, with all its shards in place.

        Args:
            path: Its prefix, its `.index` file, or a folder that holds this one checkpoint.

        Raises:
            CheckpointError: There is none or more than one, it is damaged, or shards are missing.
        """
        prefix = _prefix(path)
        index = _index(prefix)
        try:
            table = dict(_read_table(index.read_bytes()))
            if b"" not in table:
                raise _Damaged("it has no header")
            header = _fields(table.pop(b""))
            shards = int(header.get(1, [0])[0])
            if header.get(2, [0])[0]:
                raise _Damaged("its numbers are big-endian, which nothing has been for long")
            variables = {name.decode(): _variable(value) for name, value in table.items()}
        except OSError as error:
            raise CheckpointError(
                f"could not read {index}: {error.strerror}; give the path of a TensorFlow "
                "checkpoint without its .index"
            ) from error
        except (_Damaged, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"{index} is no whole index of a TensorFlow checkpoint ({error}); copy it again"
            ) from error
        checkpoint = cls(prefix, shards, variables)
        files = [checkpoint._shard(number) for number in range(shards)]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise CheckpointError(
                f"{missing[0]} is missing: {shards - len(missing)} of the {shards} shards of "
                f"{prefix} are there; copy the others beside them"
            )
        return checkpoint

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each variable by its name, in the names' order."""
        return {name: variable.shape for name, variable in self._variables.items()}

    def read(self, name: str) -> Tensor:
        """Return a variable.

        Raises:
            CheckpointError: There is no such variable, it holds no numbers, or its bytes are not
                those that were written.
        """
        if name not in self._variables:
            raise CheckpointError(
                f"{self.prefix} has no variable {name!r}{nearest_name(name, self._variables)}"
            )
        variable = self._variables[name]
        path = self._shard(variable.shard)
        dtype = _DTYPES.get(variable.dtype)
        if dtype is None or variable.sliced:
            kind = "in slices" if variable.sliced else f"of TensorFlow's type {variable.dtype}"
            raise CheckpointError(
                f"{self.prefix} holds {name!r} {kind}, and whole numeric variables are read only; "
                "save it again without partitioned variables"
            )
        count = 1
        for length in variable.shape:
            count *= length
        with path.open("rb") as file:
            file.seek(variable.offset)
            data = file.read(variable.size)
        if len(data) != variable.size or count * dtype.itemsize != variable.size:
            raise CheckpointError(
                f"{path} ends within the variable {name!r}; copy it again, it is cut off"
            )
        if _masked_crc(data) != variable.checksum:
            raise CheckpointError(
                f"{path} is damaged in the variable {name!r} (its checksum differs); copy it again"
            )
        if not count:
            return torch.empty(variable.shape, dtype=dtype)
        return torch.frombuffer(bytearray(data), dtype=dtype).reshape(variable.shape)

    def _shard(self, number: int) -> Path:
        name = f"{self.prefix.name}.data-{number:05}-of-{self.shards:05}"
        return self.prefix.with_name(name)


def is_checkpoint(path: Path) -> bool:
    """Tell whether `path` names a checkpoint: by prefix, index file or folder of one or more."""
    if path.is_dir():
        return any(path.glob("*.index"))
    return _index(_prefix(path)).is_file()


def _prefix(path: Path) -> Path:
    if path.is_dir():
        found = sorted(file.with_suffix("") for file in path.glob("*.index"))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise CheckpointError(
                f"{path} should hold one TensorFlow checkpoint and holds {names}; give the path of "
                "one, without its .index"
            )
        return found[0]
    if path.suffix == ".index" and path.is_file():
        return path.with_suffix("")
    return path


def _index(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def _masked_crc(data: bytes) -> int:
    """Return the CRC-32C as the files have it, turned and shifted (leveldb, util/crc32c.h)."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table: footer -> index block -> data blocks."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise _Damaged("it does not end as one does")
    footer = data[-_FOOTER:]
    place = 0
    handles = []
    for _ in range(4):  # offset and size of the metaindex, which is empty, and of the index
        number, place = _varint(footer, place)
        handles.append(number)
    for _, handle in _block(data, *handles[2:]):
        offset, place = _varint(handle, 0)
        size, _ = _varint(handle, place)
        yield from _block(data, offset, size)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a block; each key says how much it shares with the one before."""
    end = offset + size
    if end + 5 > len(data) - _FOOTER:
        raise _Damaged("a block lies beyond its end")
    if _masked_crc(data[offset : end + 1]) != struct.unpack("<I", data[end + 1 : end + 5])[0]:
        raise _Damaged("a block's checksum differs")
    if data[end] != 0:
        raise _Damaged("its blocks are compressed, which TensorFlow does not do")
    block = data[offset:end]
    restarts = struct.unpack("<I", block[-4:])[0]
    place, key = 0, b""
    while place < size - 4 * (restarts + 1):
        shared, place = _varint(block, place)
        added, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + added]
        place += added
        yield key, block[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return the number at `place`, seven bits a byte, and the place after it."""
    number = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise _Damaged("a number has no end")
        number |= (data[place] & 127) << shift
        shift += 7
        place += 1
        if not data[place - 1] & 128:
            return number, place


def _fields(message: bytes) -> dict[int, list[int | bytes]]:
    """Return what a protocol buffer holds, by field number."""
    found: dict[int, list[int | bytes]] = {}
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        value: int | bytes
        if kind == 0:
            value, place = _varint(message, place)
        elif kind == 2:
            length, place = _varint(message, place)
            value = message[place : place + length]
            place += length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value = int.from_bytes(message[place : place + length], "little")
            place += length
        else:
            raise _Damaged(f"a field of kind {kind}")
        if place > len(message):
            raise _Damaged("a field has no end")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _variable(message: bytes) -> _Variable:
    """Read a BundleEntryProto."""
    fields = _fields(message)

    def number(field: int) -> int:
        value = fields.get(field, [0])[0]
        if not isinstance(value, int):
            raise _Damaged(f"field {field} of a variable is no number")
        return value

    shape: list[int] = []
    for part in fields.get(2, []):
        assert isinstance(part, bytes)
        for dimension in _fields(part).get(2, []):
            assert isinstance(dimension, bytes)
            length = _fields(dimension).get(1, [0])[0]
            assert isinstance(length, int)
            shape.append(length)
    return _Variable(
        dtype=number(1),
        shape=tuple(shape),
        shard=number(3),
        offset=number(4),
        size=number(5),
        checksum=number(6),
        sliced=7 in fields,
    )
