"""Hold-outs: which images of a training split are kept for validation and testing.

Where there are labels, each class gives its share. Copies of one image stay together, so that none
is both learned from and tested on. All are pure functions of what they are given.
"""

import dataclasses
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from tqdm import tqdm

from igpt.data.config import HELD_OUT, NONE, StoreConfig
from igpt.data.sources import Source, SourceSplit
from igpt.errors import ConfigError, DataError
from igpt.randomness import Stream, stream

_SAMPLE = 4096  # bytes in the middle of a file, which set most images apart


def with_fractions(config: StoreConfig, source: Source) -> StoreConfig:
    """Return the settings with the fractions that are held out of this source's training images.

    They are 0 for a split that the source has itself, and where there are no training images.

    Raises:
        ConfigError: A fraction other than 0 is asked for and can have no use.
    """
    fractions = {"test": config.test_fraction, "validation": config.validation_fraction}
    for name, fraction in fractions.items():
        if "train" in source.splits and name not in source.splits:
            fractions[name] = HELD_OUT if fraction is None else fraction
            continue
        if fraction:
            raise ConfigError(
                f"--{name}-fraction {fraction} has no use, since {_why_useless(name, source)}"
            )
        fractions[name] = 0.0
    return dataclasses.replace(
        config, test_fraction=fractions["test"], validation_fraction=fractions["validation"]
    )


def _why_useless(name: str, source: Source) -> str:
    """Return why nothing can be held out for a split, and what to do."""
    if name not in source.splits:
        return "there are no training images; leave it out"
    called = source.called.get(name, name)
    text = (
        f"{called} of the source is the {name} split; leave it out, or set {called} aside with "
        f"--split {name}={NONE}"
    )
    if name == "validation" and "test" not in source.splits:
        text += f", or make it the test split with --split test={called}"
    return text


def hold_out(
    groups: Int64[np.ndarray, " image"],
    labels: Int64[np.ndarray, " image"] | None,
    fraction: float,
    seed: int,
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Return the indices of the images to keep and of those to hold out, each in rising order.

    `fraction` of the images are held out, rounded, but at least one is unless `fraction` is 0. Each
    class gives its share, rounded up or down, but keeps at least one group of images. Where it
    cannot give its share, others give more.

    Args:
        groups: Images with the same number stay together, and count for the class of one of them.
        labels: Class numbers; without them, all images are of one class.
        fraction: In [0, 1).
        seed: Chooses among the images of a class.
    """
    images = len(groups)
    count = max(round(images * fraction), 1 if fraction else 0)
    shuffled = stream(Stream.HOLDOUT, seed).permutation(images)
    _, first, sizes = np.unique(groups[shuffled], return_index=True, return_counts=True)
    order = np.argsort(first)  # the groups as the permutation comes upon them
    leaders, sizes = shuffled[first[order]], sizes[order]
    classes = np.zeros(len(order), np.int64) if labels is None else labels[leaders]

    share = np.bincount(classes, sizes) * (count / images)
    quota = np.floor(share + 1e-9)
    met = np.full(len(quota), len(classes))
    np.minimum.at(met, classes, np.arange(len(classes)))  # ties go by the permutation too
    most_lacking = np.lexsort([met, quota - share])[: count - int(quota.sum())]
    quota[most_lacking] += 1
    groups_left = np.bincount(classes)
    held = np.zeros(len(order), bool)
    left = count
    for any_class in (False, True):  # shares first, then what classes of one image could not give
        for index, (label, size) in enumerate(zip(classes.tolist(), sizes.tolist(), strict=True)):
            room = left if any_class else quota[label]
            if not held[index] and size <= room and groups_left[label] > 1:
                held[index] = True
                groups_left[label] -= 1
                quota[label] -= size
                left -= size
        if left <= 0:
            break
    chosen = np.isin(groups, groups[leaders[held]])
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def same_files(
    split: SourceSplit, images: Int64[np.ndarray, " image"]
) -> Int64[np.ndarray, " image"]:
    """Return for each of some images of a split the index of the first that is the same file.

    Files are told apart by their lengths and the bytes in their middle, and read in full only where
    those are the same.
    """
    if not split.files:
        return np.arange(len(images))

    def digest(number: int, *, whole: bool = False) -> bytes:
        try:
            content = split.image(number).content
            assert not isinstance(content, np.ndarray)
            return _digest(content, whole=whole)
        except (DataError, OSError):
            return f"broken {number}".encode()  # the same as no other

    numbers = images.tolist()
    with ThreadPoolExecutor() as pool:
        looked_at = pool.map(digest, numbers, chunksize=64)
        bar = tqdm(looked_at, total=len(numbers), desc="copies", unit="image", disable=None)
        digests = list(bar)
    first = _first_of_each(digests)
    alike = np.unique(first[first != np.arange(len(first))])
    for index in np.flatnonzero(np.isin(first, alike)).tolist():
        digests[index] = digest(numbers[index], whole=True)
    return _first_of_each(digests)


def _first_of_each(digests: list[bytes]) -> Int64[np.ndarray, " image"]:
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)], np.int64)


def _digest(content: Path | bytes, *, whole: bool) -> bytes:
    """Return a digest of a file's length and middle, or of all of it."""
    if isinstance(content, bytes):
        length = len(content)
        start = 0 if whole else max(length - _SAMPLE, 0) // 2
        part = content[start:] if whole else content[start : start + _SAMPLE]
    else:
        with content.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(0 if whole else max(length - _SAMPLE, 0) // 2)
            part = file.read() if whole else file.read(_SAMPLE)
    return hashlib.sha256(length.to_bytes(8, "big") + part).digest()
