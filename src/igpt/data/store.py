"""Record stores: images made ready once, read at the speed of memory.

    store = RecordStore.open(Path("data/cifar10"))  # `igpt.data.prepare` makes one
    train = store.split("train")
    train.images[7], train.labels[7]  # (32, 32, 3) bytes, a number

A store is a folder. Pixels are kept and not tokens, since augmentation comes before tokens and the
palette may change. What its files are, `igpt.data.description` says; a split of many shards is read
like one of one, memory-mapped and by the numbers of its records.

`store.json` keeps the checksum of each file, and one of itself. Opening a store checks everything
but the pixels, which are checked when a split is first asked for: the images of one process are
those that were prepared. What is done to the files after that is not seen. On a shared disk they
must not be cut or overwritten while a process reads: pixels are mapped into its memory, and one
that touches a place past the end of its file is killed (SIGBUS). The next opening tells of it.

"train+validation" folds the held-out records back into those of training.
"""

import dataclasses
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from igpt.amounts import counted
from igpt.arrays import read_array
from igpt.data.config import SPLITS
from igpt.data.description import StoreDescription, read_description
from igpt.data.shards import JoinedArray, joined
from igpt.errors import DataError, nearest_name, printable
from igpt.files import digest
from igpt.paths import AnyPath
from igpt.pixels.filters import DEFAULT_FILTER, ResamplingFilter
from igpt.pixels.images import resize_images
from igpt.pixels.preparation import Preparation
from igpt.randomness import Stream, stream
from igpt.seals import crc32c

FOLDED = "train+validation"
"""The split that a run learns from once its settings are chosen (Chen et al. 2020, section 3.1)."""

_AGAIN = "prepare the store again"


@dataclass(frozen=True, kw_only=True)
class Records:
    """One split of a store, or some of its records."""

    name: str
    """That of the split."""
    path: Path | None = None
    """Folder of the store, for messages; None if they were made up."""
    images: UInt8[np.ndarray | JoinedArray, "record size size 3"]
    """Memory-mapped from the disk, unless two splits were put together or some were chosen. Of
    several shards they are no array in memory, but are indexed like one."""
    labels: Int64[np.ndarray, " record"] | None
    class_names: tuple[str, ...] | None
    encoded_names: Shaped[np.ndarray | JoinedArray, " record"] | None = None
    """`names` as UTF-8 bytes, memory-mapped from the disk."""
    filter: ResamplingFilter = DEFAULT_FILTER
    """How the images were resampled, and are when they have to be made smaller still."""
    token_palette: str | None = None
    """Fingerprint of the palette, if these are token arrays in its colors."""
    cropped: bool = False
    """Whether these are random crops of images, and not their centered squares."""

    def __len__(self) -> int:
        """Count the records."""
        return len(self.images)

    @property
    def described(self) -> str:
        """What messages call them."""
        return f"{self.name} records" + (f" of {self.path}" if self.path else "")

    @property
    def names(self) -> list[str]:
        """What each record was made of: a path in the source, or a number; empty if made up."""
        encoded = () if self.encoded_names is None else np.asarray(self.encoded_names).tolist()
        return [name.decode(errors="surrogateescape") for name in encoded]

    def chosen(self, numbers: Int64[np.ndarray, " chosen"]) -> "Records":
        """Return the records of these numbers, in their order."""
        labels, names = (
            None if array is None else array[numbers] for array in (self.labels, self.encoded_names)
        )
        return dataclasses.replace(
            self, images=self.images[numbers], labels=labels, encoded_names=names
        )

    def sample(self, count: int | None, seed: int = 0) -> "Records":
        """Return `count` records drawn by `seed`, in the order of drawing, or all in their own.

        Stores are often sorted by class, so the first few records stand for one class only. A
        smaller sample is the beginning of a larger one.
        """
        if count is None or count >= len(self):
            return self
        return self.chosen(stream(Stream.SAMPLE, seed).permutation(len(self))[:count])

    def varied(self, count: int, seed: int = 0) -> Int64[np.ndarray, " chosen"]:
        """Return the numbers of `count` records, or of all there are, to be looked at.

        They are drawn by `seed` over all classes: none has a second record before each has one.
        """
        order = stream(Stream.SHOWN, seed).permutation(len(self))
        if self.labels is None:
            return order[:count]
        labels = self.labels[order]
        turns = np.empty(len(order), np.int64)  # how many of its class were drawn before each
        for label in np.unique(labels):
            of_class = labels == label
            turns[of_class] = np.arange(of_class.sum())
        return order[np.argsort(turns, kind="stable")[:count]]

    def titles(self, numbers: Int64[np.ndarray, " chosen"]) -> list[str]:
        """Return what to call some records: `test image 7`, and the file it was made of."""
        names = self.chosen(numbers).names or [""] * len(numbers)
        return [
            f"{self.name} image {number}" + (f": {printable(name)}" if name else "")
            for number, name in zip(numbers.tolist(), names, strict=True)
        ]

    def squares(
        self, part: slice, image_size: int
    ) -> UInt8[np.ndarray, "image {image_size} {image_size} 3"]:
        """Return some records as a network of this image size sees them, without augmentation."""
        return resize_images(self.images[part], image_size, self.filter)

    def require_fit(self, image_size: int, palette: str | None = None) -> None:
        """See that a network can read these records.

        Args:
            image_size: The network's.
            palette: The fingerprint of its palette; None if that does not matter.

        Raises:
            DataError: They are smaller than that, or tokens of another palette.
        """
        stored = self.images.shape[1]
        if stored < image_size:
            raise DataError(
                f"the {self.described} are images of {stored}x{stored} pixels, and "
                f"{image_size}x{image_size} are wanted; prepare them again with --image-size "
                f"{image_size}, or choose a smaller size, for a new model --set "
                f"model.image_size={stored}"
            )
        if palette is not None and self.token_palette not in (None, palette):
            raise DataError(
                f"the {self.described} are tokens of palette {self.token_palette}, and the "
                f"model's palette is {palette}, under which they would be "
                "others; prepare them again with the model's palette.npy"
            )

    def require_labels(self) -> Int64[np.ndarray, " record"]:
        """Return the labels.

        Raises:
            DataError: There are none.
        """
        if self.labels is None:
            raise DataError(
                f"the {self.described} have no labels; prepare them from a source with labels, "
                "such as one folder of images for each class"
            )
        return self.labels


@dataclass(frozen=True, kw_only=True)
class RecordStore(StoreDescription):
    """A folder of records ready for training, and what is known of it."""

    path: Path
    identity: str
    """Sixteen hexadecimal digits that tell what is stored here from other images, wherever the
    folder lies and whatever it was made from."""
    _checked: set[str] = field(default_factory=set, compare=False, repr=False)
    """Splits whose pixels are known to be those that were prepared."""

    @classmethod
    def open(cls, path: AnyPath) -> "RecordStore":
        """Return the store in `path`, checked to be whole but for the pixels.

        Raises:
            DataError: There is no store, its files do not fit together, or one of them was changed.
        """
        path = Path(path)
        description, identity = read_description(path)
        store = cls(path=path, identity=identity, **vars(description))
        for name, split in store.splits.items():
            store._load(name)
            for piece, shard in split.pieces():
                for file, sha256 in shard.sha256.items():
                    found = path / name / piece / file
                    if file != "images.npy" and digest(found) != sha256:
                        raise _changed(found)
        return store

    @property
    def preparation(self) -> Preparation:
        """How its images were made ready, so that others can be made the same."""
        return Preparation(
            size=self.config.image_size, filter=self.config.filter, levels=self.config.levels
        )

    def summary(self) -> str:
        """Return what the store holds, and the account of what it was made from."""
        counts = ", ".join(f"{split.records:,} {name}" for name, split in self.splits.items())
        names = self.class_names
        kind = counted(len(names), "class", "classes") if names else "no labels"
        size = f"{self.config.image_size}x{self.config.image_size}"
        text = f"{self.path}: {counts} images of {size} pixels, {kind}"
        if self.config.crops:
            text += f"; {counted(self.config.crops, 'crop')} of each training image"
        return f"{text}\n{self.account.text()}"

    def split(self, name: str, *, checked: bool = True) -> Records:
        """Return the records of "train", "validation", "test" or "train+validation".

        The last are the held-out records, folded back in after the others, as the squares they are;
        a copy in memory, unless one of the two is in several shards. The first time, all pixels of
        the split are read once, to check them.

        Args:
            name: Of the split.
            checked: Whether they are to be; another process may have seen to it.

        Raises:
            DataError: The store has no such split, or its pixels are not those that were prepared.
        """
        names = name.split("+") if name == FOLDED else [name]
        parts = [self._load(part) for part in names]
        for part in names if checked else ():
            self._check_pixels(part)
        if len(parts) == 1:
            return parts[0]
        labels = [part.labels for part in parts if part.labels is not None]
        names = [part.encoded_names for part in parts if part.encoded_names is not None]
        return dataclasses.replace(
            parts[0],
            name=name,
            images=_folded([part.images for part in parts]),
            labels=np.concatenate(labels) if len(labels) == len(parts) else None,
            encoded_names=_folded(names) if len(names) == len(parts) else None,
        )

    def _load(self, name: str) -> Records:
        if name not in self.splits:
            raise DataError(self._no_split(name))
        known, size = self.splits[name], self.config.image_size
        images, names, labels = [], [], []
        for piece, shard in known.pieces():
            folder, shape = self.path / name / piece, (shard.records, size, size, 3)
            images.append(_read(folder / "images.npy", np.uint8, shape, mmap=True))
            names.append(_read(folder / "names.npy", np.bytes_, shape[:1], mmap=True))
            if known.labelled:
                labels.append(self._labels(folder / "labels.npy", shard.records))
        return Records(
            name=name,
            path=self.path,
            images=joined(images),
            labels=np.concatenate(labels) if labels else None,
            class_names=self.class_names,
            encoded_names=joined(names),
            filter=self.config.filter,
            token_palette=self.token_palette,
            cropped=name == "train" and self.config.crops > 0,
        )

    def _labels(self, file: Path, records: int) -> Int64[np.ndarray, " record"]:
        labels = _read(file, np.int64, (records,))
        classes = len(self.class_names or ())
        if labels.size and not 0 <= labels.min() <= labels.max() < classes:
            raise DataError(
                f"{file} holds labels from {labels.min()} to {labels.max()}, and the store has "
                f"{classes} classes; {_AGAIN}"
            )
        return labels

    def _check_pixels(self, name: str) -> None:
        known = self.splits[name]
        if name in self._checked:
            return
        for piece, shard in known.pieces():
            file = self.path / name / piece / "images.npy"
            if shard.crc32c not in (None, crc32c(file)):
                raise _changed(file)
            if known.checksum not in (None, zlib.crc32(np.asarray(self._load(name).images).data)):
                raise _changed(file)  # of format 3
        self._checked.add(name)

    def _no_split(self, name: str) -> str:
        if name not in SPLITS:
            return f"there is no split {name!r}{nearest_name(name, [*self.splits, FOLDED])}"
        return (
            f"{self.path} has no {name} split, only {', '.join(self.splits)}; prepare it again "
            f"with a {name} fraction above 0, or from a source that has one"
        )


def _read(
    file: Path, kind: type[np.generic], shape: tuple[int, ...], *, mmap: bool = False
) -> np.ndarray:
    return read_array(file, dtype=kind, shape=shape, mmap=mmap, advice=_AGAIN)


def _folded(parts: list[np.ndarray | JoinedArray]) -> np.ndarray | JoinedArray:
    """Return the arrays of two splits as one: in memory, unless one of them is in shards."""
    pieces = [part.parts if isinstance(part, JoinedArray) else (part,) for part in parts]
    if all(len(of_part) == 1 for of_part in pieces):
        return np.concatenate([piece for (piece,) in pieces])
    return joined([piece for of_part in pieces for piece in of_part])


def _changed(path: Path) -> DataError:
    return DataError(
        f"{path} was changed since the store was prepared (its checksum differs); restore it, or "
        "prepare the store again"
    )
