"""Loose images: files and folders as they are named on a command line, read a few at a time.

    files = loose_files([Path("cat.jpg"), Path("photos")])
    for part in read_squares(files, tokenizer):
        part.names, part.squares         # ["cat.jpg", "photos/a/1.jpg"], (2, 12, 12, 3)
    files.skipped                        # [("photos/broken.jpg", "photos/broken.jpg is ...")]

A folder, or a zip or tar file, is walked as `igpt data prepare` walks it: images at any depth, in
the order of their names, without hidden files and what systems drop. A file of no use is left out
and said, and the others go on.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from igpt.data.collection import File, folder_files, tar_files, zip_files
from igpt.errors import DataError
from igpt.pixels.decoding import DecodingBudget
from igpt.pixels.opening import SkippedImage
from igpt.pixels.tokenizer import ImageTokenizer

AT_ONCE = 64
"""Images that are read at a time, unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file of no use."""

    file: str
    reason: str
    """What is wrong with it, in a line that names it."""


@dataclass
class LooseFiles:
    """Images to read, and those that could not be."""

    files: list[File]
    skipped: list[SkippedFile] = field(default_factory=list)
    """Grows while they are read."""

    def require_some_read(self) -> None:
        """See that not every one of them was skipped.

        Raises:
            DataError: Every one was; the message is about the first.
        """
        if len(self.skipped) == len(self.files):
            more = len(self.skipped) - 1
            also = f"; nor could {more} more be read" if more else ""
            raise DataError(f"{self.skipped[0].reason}{also}")

    def read_all(self, tokenizer: ImageTokenizer) -> "Squares":
        """Return all that can be read of them at once, with a note on what cannot.

        Raises:
            DataError: None of them can be.
        """
        parts = list(read_squares(self, tokenizer))
        self.require_some_read()
        for file in self.skipped:
            warnings.warn(f"left out: {file.reason}", stacklevel=2)
        return Squares(
            names=[name for part in parts for name in part.names],
            squares=np.concatenate([part.squares for part in parts]),
        )


@dataclass(frozen=True, kw_only=True)
class Squares:
    """Some images at a network's size."""

    names: list[str]
    squares: UInt8[np.ndarray, "image size size 3"]


def loose_files(paths: Sequence[Path]) -> LooseFiles:
    """Return the images that files, folders and archives stand for, in their order.

    Raises:
        DataError: A folder or an archive holds no images, or cannot be read; or nothing is given.
    """
    files: list[File] = []
    for path in paths:
        archive = {".zip": zip_files, ".tar": lambda path: tar_files([path])}.get(
            path.suffix.lower()
        )
        if path.is_dir():
            collection = folder_files(path)
        elif archive is not None and path.is_file():
            collection = archive(path)
        else:
            files.append(File(str(path), path))
            continue
        found = collection.root.all_files()
        if not found:
            raise DataError(f"{path} holds no images that can be read; give a folder that does")
        files += (File(f"{path}/{file.name}", file.content) for file in found)
    if not files:
        raise DataError("no images are given; name files or folders of them")
    return LooseFiles(files)


def read_squares(
    loose: LooseFiles, tokenizer: ImageTokenizer, *, at_once: int = AT_ONCE
) -> Iterator[Squares]:
    """Yield the images as the network reads them, some at a time.

    They are made ready as the tokenizer says. What cannot be read goes to `loose.skipped`.
    """
    budget = DecodingBudget()
    read = partial(_read, tokenizer=tokenizer, budget=budget)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(loose.files), at_once):
            part = list(pool.map(read, loose.files[first : first + at_once]))
            loose.skipped += (image for image in part if isinstance(image, SkippedFile))
            whole = [image for image in part if not isinstance(image, SkippedFile)]
            if whole:
                names, squares = zip(*whole, strict=True)
                yield Squares(names=list(names), squares=np.stack(squares))


def _read(
    file: File, *, tokenizer: ImageTokenizer, budget: DecodingBudget
) -> tuple[str, np.ndarray] | SkippedFile:
    try:
        pixels = tokenizer.preparation.square(
            file.read(), tokenizer.image_size, name=file.name, budget=budget
        )
    except SkippedImage as error:
        return SkippedFile(file=file.name, reason=str(error))
    return file.name, pixels
