"""TensorFlow's checkpoints, read without TensorFlow.

    checkpoint = TensorFlowCheckpoint.open(Path("model.ckpt-1000000"))
    checkpoint.shapes["model/wte"]         # (512, 512)
    checkpoint.read("model/wte")           # a tensor

A checkpoint is `PREFIX.index`, a sorted table of names, and the variables' bytes one after another
in `PREFIX.data-00000-of-000NN`. Everything read is checked against the checksum that lies beside
it, so that a damaged file is refused and never computed with. What the names mean is not known here
but in `igpt.formats.tensorflow`.

Sources: tensorflow/core/util/tensor_bundle/tensor_bundle.h and
tensorflow/core/protobuf/tensor_bundle.proto (what the table holds); leveldb's
doc/table_format.md (how the table lies on the disk).
"""

import io
import math
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
_MOST_SHARDS = 99_999  # of the five digits in their names
_LONGEST_NAME = 4096  # bytes; a table may repeat a name's beginning without spelling it out
_LARGEST = 2**40  # of a dimension
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
class Variable:
    """Where a variable lies and what it is: one entry of the index."""

    dtype: int
    """By the numbers of tensorflow/core/framework/types.proto."""
    shape: tuple[int, ...]
    shard: int
    offset: int
    """In bytes, from the shard's start."""
    size: int
    """In bytes."""
    checksum: int
    """`masked_crc` of its bytes."""
    sliced: bool
    """Whether it was saved in parts, by a partitioned variable."""


class TensorFlowCheckpoint:
    """The variables of one checkpoint; each is read when asked for."""

    def __init__(self, prefix: Path, shards: int, variables: dict[str, Variable]) -> None:
        self.prefix = prefix
        self.shards = shards
        self.variables = variables

    @classmethod
    def open(cls, path: Path) -> "TensorFlowCheckpoint":
        """Return the checkpoint at `path`, whose shards are all there.

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
            header = _Message(table.pop(b""))
            shards = header.number(1)
            if not 1 <= shards <= _MOST_SHARDS:
                raise _Damaged(f"it tells of {shards:,} shards")
            if header.number(2):
                raise _Damaged("its numbers are big-endian, which igpt does not read")
            variables = {
                name.decode(): _variable(value, shards=shards) for name, value in table.items()
            }
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
        return {name: variable.shape for name, variable in self.variables.items()}

    def read(self, name: str) -> Tensor:
        """Return a variable.

        Raises:
            CheckpointError: There is no such variable, it holds no numbers, or its bytes are not
                those that were written.
        """
        if name not in self.variables:
            raise CheckpointError(
                f"{self.prefix} has no variable {name!r}{nearest_name(name, self.variables)}"
            )
        variable = self.variables[name]
        path = self._shard(variable.shard)
        dtype = _DTYPES.get(variable.dtype)
        if dtype is None or variable.sliced:
            kind = "in slices" if variable.sliced else f"of TensorFlow's type {variable.dtype}"
            raise CheckpointError(
                f"{self.prefix} holds {name!r} {kind}, and whole numeric variables are read only; "
                "save it again without partitioned variables"
            )
        count = math.prod(variable.shape)
        end = variable.offset + variable.size
        if count * dtype.itemsize != variable.size or end > path.stat().st_size:
            raise CheckpointError(
                f"{path} ends within the variable {name!r}; copy it again, it is cut off"
            )
        with path.open("rb") as file:
            file.seek(variable.offset)
            data = file.read(variable.size)
        if masked_crc(data) != variable.checksum:
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
    """Return whether `path` names a checkpoint: by prefix, index file or folder of one or more."""
    if path.is_dir():
        return any(path.glob("*.index"))
    return _index(_prefix(path)).is_file()


def _prefix(path: Path) -> Path:
    if path.is_dir():
        prefixes = sorted(file.with_suffix("") for file in path.glob("*.index"))
        if len(prefixes) != 1:
            names = ", ".join(prefix.name for prefix in prefixes) or "none"
            raise CheckpointError(
                f"{path} should hold one TensorFlow checkpoint and holds {names}; give the path of "
                "one, without its .index"
            )
        return prefixes[0]
    if path.suffix == ".index" and path.is_file():
        return path.with_suffix("")
    return path


def _index(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.index")


def masked_crc(data: bytes) -> int:
    """Return the CRC-32C as the files have it, turned and shifted (leveldb, util/crc32c.h)."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _read_table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a table: footer -> index block -> data blocks."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise _Damaged("it does not end as one does")
    footer = io.BytesIO(data[-_FOOTER:])
    # offset and size of the metaindex, which is empty, and of the index
    handles = [_varint(footer) for _ in range(4)]
    end = 0
    for _, handle in _block(data, *handles[2:]):
        stream = io.BytesIO(handle)
        offset, size = _varint(stream), _varint(stream)
        if offset < end:  # or the table would be longer than its file, without bounds
            raise _Damaged("its blocks lie one upon the other")
        end = offset + size
        yield from _block(data, offset, size)


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of a block; each key says how much it shares with the one before."""
    end = offset + size
    if size < 4 or end + 5 > len(data) - _FOOTER:
        raise _Damaged("a block lies beyond its end")
    if masked_crc(data[offset : end + 1]) != struct.unpack("<I", data[end + 1 : end + 5])[0]:
        raise _Damaged("a block's checksum differs")
    if data[end] != 0:
        raise _Damaged("its blocks are compressed, which TensorFlow does not do")
    restarts = struct.unpack("<I", data[end - 4 : end])[0]  # places to start from, at the end
    entries = io.BytesIO(data[offset : max(offset, end - 4 * (restarts + 1))])
    key = b""
    while entries.tell() < len(entries.getbuffer()):
        shared, added, length = (_varint(entries) for _ in range(3))
        if shared + added > _LONGEST_NAME:
            raise _Damaged(f"a name in it is {shared + added:,} bytes long")
        key = key[:shared] + _exactly(entries, added)
        yield key, _exactly(entries, length)


def _varint(stream: io.BytesIO) -> int:
    """Read a number, seven bits a byte."""
    number = 0
    for shift in range(0, 64, 7):
        byte = _exactly(stream, 1)[0]
        number |= (byte & 127) << shift
        if byte < 128:
            return number
    raise _Damaged("a number has no end")


def _exactly(stream: io.BytesIO, length: int) -> bytes:
    if length > len(stream.getbuffer()) - stream.tell():
        raise _Damaged("an entry has no end")
    return stream.read(length)


class _Message:
    """A protocol buffer: its fields by their numbers."""

    def __init__(self, data: bytes) -> None:
        self.fields: dict[int, list[int | bytes]] = {}
        stream = io.BytesIO(data)
        while stream.tell() < len(data):
            tag = _varint(stream)
            value: int | bytes
            match tag & 7:
                case 0:
                    value = _varint(stream)
                case 1:
                    value = int.from_bytes(_exactly(stream, 8), "little")
                case 2:
                    value = _exactly(stream, _varint(stream))
                case 5:
                    value = int.from_bytes(_exactly(stream, 4), "little")
                case kind:
                    raise _Damaged(f"a field is of kind {kind}")
            self.fields.setdefault(tag >> 3, []).append(value)

    def number(self, field: int) -> int:
        """Return the number in a field, 0 if it is not there, as protocol buffers have it."""
        value = self.fields.get(field, [0])[0]
        if not isinstance(value, int):
            raise _Damaged(f"field {field} is no number")
        return value

    def messages(self, field: int) -> "list[_Message]":
        """Return the protocol buffers in a repeated field."""
        return [_Message(value) for value in self.fields.get(field, []) if isinstance(value, bytes)]


def _variable(data: bytes, *, shards: int) -> Variable:
    """Read a BundleEntryProto."""
    entry = _Message(data)
    shape = tuple(
        dimension.number(1) for shape in entry.messages(2) for dimension in shape.messages(2)
    )
    if any(length > _LARGEST for length in shape):  # negative ones come as large ones
        raise _Damaged(f"a variable has the shape {shape}")
    if entry.number(3) >= shards:
        raise _Damaged(f"a variable lies in shard {entry.number(3):,} of {shards}")
    return Variable(
        dtype=entry.number(1),
        shape=shape,
        shard=entry.number(3),
        offset=entry.number(4),
        size=entry.number(5),
        checksum=entry.number(6),
        sliced=7 in entry.fields,
    )
