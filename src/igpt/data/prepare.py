"""From a source to a record store: every image read once, at one size, on all cores.

    store = prepare_store("uoft-cs/cifar10", Path("data/cifar10"), StoreConfig(image_size=32))

Each record is the image's centered square, as the paper sees images in evaluation; with `crops`,
training images become several records each, random crops of the whole image as the paper sees them
in training, where squares to crop from later would take a hundred times the space (384x384 against
32x32). Images stream from a pool of threads into the file in the order of the source, so memory
does not grow with the collection, and the folder gets its name only when it is whole. A validation
split is held out from the training images, as the paper does to choose hyperparameters.
"""

import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64, UInt8
from tqdm import tqdm

from igpt.data.augment import CROP, LONGEST, crop_boxes
from igpt.data.sources import SourceImage, SourceSplit, open_source
from igpt.data.store import (
    FORMAT,
    SPLITS,
    RecordStore,
    StoreConfig,
    StoreDescription,
    StoredSplit,
)  # fmt: skip
from igpt.errors import ConfigError, DataError
from igpt.files import remove_abandoned, write_json, written_aside
from igpt.pixels.images import opened_image, square
from igpt.pixels.palette import Palette
from igpt.randomness import Stream, stream
from igpt.values import to_dict

_FIRST_SKIPPED = 5
_CHUNK = 8  # images a thread takes at a time: small ones are read faster than they are handed out

_ImageRecords = UInt8[np.ndarray, "copy size size 3"]


def prepare_store(
    location: str, out: Path, config: StoreConfig, *, palette: Path | None = None
) -> RecordStore:
    """Read every image at `location` and return the store of them, now in the folder `out`.

    Args:
        location: What `open_source` understands.
        out: The folder to make; it must not exist or be empty.
        config: Size of the records, what is held out, and the like.
        palette: File of the colors that token arrays stand for; for no other source.

    Raises:
        ConfigError: A setting that cannot work for these images.
        DataError: The source cannot be used, or `out` cannot be written.
    """
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} is already there and not empty; remove it or choose another folder")
    colors = None if palette is None else Palette.load(palette)
    source = open_source(
        location,
        image_size=config.image_size,
        placements=config.placements,
        seed=config.seed,
        palette=colors,
    )
    if config.crops and not all(split.files for split in source.values()):
        raise ConfigError(
            f"crops are cut from image files, and {location} has none; leave out --crops"
        )
    remove_abandoned(out.parent, out.name)
    splits: dict[str, StoredSplit] = {}
    skipped: list[DataError] = []
    with written_aside(out) as aside:
        for name, (split, images) in _plan(source, config).items():
            stored, broken = _write_split(aside / name, split, images, config)
            skipped += broken
            if stored.records:
                splits[name] = stored
            else:
                shutil.rmtree(aside / name)
        if "train" in source and "train" not in splits:
            raise DataError(
                f"no training image of {location} could be read; the first: {skipped[0]}"
            )
        description = StoreDescription(
            source=location,
            config=config,
            token_palette=None if colors is None else colors.fingerprint,
            class_names=next(iter(source.values())).class_names,
            splits=splits,
            skipped=len(skipped),
            first_skipped=tuple(str(error) for error in skipped[:_FIRST_SKIPPED]),
            made_with={name: version(name) for name in ("igpt", "numpy", "pillow")},
        )
        write_json(aside / "store.json", {"format": FORMAT, **to_dict(description)})
    return RecordStore.open(out)


def holdout(
    records: int, fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Return the numbers of the records to keep and of those to hold out, each in rising order.

    `fraction` of the records are held out, rounded, but at least one of them is unless `fraction`
    is 0, and at least one is kept. A pure function of its arguments.
    """
    count = min(max(round(records * fraction), 1 if fraction else 0), records - 1)
    shuffled = stream(Stream.HOLDOUT, seed).permutation(records)
    return np.sort(shuffled[count:]), np.sort(shuffled[:count])


def random_crops(
    source: SourceImage, number: int, config: StoreConfig
) -> UInt8[np.ndarray, "crop size size 3"]:
    """Return `config.crops` records of an image file, `random-resize-crop`s of the whole image.

    Each is resampled once, from the decoded file. Where crop k of an image lies depends on the
    seed, the number of the image, k and the size of the image, and on nothing else.

    Args:
        source: An image that is a file.
        number: That of the image in its split of the source.
        config: How many crops, of what size, how resampled and by which seed.

    Raises:
        ConfigError: The smallest crop there may be is smaller than a record, and `config.enlarge`
            is not set.
        DataError: The file is missing or broken.
    """
    assert not isinstance(source.content, np.ndarray), "crops are cut from files"
    with opened_image(source.content, name=source.name, fast_jpeg=config.fast_jpeg) as image:
        _require_size(source, image.height, image.width, config, cropped=True)
        generator = stream(Stream.CROPS, config.seed, number)
        boxes = crop_boxes(generator, image.height, image.width, config.crops)
        return image.crops(boxes, config.image_size, config.filter)


def _plan(
    source: dict[str, SourceSplit], config: StoreConfig
) -> dict[str, tuple[SourceSplit, list[int]]]:
    """Return for each split of the store which images of which split of the source it gets."""
    images = {name: np.arange(len(split)) for name, split in source.items()}
    if config.limit is not None:
        for name, split in source.items():
            wanted = max(config.limit // split.copies, 1)
            if wanted < len(split):
                images[name] = holdout(len(split), wanted / len(split), config.seed)[1]
    origin = dict(source)
    fractions = {"test": config.test_fraction, "validation": config.validation_fraction}
    for name, fraction in fractions.items():
        if name not in source and "train" in source:
            kept, held = holdout(len(images["train"]), fraction, config.seed)
            origin[name] = source["train"]
            images[name], images["train"] = images["train"][held], images["train"][kept]
    return {name: (origin[name], images[name].tolist()) for name in SPLITS if name in origin}


def _write_split(
    folder: Path, split: SourceSplit, images: list[int], config: StoreConfig
) -> tuple[StoredSplit, list[DataError]]:
    """Write the records to `folder`; return what is known of them, and why images were skipped.

    The file is written front to back rather than through a memory map: on a full disk, writing to
    a map kills the process. Its header is put right when the number of records is known.
    """
    folder.mkdir(parents=True)
    cropped = config.crops > 0 and folder.name == "train"
    copies, side = config.crops if cropped else split.copies, config.image_size
    kept: list[int] = []
    skipped: list[DataError] = []
    checksum = 0
    with (
        (folder / "images.npy").open("wb") as file,
        tqdm(total=len(images), desc=folder.name, unit="image", disable=None) as progress,
    ):
        _write_header(file, (len(images) * copies, side, side, 3))
        start_of_records = file.tell()
        read = partial(_read, split, config, cropped)
        for image, records in zip(images, _read_ahead(read, images), strict=True):
            if isinstance(records, DataError):
                skipped.append(records)
            else:
                file.write(pixels := records.tobytes())
                checksum = zlib.crc32(pixels, checksum)
                kept.append(image)
            progress.update()
        file.seek(0)
        _write_header(file, (len(kept) * copies, side, side, 3))
        assert file.tell() == start_of_records
    labels = split.labels
    if labels is not None:
        np.save(folder / "labels.npy", labels[kept].repeat(copies))
    count = len(kept) * copies
    return StoredSplit(records=count, labelled=labels is not None, checksum=checksum), skipped


def _read(
    split: SourceSplit, config: StoreConfig, cropped: bool, number: int
) -> _ImageRecords | DataError:
    """Return the records of an image, or why it has to be skipped."""
    try:
        image = split.image(number)
        if cropped:
            return random_crops(image, number, config)
        copies = image.read()
        height, width = copies.shape[1:3]
        _require_size(image, height, width, config)
        return np.stack([square(pixels, config.image_size, config.filter) for pixels in copies])
    except DataError as error:
        if config.strict:
            raise DataError(f"{error}; leave out --strict to skip such files") from error
        return error


def _require_size(
    image: SourceImage, height: int, width: int, config: StoreConfig, *, cropped: bool = False
) -> None:
    """Refuse an image that would have to be enlarged, unless that is wished."""
    part, whole = (CROP, LONGEST) if cropped else (1, 1)
    if min(height, width) * part < config.image_size * whole and not config.enlarge:
        smallest = f"the smallest crop, {part}/{whole} of its shorter side,"
        raise ConfigError(
            f"{image.name} is {width}x{height}, and {smallest if cropped else 'its shorter side'} "
            f"is less than --image-size {config.image_size}; choose a smaller size, or --enlarge"
        )


def _read_ahead(
    read: Callable[[int], _ImageRecords | DataError], images: list[int]
) -> Iterator[_ImageRecords | DataError]:
    """Yield `read(image)` for each image in order, with a bounded number of them under way."""
    workers = os.cpu_count() or 1

    def read_chunk(start: int) -> list[_ImageRecords | DataError]:
        return [read(image) for image in images[start : start + _CHUNK]]

    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[list[_ImageRecords | DataError]]] = deque()
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
