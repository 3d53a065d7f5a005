"""Record stores: a collection of images made ready once, then read at the speed of memory.

    store = prepare_store("uoft-cs/cifar10", Path("data/cifar10"), image_size=32)
    train = RecordStore.open(Path("data/cifar10")).split("train")
    train.images[7], train.labels[7]  # (32, 32, 3) bytes, a number

A store is a folder. Pixels are kept and not tokens, since augmentation comes before tokens and the
palette may change:

    store.json                  what it holds and how it was made
    train/images.npy            uint8 (record, size, size, 3), memory-mapped when read
    train/labels.npy            int64 (record), if the split is labelled
    validation/..., test/...

Each record is the image's centered square at one size, as the paper sees images in evaluation;
with `crops`, training images become several records each, random crops of the whole image as the
paper sees them in training, where squares to crop from later would take a hundred times the space
(384x384 against 32x32). Images stream from a pool of threads into
the file in the order of the source, so memory does not grow with the collection, and the folder
gets its name only when it is whole. A validation split is held out from the training images, as the
paper does to choose hyperparameters (10 % of CIFAR-10, section 3.1); "train+validation" folds it
back in, as the squares they are.
"""

import dataclasses
import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
from jaxtyping import Int64, UInt8
from tqdm import tqdm

import igpt
from igpt.data.augment import Augmentation
from igpt.data.sources import SourceSplit, open_source, random_crops
from igpt.errors import ConfigError, DataError, nearest_name
from igpt.files import remove_abandoned, write_json, written_aside
from igpt.pixels.images import DEFAULT_FILTER, ResamplingFilter, square
from igpt.pixels.palette import Palette
from igpt.randomness import Stream, stream

FORMAT = 1
_FIRST_SKIPPED = 5
_CHUNK = 8  # images a thread takes at a time: small ones are read faster than they are handed out


@dataclass(frozen=True, kw_only=True)
class Records:
    """One split of a store."""

    name: str
    images: UInt8[np.ndarray, "record size size 3"]
    """Memory-mapped from the disk, unless two splits were put together."""
    labels: Int64[np.ndarray, " record"] | None
    class_names: tuple[str, ...] | None
    filter: ResamplingFilter = DEFAULT_FILTER
    """How the images were resampled, and are when they have to be made smaller still."""
    token_palette: str | None = None
    """Fingerprint of the palette, if these are token arrays in its colors."""

    def __len__(self) -> int:
        """Count the records."""
        return len(self.images)

    def chosen(self, numbers: slice | Int64[np.ndarray, " chosen"]) -> "Records":
        """Return the records of these numbers, in their order."""
        labels = None if self.labels is None else self.labels[numbers]
        return dataclasses.replace(self, images=self.images[numbers], labels=labels)

    def first(self, count: int | None) -> "Records":
        """Return the first `count` records, or all of them."""
        return self.chosen(slice(count))

    def require_labels(self) -> Int64[np.ndarray, " record"]:
        """Return the labels.

        Raises:
            DataError: There are none.
        """
        if self.labels is None:
            raise DataError(
                f"the {self.name} split of this store has no labels; prepare it from a source "
                "with labels, such as one folder of images for each class"
            )
        return self.labels


@dataclass(frozen=True, kw_only=True)
class RecordStore:
    """A folder of records ready for training, and what `store.json` says of it."""

    path: Path
    image_size: int
    """Side of every record, in pixels."""
    filter: ResamplingFilter
    source: str
    """The location that the images came from."""
    seed: int
    class_names: tuple[str, ...] | None
    counts: dict[str, int]
    """Records in each split."""
    checksums: dict[str, int]
    """CRC-32 of each split's pixels, which tells these images from others."""
    labelled: tuple[str, ...]
    """The splits that have labels."""
    skipped: int
    """Images of the source that could not be read."""
    first_skipped: tuple[str, ...]
    """What was wrong with the first few of them."""
    made_with: dict[str, str]
    """Versions of the libraries that shape the pixels."""
    token_palette: str | None = None
    """Fingerprint of the palette, if the records are token arrays in its colors."""
    crops: int = 0
    """Random crops that each training image became; 0 if it is there as its centered square."""
    fast_jpeg: bool = False
    """Whether those were resampled from what the JPEG decoder had shrunk."""

    @classmethod
    def open(cls, path: Path) -> "RecordStore":
        """Return the store in `path`, checked to be whole.

        Raises:
            DataError: There is no store, or its files do not fit together.
        """
        description = path / "store.json"
        if not description.is_file():
            missing = "holds no store.json" if path.is_dir() else "does not exist"
            raise DataError(f"{path} {missing}; make a record store there first, with `igpt data`")
        try:
            fields = json.loads(description.read_text())
            version = fields.pop("format")
            if version != FORMAT:
                raise DataError(
                    f"{path} is a store of format {version}, and this igpt reads format {FORMAT}; "
                    "prepare it again"
                )
            for name in ("class_names", "labelled", "first_skipped"):
                fields[name] = None if fields[name] is None else tuple(fields[name])
            store = cls(path=path, **fields)
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"{description} is damaged ({error}); prepare the store again"
            ) from error
        for name in store.counts:
            store._load(name)
        return store

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits there are, of "train", "validation" and "test"."""
        return tuple(self.counts)

    def summary(self) -> str:
        """Return what the store holds, in a line or two."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.items())
        kind = f"{len(self.class_names)} classes" if self.class_names else "no labels"
        size = f"{self.image_size}x{self.image_size}"
        text = f"{self.path}: {counts} images of {size} pixels, {kind}"
        if self.crops:
            text += f"; {self.crops} crops of each training image"
        if self.skipped:
            text += f"\n{self.skipped:,} files skipped, such as: {'; '.join(self.first_skipped)}"
        return text

    def check_augmentation(self, augmentation: Augmentation, setting: str) -> None:
        """Refuse to cut crops from crops.

        Raises:
            ConfigError: That is what `setting`, set to `augmentation`, would do.
        """
        if self.crops and augmentation == "random-resize-crop":
            raise ConfigError(
                f"the training images of {self.path} are random crops already, made with --crops; "
                f"set {setting}=none"
            )

    def split(self, name: str) -> Records:
        """Return the records of "train", "validation", "test" or "train+validation".

        The last is a copy in memory: the held-out records, folded back in after the others.

        Raises:
            DataError: The store has no such split.
        """
        parts = name.split("+") if name == "train+validation" else [name]
        for part in parts:
            if part not in self.counts:
                raise DataError(self._no_split(part))
        if len(parts) == 1:
            return self._load(name)
        loaded = [self._load(part) for part in parts]
        labels = [part.labels for part in loaded if part.labels is not None]
        return Records(
            name=name,
            images=np.concatenate([part.images for part in loaded]),
            labels=np.concatenate(labels) if len(labels) == len(parts) else None,
            class_names=self.class_names,
            filter=self.filter,
            token_palette=self.token_palette,
        )

    def _no_split(self, name: str) -> str:
        if name not in ("train", "validation", "test"):
            known = [*self.counts, "train+validation"]
            return f"there is no split {name!r}{nearest_name(name, known)}"
        return (
            f"{self.path} has no {name} split, only {', '.join(self.counts)}; prepare it again "
            f"with a {name} fraction above 0, or from a source that has one"
        )

    def _load(self, name: str) -> Records:
        folder = self.path / name
        count, size = self.counts[name], self.image_size
        images = _load_array(folder / "images.npy", (count, size, size, 3), np.uint8)
        labels = None
        if name in self.labelled:
            labels = np.array(_load_array(folder / "labels.npy", (count,), np.int64))
        return Records(
            name=name,
            images=images,
            labels=labels,
            class_names=self.class_names,
            filter=self.filter,
            token_palette=self.token_palette,
        )


def prepare_store(
    location: str,
    out: Path,
    *,
    image_size: int,
    filter: ResamplingFilter = DEFAULT_FILTER,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
    strict: bool = False,
    enlarge: bool = False,
    limit: int | None = None,
    placements: int = 4,
    palette: Path | None = None,
    crops: int = 0,
    fast_jpeg: bool = False,
) -> RecordStore:
    """Read every image at `location` and return the store of them, now in the folder `out`.

    Args:
        location: What `open_source` understands.
        out: The folder to make; it must not exist or be empty.
        image_size: Side of a record, in pixels.
        filter: How pixels are averaged where an image is larger.
        validation_fraction: Share of the training images to hold out, if the source has no
            validation split of its own; 0 for none.
        test_fraction: The same for the test split, which is held out first.
        seed: Chooses what is held out, what `limit` keeps, where "digits" are placed, and crops.
        strict: Refuse the source at its first broken image, rather than skip it.
        enlarge: Accept images smaller than a record.
        limit: Use at most this many images of each split of the source, drawn at random.
        placements: Records made of each of the "digits".
        palette: File of the colors that token arrays stand for; for no other source.
        crops: Make this many records of each training image, `random-resize-crop`s of the whole
            image (`random_crops`); 0 for its centered square.
        fast_jpeg: Let the JPEG decoder shrink what crops are cut from (`read_crops`).

    Raises:
        ConfigError: A setting that cannot work.
        DataError: The source cannot be used, or `out` cannot be written.
    """
    if image_size < 1 or (limit is not None and limit < 1):
        raise ConfigError(f"image_size and limit must be at least 1, got {image_size} and {limit}")
    if crops < 0:
        raise ConfigError(f"crops must be at least 1, or 0 for centered squares, got {crops}")
    if fast_jpeg and not crops:
        raise ConfigError("--fast-jpeg is for crops alone; set --crops, or leave it out")
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} is already there and not empty; remove it or choose another folder")
    colors = None if palette is None else Palette.load(palette)
    source = open_source(
        location, image_size=image_size, placements=placements, seed=seed, palette=colors
    )
    if crops and any(split.file_of is None for split in source.values()):
        raise ConfigError(
            f"crops are cut from image files, and {location} has none; leave out --crops"
        )
    plan = _plan(source, validation_fraction, test_fraction, seed=seed, limit=limit)
    if crops:
        split, images = plan["train"]
        split = random_crops(
            split,
            crops,
            image_size=image_size,
            seed=seed,
            filter=filter,
            fast_jpeg=fast_jpeg,
            enlarge=enlarge,
        )
        plan["train"] = split, images
    remove_abandoned(out.parent, out.name)

    def read(split: SourceSplit, image: int) -> UInt8[np.ndarray, "copy size size 3"] | DataError:
        """Return the records of an image, or why it has to be skipped."""
        try:
            copies = split.read(image)
        except DataError as error:
            if strict:
                raise DataError(f"{error}; leave out --strict to skip such files") from error
            return error
        height, width = copies.shape[1:3]
        if min(height, width) < image_size and not enlarge:
            raise DataError(
                f"{split.name_of(image)} is {width}x{height}, smaller than --image-size "
                f"{image_size}; choose a smaller size, or --enlarge"
            )
        return np.stack([square(pixels, image_size, filter) for pixels in copies])

    with written_aside(out) as aside:
        counts: dict[str, int] = {}
        checksums: dict[str, int] = {}
        labelled: list[str] = []
        skipped: list[DataError] = []
        for name, (split, images) in plan.items():
            folder = aside / name
            folder.mkdir(parents=True)
            kept, broken, checksum = _write_images(
                folder / "images.npy",
                partial(read, split),
                images,
                copies=split.copies,
                size=image_size,
            )
            skipped += broken
            if not kept:
                shutil.rmtree(folder)
                continue
            counts[name] = len(kept) * split.copies
            checksums[name] = checksum
            if split.labels is not None:
                labelled.append(name)
                np.save(folder / "labels.npy", split.labels[kept].repeat(split.copies))
        if "train" in plan and "train" not in counts:
            raise DataError(
                f"no training image of {location} could be read; the first: {skipped[0]}"
            )
        store = RecordStore(
            path=out,
            image_size=image_size,
            filter=filter,
            source=location,
            seed=seed,
            class_names=next(iter(source.values())).class_names,
            counts=counts,
            checksums=checksums,
            labelled=tuple(labelled),
            skipped=len(skipped),
            first_skipped=tuple(str(error) for error in skipped[:_FIRST_SKIPPED]),
            made_with={
                "igpt": igpt.__version__,
                "numpy": np.__version__,
                "pillow": PIL.__version__,
            },
            token_palette=None if colors is None else colors.fingerprint,
            crops=crops,
            fast_jpeg=fast_jpeg,
        )
        fields = {
            name: value for name, value in dataclasses.asdict(store).items() if name != "path"
        }
        write_json(aside / "store.json", {"format": FORMAT, **fields})
    return store


def holdout(
    records: int, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Return the numbers of the records to keep and of those to hold out, each in rising order.

    `fraction` of the records are held out, rounded, but at least one of them is unless `fraction`
    is 0, and at least one is kept. A pure function of its arguments.

    Raises:
        ConfigError: `fraction` is below 0, or leaves nothing.
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"a held-out fraction must lie in [0, 1), got {fraction}")
    count = min(max(round(records * fraction), 1 if fraction else 0), records - 1)
    shuffled = stream(Stream.HOLDOUT, seed).permutation(records)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


_Plan = dict[str, tuple[SourceSplit, list[int]]]


def _plan(
    source: dict[str, SourceSplit],
    validation_fraction: float,
    test_fraction: float,
    *,
    seed: int,
    limit: int | None,
) -> _Plan:
    """Return for each split of the store which images of which split of the source it gets."""
    images = {name: np.arange(len(split)) for name, split in source.items()}
    if limit is not None:
        for name, split in source.items():
            wanted = max(limit // split.copies, 1)
            if wanted < len(split):
                images[name] = holdout(len(split), wanted / len(split), seed)[1]
    origin = dict(source)
    for name, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        if name not in source and "train" in source:
            kept, held = holdout(len(images["train"]), fraction, seed)
            origin[name] = source["train"]
            images[name], images["train"] = images["train"][held], images["train"][kept]
    return {
        name: (origin[name], images[name].tolist())
        for name in ("train", "validation", "test")
        if name in origin
    }


def _write_images(
    path: Path,
    read: Callable[[int], np.ndarray | DataError],
    images: list[int],
    *,
    copies: int,
    size: int,
) -> tuple[list[int], list[DataError], int]:
    """Write the `copies` records that `read` gives for each of `images` to one array.

    Returns:
        The images written, the errors of the others, and the CRC-32 of the pixels.

    The file is written front to back rather than through a memory map: on a full disk, writing to
    a map kills the process. Its header is put right when the number of records is known.
    """
    kept: list[int] = []
    broken: list[DataError] = []
    checksum = 0
    with (
        path.open("wb") as file,
        tqdm(total=len(images), desc=path.parent.name, unit="image", disable=None) as progress,
    ):
        _write_header(file, (len(images) * copies, size, size, 3))
        start_of_records = file.tell()
        for image, records in zip(images, _read_ahead(read, images), strict=True):
            if isinstance(records, DataError):
                broken.append(records)
            else:
                file.write(pixels := records.tobytes())
                checksum = zlib.crc32(pixels, checksum)
                kept.append(image)
            progress.update()
        file.seek(0)
        _write_header(file, (len(kept) * copies, size, size, 3))
        assert file.tell() == start_of_records
    return kept, broken, checksum


def _read_ahead(
    read: Callable[[int], np.ndarray | DataError], images: list[int]
) -> Iterator[np.ndarray | DataError]:
    """Yield `read(image)` for each image in order, with a bounded number of them under way."""
    workers = os.cpu_count() or 1

    def read_chunk(start: int) -> list[np.ndarray | DataError]:
        return [read(image) for image in images[start : start + _CHUNK]]

    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[list[np.ndarray | DataError]]] = deque()
        for start in range(0, len(images), _CHUNK):
            under_way.append(pool.submit(read_chunk, start))
            if len(under_way) > 4 * workers:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )


def _load_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} is missing or damaged ({error}); prepare the store again"
        ) from error
    if array.shape != shape or array.dtype != dtype:
        raise DataError(
            f"{path} should hold {np.dtype(dtype)} {shape} but holds {array.dtype} {array.shape}; "
            "prepare the store again"
        )
    return array
