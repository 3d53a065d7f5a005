"""Writing: the records of some images as the three files of a piece of a store.

Pixels are written front to back as they come, so memory does not grow with their number, and not
through a memory map: on a full disk, writing to a map kills the process.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64

from igpt.data.account import Skipped, skipped_by_reason
from igpt.data.description import StoredShard
from igpt.data.reading import ReadImage
from igpt.files import digest
from igpt.seals import crc32c

_LONGEST_NAME = 255  # bytes of a record's name, the last ones, so that names.npy stays small


@dataclass(frozen=True, kw_only=True)
class WrittenPiece:
    """What became of the images of a piece."""

    stored: StoredShard
    read: int
    """Images that records were made of."""
    skipped: tuple[Skipped, ...]
    highest_level: int | None
    """Of its images of 16 bits or more."""


def write_piece(
    folder: Path,
    numbers: Int64[np.ndarray, " image"],
    read: Iterable[ReadImage],
    labels: Int64[np.ndarray, " _labelled"] | None,
    *,
    side: int,
    copies: int,
    done: Callable[[], object],
) -> WrittenPiece:
    """Write the records of some images to `folder`, and return what came of it.

    Args:
        folder: Where to, made anew; the folders above it as well.
        numbers: Those of the images in their split of the source.
        read: What was made of each.
        labels: Those of all images of that split.
        side: Of a record, in pixels.
        copies: How many records an image becomes.
        done: Called after each image.
    """
    folder.mkdir(parents=True)
    kept: list[int] = []
    names: list[bytes] = []
    skipped: list[tuple[str, str]] = []
    levels: list[int] = []
    with (folder / "images.npy").open("wb") as file:
        _write_header(file, (len(numbers) * copies, side, side, 3))
        start_of_records = file.tell()
        for number, image in zip(numbers.tolist(), read, strict=True):
            if image.skipped is not None:
                skipped.append(image.skipped)
            if image.highest_level is not None:
                levels.append(image.highest_level)
            if image.records is not None:
                file.write(image.records.tobytes())
                kept.append(number)
                names.append(image.name.encode(errors="surrogateescape")[-_LONGEST_NAME:])
            done()
        file.seek(0)  # the number of records is known now
        _write_header(file, (len(kept) * copies, side, side, 3))
        assert file.tell() == start_of_records
    np.save(folder / "names.npy", np.array(names, np.bytes_).repeat(copies))
    if labels is not None:
        np.save(folder / "labels.npy", labels[kept].repeat(copies))
    return WrittenPiece(
        stored=StoredShard(
            records=len(kept) * copies,
            sha256={file.name: digest(file) for file in sorted(folder.iterdir())},
            crc32c=crc32c(folder / "images.npy"),
        ),
        read=len(kept),
        skipped=skipped_by_reason(skipped),
        highest_level=max(levels, default=None),
    )


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
