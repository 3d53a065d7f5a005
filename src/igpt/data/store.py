"""Record stores: images made ready once, read at the speed of memory.

    store = RecordStore.open(Path("data/cifar10"))  # `igpt.data.prepare` makes one
    train = store.split("train")
    train.images[7], train.labels[7]  # (32, 32, 3) bytes, a number

A store is a folder. Pixels are kept and not tokens, since augmentation comes before tokens and the
palette may change:

    store.json                  what was asked for, and what came of it: `StoreDescription`
    train/images.npy            uint8 (record, size, size, 3), memory-mapped when read
    train/labels.npy            int64 (record), if the split is labelled
    train/names.npy             UTF-8 bytes (record), which file each was made of
    validation/..., test/...

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
from igpt.data.account import Account
from igpt.data.config import SPLITS, StoreConfig
from igpt.errors import ConfigError, DataError, nearest_name, printable
from igpt.files import digest, read_json
from igpt.paths import AnyPath
from igpt.pixels.filters import DEFAULT_FILTER, ResamplingFilter
from igpt.pixels.images import resize_images
from igpt.pixels.preparation import Preparation
from igpt.places import STORE, require_store
from igpt.randomness import Stream, stream
from igpt.seals import crc32c, fingerprint, unsealed
from igpt.values import from_dict, to_dict

FORMAT = 4
"""Raised whenever an older igpt could not read a store any more, or this one not an older store."""

_WITHOUT_CHECKSUMS = 3
"""The format before, which is read as well: of its files, the pixels alone have a checksum."""

FOLDED = "train+validation"
"""The split that a run learns from once its settings are chosen (Chen et al. 2020, section 3.1)."""

_AGAIN = "prepare the store again"


@dataclass(frozen=True, kw_only=True)
class StoredSplit:
    """What is known of one split without reading it."""

    records: int
    labelled: bool
    sha256: dict[str, str] = field(default_factory=dict)
    """Of each of its files by name; none in a store of format 3."""
    crc32c: int | None = None
    """Of `images.npy`; the same in no time."""
    checksum: int | None = None
    """CRC-32 of the pixels, in a store of format 3."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of its files."""
        return ("images.npy", "names.npy", *(("labels.npy",) if self.labelled else ()))


@dataclass(frozen=True, kw_only=True)
class StoreDescription:
    """What `store.json` holds."""

    source: str
    """The location that the images came from."""
    config: StoreConfig
    """What was asked for, with the fractions that came of it."""
    token_palette: str | None
    """Fingerprint of the palette, if the records are token arrays in its colors."""
    class_names: tuple[str, ...] | None
    splits: dict[str, StoredSplit]
    """Those of "train", "validation" and "test" that there are."""
    account: Account
    """What became of every file of the source."""
    made_with: dict[str, str]
    """Versions of the libraries that shape the pixels."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """One split of a store, or some of its records."""

    name: str
    """That of the split."""
    path: Path | None = None
    """Folder of the store, for messages; None if they were made up."""
    images: UInt8[np.ndarray, "record size size 3"]
    """Memory-mapped from the disk, unless two splits were put together or some were chosen."""
    labels: Int64[np.ndarray, " record"] | None
    class_names: tuple[str, ...] | None
    encoded_names: Shaped[np.ndarray, " record"] | None = None
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
        encoded = () if self.encoded_names is None else self.encoded_names.tolist()
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
        description, identity = cls.describe(path)
        store = cls(path=path, identity=identity, **vars(description))
        for name in store.splits:
            store._load(name)
            for file, sha256 in store.splits[name].sha256.items():
                if file != "images.npy" and digest(path / name / file) != sha256:
                    raise _changed(path / name / file)
        return store

    @staticmethod
    def describe(path: Path) -> tuple[StoreDescription, str]:
        """Return what `store.json` says of the store in `path`, and the store's identity.

        Raises:
            DataError: There is no store, or the file is damaged or of another format.
        """
        file = path / STORE
        require_store(path)
        values = unsealed(read_json(file, error=DataError), file, error=DataError)
        version = values.pop("format", FORMAT)
        if version not in (FORMAT, _WITHOUT_CHECKSUMS):
            raise DataError(
                f"{path} is a store of format {version}, and this igpt reads format {FORMAT}; "
                "prepare it again"
            )
        try:
            description = from_dict(StoreDescription, values, name="a store")
        except ConfigError as error:
            raise DataError(f"{file} is damaged: {error}; prepare the store again") from error
        if version == _WITHOUT_CHECKSUMS:
            return description, digest(file)[:16]  # by which runs that began with it know it
        contents = {
            "image_size": description.config.image_size,
            "filter": description.config.filter,
            "cropped": description.config.crops > 0,
            "token_palette": description.token_palette,
            "class_names": description.class_names,
            "splits": {name: to_dict(split) for name, split in description.splits.items()},
        }
        return description, fingerprint(contents)

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

    def split(self, name: str) -> Records:
        """Return the records of "train", "validation", "test" or "train+validation".

        The last is a copy in memory: the held-out records, folded back in after the others, as the
        squares they are. The first time, all pixels of the split are read once, to check them.

        Raises:
            DataError: The store has no such split, or its pixels are not those that were prepared.
        """
        names = name.split("+") if name == FOLDED else [name]
        parts = [self._load(part) for part in names]
        for part in names:
            self._check_pixels(part)
        if len(parts) == 1:
            return parts[0]
        labels = [part.labels for part in parts if part.labels is not None]
        names = [part.encoded_names for part in parts if part.encoded_names is not None]
        return dataclasses.replace(
            parts[0],
            name=name,
            images=np.concatenate([part.images for part in parts]),
            labels=np.concatenate(labels) if len(labels) == len(parts) else None,
            encoded_names=np.concatenate(names) if len(names) == len(parts) else None,
        )

    def _load(self, name: str) -> Records:
        if name not in self.splits:
            raise DataError(self._no_split(name))
        known, size = self.splits[name], self.config.image_size
        shape = (known.records, size, size, 3)
        images = self.path / name / "images.npy"
        names = self.path / name / "names.npy"
        labels = None
        if known.labelled:
            file = self.path / name / "labels.npy"
            labels = read_array(file, dtype=np.int64, shape=shape[:1], advice=_AGAIN)
            classes = len(self.class_names or ())
            if labels.size and not 0 <= labels.min() <= labels.max() < classes:
                raise DataError(
                    f"{file} holds labels from {labels.min()} to {labels.max()}, and the store has "
                    f"{classes} classes; {_AGAIN}"
                )
        return Records(
            name=name,
            path=self.path,
            images=read_array(images, dtype=np.uint8, shape=shape, mmap=True, advice=_AGAIN),
            labels=labels,
            class_names=self.class_names,
            encoded_names=read_array(
                names, dtype=np.bytes_, shape=shape[:1], mmap=True, advice=_AGAIN
            ),
            filter=self.config.filter,
            token_palette=self.token_palette,
            cropped=name == "train" and self.config.crops > 0,
        )

    def _check_pixels(self, name: str) -> None:
        file, known = self.path / name / "images.npy", self.splits[name]
        if name in self._checked:
            return
        if known.crc32c not in (None, crc32c(file)):
            raise _changed(file)
        if known.checksum not in (None, zlib.crc32(self._load(name).images.data)):  # of format 3
            raise _changed(file)
        self._checked.add(name)

    def _no_split(self, name: str) -> str:
        if name not in SPLITS:
            return f"there is no split {name!r}{nearest_name(name, [*self.splits, FOLDED])}"
        return (
            f"{self.path} has no {name} split, only {', '.join(self.splits)}; prepare it again "
            f"with a {name} fraction above 0, or from a source that has one"
        )


def _changed(path: Path) -> DataError:
    return DataError(
        f"{path} was changed since the store was prepared (its checksum differs); restore it, or "
        "prepare the store again"
    )
