"""Parcels: folders in a few files of a size that travels, to and from a machine that keeps nothing.

    python -m benchmarks.gpu.parcel pack FOLDER PARCEL     # parcel.000, parcel.001 ...
    python -m benchmarks.gpu.parcel unpack PARCEL FOLDER

A parcel is a compressed tar in parts of 15 MiB. Several calls may each bring some of the parts:
they are put together once all of them lie in one folder.
"""

import argparse
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from igpt.errors import DataError

PART = 15 * 2**20
_NAME = "parcel"


def pack(folder: Path, files: Iterable[Path], parcel: Path) -> None:
    """Put files of a folder into a parcel, in place of what is in it.

    Args:
        folder: What the files' names in the parcel are relative to.
        files: Within the folder.
        parcel: A folder for the parts.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as archive:
        for file in sorted(files):
            archive.add(file, file.relative_to(folder).as_posix(), recursive=False)
    whole = content.getvalue()
    parcel.mkdir(parents=True, exist_ok=True)
    count, earlier = -(-len(whole) // PART), set(parcel.glob(f"{_NAME}.*"))
    of = f"of-{count:03}-{hashlib.sha256(whole).hexdigest()[:16]}"
    for number in range(count):
        part = parcel / f"{_NAME}.{number:03}-{of}"
        aside = part.with_name(f"aside-{part.name}")
        aside.write_bytes(whole[number * PART : (number + 1) * PART])
        os.replace(aside, part)
    for stale in earlier - set(parcel.glob(f"{_NAME}.*-{of}")):
        stale.unlink()


def unpack(parcel: Path, folder: Path) -> None:
    """Write what is in a parcel into a folder.

    Raises:
        DataError: Some part of it is not there, or there are parts of several.
    """
    parts = sorted(parcel.glob(f"{_NAME}.*"))
    whole = b"".join(part.read_bytes() for part in parts)
    if not parts or not parts[0].name.endswith(hashlib.sha256(whole).hexdigest()[:16]):
        wanted = int(parts[0].name.split("-")[2]) if parts else 1
        raise DataError(
            f"{parcel} has {len(parts)} of {wanted} parts, or some of another parcel; bring all "
            "parts of one"
        )
    with tarfile.open(fileobj=io.BytesIO(whole), mode="r:gz") as archive:
        archive.extractall(folder, filter="data")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("act", choices=["pack", "unpack"])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    asked = parser.parse_args()
    try:
        if asked.act == "unpack":
            unpack(asked.source, asked.target)
        else:
            files = (file for file in asked.source.rglob("*") if file.is_file())
            pack(asked.source, files, asked.target)
    except DataError as error:
        sys.exit(f"parcel: {error}")


if __name__ == "__main__":
    main()
