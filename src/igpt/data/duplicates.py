"""Copies: which images are the same as others, byte for byte.

Image files are compared as they lie there, so a picture that was saved anew is no copy; images of
pixels are compared by these. All are told apart by their lengths and the bytes in their middle, and
read in full only where those are the same.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, Shaped
from tqdm import tqdm

from igpt.data.engines import Engine
from igpt.data.sources import SourceImage, SourceSplit
from igpt.pixels.opening import SkippedImage

KEPT_BEFORE = ("test", "validation", "train")
"""Of copies in several splits, that in the first of these stays: what is measured on is whole, and
nothing of it is learned from."""

_SAMPLE = 4096  # bytes in the middle of a file, which set most images apart
_DIGEST = "S16"  # 128 bits: no two of all the images there are


def same_files(
    split: SourceSplit, images: Int64[np.ndarray, " image"], engine: Engine
) -> Int64[np.ndarray, " image"]:
    """Return for each of some images of a split the index of the first that is the same file.

    Images that are no files are taken for different ones.
    """
    if not split.files:
        return np.arange(len(images))
    return _first_of_each([(split, images)], engine)


def drop_copies(
    splits: Mapping[str, tuple[SourceSplit, Int64[np.ndarray, " _image"]]], engine: Engine
) -> tuple[dict[str, Int64[np.ndarray, " _kept"]], str | None]:
    """Return which images of each split stay when all but one of the same are dropped.

    Of copies in several splits the one in the first of `KEPT_BEFORE` stays, and of those in one
    split the first. With them comes a note on what was dropped, if anything was.
    """
    order = [name for name in KEPT_BEFORE if name in splits]
    first = _first_of_each([splits[name] for name in order], engine)
    stays = first == np.arange(len(first))
    ends = np.cumsum([len(splits[name][1]) for name in order])
    kept, dropped = {}, Counter()
    for name, end in zip(order, ends.tolist(), strict=True):
        images = splits[name][1]
        here = slice(end - len(images), end)
        kept[name] = images[stays[here]]
        where = np.searchsorted(ends, first[here][~stays[here]], side="right")
        dropped.update((name, order[place]) for place in where.tolist())
    if not dropped:
        return kept, None
    said = ", ".join(
        f"{count:,} from {name} that are in {other}" if name != other else f"{count:,} in {name}"
        for (name, other), count in sorted(dropped.items())
    )
    return kept, f"copies of other images were dropped: {said}"


@dataclass(frozen=True)
class _Digests:
    """Work: a digest of each image, of its length and middle or of all of it."""

    whole: bool

    def __call__(
        self, image: Callable[[int], SourceImage], numbers: Sequence[int]
    ) -> list[bytes | None]:
        return [self._of(image, number) for number in numbers]

    def _of(self, image: Callable[[int], SourceImage], number: int) -> bytes | None:
        try:
            return _digest(image(number).content, whole=self.whole)
        except (SkippedImage, OSError):
            return None  # it is broken, and the same as no other


def _first_of_each(
    splits: Sequence[tuple[SourceSplit, Int64[np.ndarray, " _image"]]], engine: Engine
) -> Int64[np.ndarray, " image"]:
    """Return for each image of all splits the index of the first that is the same."""
    digests = np.concatenate([_read(_Digests(False), *split, engine) for split in splits])
    alike = _have_likes(digests)
    ends = np.cumsum([len(images) for _, images in splits]).tolist()
    for (split, images), end in zip(splits, ends, strict=True):
        here = slice(end - len(images), end)
        suspects = np.flatnonzero(alike[here])
        whole = _read(_Digests(True), split, images[suspects], engine)
        digests[here][suspects] = whole
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    return first[group]


def _read(
    work: _Digests, split: SourceSplit, images: Int64[np.ndarray, " image"], engine: Engine
) -> Shaped[np.ndarray, " image"]:
    """Return the digests of some images; of a broken one a digest that no other has."""
    digests = np.empty(len(images), _DIGEST)
    found = engine.map(work, split, images)
    bar = tqdm(found, total=len(images), desc="copies", unit="image", disable=None)
    for index, digest in enumerate(bar):
        digests[index] = digest or os.urandom(digests.itemsize)
    return digests


def _have_likes(digests: Shaped[np.ndarray, " image"]) -> Bool[np.ndarray, " image"]:
    _, group, counts = np.unique(digests, return_inverse=True, return_counts=True)
    return counts[group] > 1


def _digest(content: Path | bytes | np.ndarray, *, whole: bool) -> bytes:
    """Return a digest of a file's length and middle, or of all of it."""
    if isinstance(content, np.ndarray):
        content = content.tobytes()
    if isinstance(content, bytes):
        length = len(content)
        start = 0 if whole else max(length - _SAMPLE, 0) // 2
        part = content[start:] if whole else content[start : start + _SAMPLE]
    else:
        with content.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(0 if whole else max(length - _SAMPLE, 0) // 2)
            part = file.read() if whole else file.read(_SAMPLE)
    return hashlib.sha256(length.to_bytes(8, "big") + part).digest()[:16]
