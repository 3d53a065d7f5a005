"""From a source to a record store: every image read once, at one size, on all cores.

    store = prepare_store("uoft-cs/cifar10", Path("data/cifar10"), StoreConfig(image_size=32))

Each record is the image's centered square, as the paper sees images in evaluation; with `crops`,
training images become several records each, random crops of the whole image as the paper sees them
in training, where squares to crop from later would take a hundred times the space (384x384 against
32x32). Images stream from a pool of threads into the file in the order of the source, so memory
does not grow with the collection, and the folder gets its name only when it is whole. A validation
split is held out from the training images, as the paper does to choose hyperparameters; which
images are, `igpt.data.holdouts` says. An image of no use is skipped and counted, never the end of
hours of work, and `igpt.data.account` holds what became of all.
"""

import dataclasses
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64
from tqdm import tqdm

from igpt.data.account import Account, count_classes, skipped_by_reason
from igpt.data.config import SPLITS, StoreConfig
from igpt.data.holdouts import hold_out, same_files, with_fractions
from igpt.data.labels import renamed
from igpt.data.reading import ReadImage, read_records
from igpt.data.sources import Source, SourceSplit, open_source
from igpt.data.store import (
    FORMAT,
    RecordStore,
    StoreDescription,
    StoredSplit,
)  # fmt: skip
from igpt.errors import ConfigError, DataError
from igpt.files import digest, require_writable, write_json, written_aside
from igpt.paths import AnyPath, as_path
from igpt.pixels.decoding import DecodingBudget, levels_note
from igpt.pixels.palette import Palette
from igpt.seals import crc32c, sealed
from igpt.values import to_dict

_LONGEST_NAME = 255  # bytes of a record's name, the last ones, so that names.npy stays small
_CHUNK = 8  # images a thread takes at a time: small ones are read faster than they are handed out


def prepare_store(
    location: str, out: AnyPath, config: StoreConfig, *, palette: AnyPath | None = None
) -> RecordStore:
    """Read every image at `location` and return the store of them, now in the folder `out`.

    Args:
        location: What `open_source` understands.
        out: The folder to make; it must not exist or be empty.
        config: Size of the records, what is held out, and the like.
        palette: File of the colors that token arrays stand for; for no other source.

    Raises:
        ConfigError: A setting that cannot work for these images.
        DataError: The source cannot be used, none of its training images can, or `out` cannot be
            written.
    """
    out = Path(out)
    palette = as_path(palette)
    out = out.resolve()
    require_writable(out, exclusive=True)
    colors = None if palette is None else Palette.load(palette)
    source = open_source(location, config, image_size=config.image_size, palette=colors)
    config = with_fractions(config, source)
    if config.crops and not all(split.files for split in source.splits.values()):
        raise ConfigError(
            f"crops are cut from image files, and {location} has none; leave out --crops"
        )
    if config.strict and source.skipped:
        raise DataError(f"{source.skipped[0][1]}; leave out --strict to skip such files")
    names = (split.class_names for split in source.splits.values())
    class_names = renamed(next(filter(None, names), None), config.rename)
    with written_aside(out, exclusive=True) as aside:
        written = _write_splits(aside, source, config)
        if "train" not in written.splits and (config.test_fraction or config.validation_fraction):
            # Of a few images, those held out may be the only ones that can be read.
            shutil.rmtree(aside)
            nothing_held = dataclasses.replace(config, test_fraction=0.0, validation_fraction=0.0)
            written = _write_splits(aside, source, nothing_held)
            written.notes.append("nothing is held out, since no other image could be read")
        if "train" in source.splits and "train" not in written.splits:
            first = written.skipped[0][1] if written.skipped else "there is none"
            raise DataError(f"no training image of {location} could be read; the first: {first}")
        skipped = [*source.skipped, *written.skipped]
        account = Account(
            read=written.planned - len(written.skipped),
            skipped=skipped_by_reason(skipped),
            ignored=source.ignored,
            left_out=sum(map(len, source.splits.values())) - written.planned,
            notes=(*source.notes, *written.notes),
            classes=count_classes(class_names, written.labels),
        )
        description = StoreDescription(
            source=location,
            config=config,
            token_palette=None if colors is None else colors.fingerprint,
            class_names=class_names,
            splits=written.splits,
            account=account,
            made_with={name: version(name) for name in ("igpt", "numpy", "pillow")},
        )
        write_json(aside / "store.json", sealed({"format": FORMAT, **to_dict(description)}))
    return RecordStore.open(out)


def _plan(
    source: Source, config: StoreConfig
) -> tuple[dict[str, tuple[SourceSplit, list[int]]], list[str]]:
    """Return for each split of the store which images of which split of the source it gets.

    With them come notes on what was decided.
    """
    images = {name: np.arange(len(split)) for name, split in source.splits.items()}
    if config.limit is not None:
        for name, split in source.splits.items():
            wanted = max(config.limit // split.copies, 1)
            if wanted < len(split):
                images[name] = hold_out(images[name], None, wanted / len(split), config.seed)[1]
    origin, notes = dict(source.splits), []
    fractions = {
        "test": config.test_fraction or 0.0,
        "validation": config.validation_fraction or 0.0,
    }
    to_hold_out = [name for name, fraction in fractions.items() if fraction]
    if to_hold_out:
        train, of_train = origin["train"], images["train"]
        groups = same_files(train, of_train)
        if copies := len(groups) - len(np.unique(groups)):
            notes.append(f"{copies:,} training images are copies of others; they stay together")
        for name in to_hold_out:
            labels = None if train.labels is None else train.labels[of_train]
            kept, held = hold_out(groups, labels, fractions[name], config.seed)
            what = f"{len(held):,} images" + ("" if labels is None else ", a share of each class")
            if not len(held):
                what = "none, since train keeps an image and copies of it stay with it"
                if labels is not None:
                    what = "none, since every class keeps an image; --no-labels sets classes aside"
            notes.append(f"held out from train for {name}: {what}")
            origin[name], images[name] = train, of_train[held]
            of_train, groups = of_train[kept], groups[kept]
        images["train"] = of_train
    return {name: (origin[name], images[name].tolist()) for name in SPLITS if name in origin}, notes


@dataclass(kw_only=True)
class _Written:
    """What became of the images of a source."""

    planned: int
    notes: list[str]
    splits: dict[str, StoredSplit] = field(default_factory=dict)
    labels: dict[str, Int64[np.ndarray, " record"]] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Of each image that was, the reason and what is to be said of it."""
    levels: list[int] = field(default_factory=list)
    """The highest of each image of 16 bits or more."""


def _write_splits(folder: Path, source: Source, config: StoreConfig) -> _Written:
    """Write all splits that have any records to a folder."""
    plan, notes = _plan(source, config)
    written = _Written(planned=sum(len(images) for _, images in plan.values()), notes=notes)
    for name, (split, images) in plan.items():
        _write_split(folder / name, split, images, config, written)
    if config.levels is None and written.levels and (note := levels_note(max(written.levels))):
        written.notes.append(note)
    return written


def _write_split(
    folder: Path, split: SourceSplit, images: list[int], config: StoreConfig, written: _Written
) -> None:
    """Write the records to `folder`, if there are any, and note in `written` what came of it.

    The file is written front to back rather than through a memory map: on a full disk, writing to
    a map kills the process. Its header is put right when the number of records is known.
    """
    folder.mkdir(parents=True)
    cropped = config.crops > 0 and folder.name == "train"
    copies, side = config.crops if cropped else split.copies, config.image_size
    kept: list[int] = []
    names: list[bytes] = []
    with (
        (folder / "images.npy").open("wb") as file,
        tqdm(total=len(images), desc=folder.name, unit="image", disable=None) as progress,
    ):
        _write_header(file, (len(images) * copies, side, side, 3))
        start_of_records = file.tell()
        read = partial(read_records, split, config=config, cropped=cropped, budget=DecodingBudget())
        for number, image in zip(images, _read_ahead(read, images), strict=True):
            if image.skipped is not None:
                written.skipped.append(image.skipped)
            if image.highest_level is not None:
                written.levels.append(image.highest_level)
            if image.records is not None:
                file.write(image.records.tobytes())
                kept.append(number)
                names.append(image.name.encode(errors="surrogateescape")[-_LONGEST_NAME:])
            progress.update()
        file.seek(0)
        _write_header(file, (len(kept) * copies, side, side, 3))
        assert file.tell() == start_of_records
    if not kept:
        shutil.rmtree(folder)
        return
    np.save(folder / "names.npy", np.array(names, np.bytes_).repeat(copies))
    if split.labels is not None:
        written.labels[folder.name] = split.labels[kept].repeat(copies)
        np.save(folder / "labels.npy", written.labels[folder.name])
    written.splits[folder.name] = StoredSplit(
        records=len(kept) * copies,
        labelled=split.labels is not None,
        sha256={file.name: digest(file) for file in sorted(folder.iterdir())},
        crc32c=crc32c(folder / "images.npy"),
    )


def _read_ahead(read: Callable[[int], ReadImage], images: list[int]) -> Iterator[ReadImage]:
    """Yield `read(image)` for each image in order, with a bounded number of them under way."""
    workers = os.cpu_count() or 1

    def read_chunk(start: int) -> list[ReadImage]:
        return [read(image) for image in images[start : start + _CHUNK]]

    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[Future[list[ReadImage]]] = deque()
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
