"""From a source to a record store: every image read once, at one size, on all cores.

    store = prepare_store("uoft-cs/cifar10", Path("data/cifar10"), StoreConfig(image_size=32))

Each record is the image's centered square, as the paper sees images in evaluation; with `crops`,
training images become several records each, random crops of the whole image as the paper sees them
in training, where squares to crop from later would take a hundred times the space (384x384 against
32x32). Images stream from an engine's workers into the file in the order of the source, so memory
does not grow with the collection. Which images are held out, `igpt.data.planned` says. An image of
no use is skipped and counted, never the end of hours of work, and `igpt.data.account` holds what
became of all.

The folder of a small store gets its name only when it is whole. A split of many images becomes
several shards, each whole or not there, and a preparation that was stopped among them goes on when
it is called again (`igpt.data.begun`).
"""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from tqdm import tqdm

from igpt.arrays import read_array
from igpt.data.account import Account, all_skipped, count_classes, skipped_by_reason
from igpt.data.begun import Begun
from igpt.data.config import StoreConfig
from igpt.data.description import StoreDescription, StoredShard, StoredSplit, described, shard_name
from igpt.data.engines import Engine, Threads
from igpt.data.holdouts import with_fractions
from igpt.data.labels import renamed
from igpt.data.planned import Plan, PlannedSplit, held_out_notes, plan_splits
from igpt.data.reading import RecordsOfImages, versions
from igpt.data.sources import Source, open_source
from igpt.data.store import RecordStore
from igpt.data.writing import WrittenPiece, write_piece
from igpt.errors import ConfigError, DataError
from igpt.files import require_writable, write_json, written_aside
from igpt.paths import AnyPath, as_path
from igpt.pixels.decoding import levels_note
from igpt.pixels.palette import Palette
from igpt.places import STORE
from igpt.values import to_dict

SHARD_BYTES = 2**31
"""Pixels of a shard, unless its images are counted: those of 699,050 records of 32x32."""

MOST_SHARDS = 256
"""Of a split, unless images are counted: each takes a file that is open while it is read."""


def prepare_store(
    location: str,
    out: AnyPath,
    config: StoreConfig,
    *,
    palette: AnyPath | None = None,
    shard_images: int | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> RecordStore:
    """Read every image at `location` and return the store of them, now in the folder `out`.

    Args:
        location: What `open_source` understands.
        out: The folder to make; it must not exist or be empty, or hold what an earlier call with
            the same arguments began.
        config: Size of the records, what is held out, and the like.
        palette: File of the colors that token arrays stand for; for no other source.
        shard_images: Images of a shard; a split of no more is in one piece. By default as many as
            fill `SHARD_BYTES`, or more, so that there are no more than `MOST_SHARDS`.
        workers: Threads that read images, one for each core by default.
        ray: Address of a Ray cluster whose processes read images in their stead, "local" for one
            that is started here and has `workers` of them.

    Raises:
        ConfigError: A setting that cannot work for these images, or no Ray.
        CheckpointError: Another process is at work on the same store.
        DataError: The source cannot be used, none of its training images can, `out` cannot be
            written, or holds the beginnings of another store.
    """
    for name, value in (("shard_images", shard_images), ("workers", workers)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    out = Path(out).resolve()
    palette = as_path(palette)
    begun = Begun(out)
    if not begun.exists:
        require_writable(out, exclusive=True)
    colors = None if palette is None else Palette.load(palette)
    # Processes of a cluster work in folders of their own.
    reached = str(Path(location).absolute()) if ray and Path(location).exists() else location
    source = open_source(
        reached, config, image_size=config.image_size, palette=colors, shared=ray is not None
    )
    config = with_fractions(config, source)
    if config.crops and not all(split.files for split in source.splits.values()):
        raise ConfigError(
            f"crops are cut from image files, and {location} has none; leave out --crops"
        )
    if config.strict and source.skipped:
        raise DataError(f"{source.skipped[0][1]}; leave out --strict to skip such files")
    preparation = _Preparation(
        location=location,
        source=source,
        config=config,
        palette=None if colors is None else colors.fingerprint,
        shard_images=shard_images,
    )
    with _engine(workers, ray) as engine:
        if begun.exists:
            begun.require_same(preparation.request())
            preparation.finish(out, begun, engine)
        else:
            plan = plan_splits(source, config, engine)
            if any(len(preparation.parts(name, split)) > 1 for name, split in plan.splits.items()):
                begun.begin(preparation.request(), plan)
                preparation.finish(out, begun, engine)
            else:
                preparation.write_whole(out, plan, engine)
    return RecordStore.open(out)


@contextmanager
def _engine(workers: int | None, ray: str | None) -> Iterator[Engine]:
    """Give who reads the images."""
    if ray is None:
        yield Threads(workers)
        return
    from igpt.data.on_ray import cluster

    with cluster(ray, workers=workers) as engine:
        yield engine


Written = dict[str, list[WrittenPiece]]
"""What became of the images of each piece of each split."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Preparation:
    """What is to be made a store of, and who reads it."""

    location: str
    source: Source
    config: StoreConfig
    """With the fractions that are held out."""
    palette: str | None
    """Its fingerprint."""
    shard_images: int | None

    def request(self) -> dict[str, Any]:
        """Return what has to be the same for a preparation to go on, as JSON has it."""
        splits = {
            name: [
                len(split),
                None if split.labels is None else _hash(split.labels.tobytes()),
                _hash("\n".join(split.class_names or ()).encode()),
                _hash("\n".join(split.names or ()).encode(errors="surrogateescape")),
            ]
            for name, split in self.source.splits.items()
        }
        return to_dict(
            {
                "source": self.location,
                "options": self.config,
                "palette": self.palette,
                "shard_images": self.shard_images,
                "images": splits,
                "versions": versions(),
            }
        )

    def parts(self, name: str, planned: PlannedSplit) -> list[Int64[np.ndarray, " _image"]]:
        """Return the images of each shard of a split; all of them if it is to be in one piece."""
        images = planned.images
        of_shard = self.shard_images or max(
            SHARD_BYTES // (self.copies(name, planned) * self.config.image_size**2 * 3),
            -(-len(images) // MOST_SHARDS),
            1,
        )
        return [images[first : first + of_shard] for first in range(0, len(images), of_shard)]

    def copies(self, name: str, planned: PlannedSplit) -> int:
        """Return how many records are made of an image of a split."""
        of_source = self.source.splits[planned.origin].copies
        return self.config.crops if self._is_cropped(name) else of_source

    def write_whole(self, out: Path, plan: Plan, engine: Engine) -> None:
        """Write a store whose splits are in one piece each."""
        with written_aside(out, exclusive=True) as aside:
            written = self._in_one_piece(aside, plan, engine)
            held_out = self.config.test_fraction or self.config.validation_fraction
            config, notes = self.config, plan.notes
            if not any(piece.read for piece in written.get("train", ())) and held_out:
                # Of a few images, those held out may be the only ones that can be read.
                shutil.rmtree(aside)
                config = dataclasses.replace(config, test_fraction=0.0, validation_fraction=0.0)
                plan = plan_splits(self.source, config, engine)
                written = self._in_one_piece(aside, plan, engine)
                notes = (*plan.notes, "nothing is held out, since no other image could be read")
            plan = dataclasses.replace(plan, notes=notes)
            write_json(aside / STORE, described(self._description(aside, plan, written, config)))

    def _in_one_piece(self, folder: Path, plan: Plan, engine: Engine) -> Written:
        written: Written = {}
        for name, planned in plan.splits.items():
            with self._progress(name, len(planned.images)) as bar:
                written[name] = [
                    self._write(folder / name, name, planned, planned.images, engine, bar.update)
                ]
        return written

    def finish(self, out: Path, begun: Begun, engine: Engine) -> None:
        """Write what is still missing of a store whose splits are in several pieces.

        Raises:
            CheckpointError: Another process does.
            DataError: The notes of what is there are damaged, or `out` cannot be written.
        """
        with begun.held():
            if not begun.is_done:
                plan = begun.plan()
                written = {
                    name: self._write_shards(out / name, name, planned, begun, engine)
                    for name, planned in plan.splits.items()
                }
                description = self._description(out, plan, written, self.config)
                write_json(out / STORE, described(description))
        begun.remove()

    def _write_shards(
        self, folder: Path, name: str, planned: PlannedSplit, begun: Begun, engine: Engine
    ) -> list[WrittenPiece]:
        parts = self.parts(name, planned)
        there = {number: begun.piece(name, number) for number in range(len(parts))}
        pieces = []
        with self._progress(name, len(planned.images)) as bar:
            for number, part in enumerate(parts):
                piece = there[number]
                if piece is None:
                    place = folder if len(parts) == 1 else folder / shard_name(number)
                    with written_aside(place) as aside:
                        piece = self._write(aside, name, planned, part, engine, bar.update)
                    begun.keep(name, number, piece)
                else:
                    bar.update(len(part))
                pieces.append(piece)
        return pieces

    def _write(
        self,
        folder: Path,
        name: str,
        planned: PlannedSplit,
        images: Int64[np.ndarray, " image"],
        engine: Engine,
        done: Callable[[], object],
    ) -> WrittenPiece:
        """Write the records of some images of a split to a folder."""
        split = self.source.splits[planned.origin]
        work = RecordsOfImages(
            config=self.config, cropped=self._is_cropped(name), budget=engine.budget
        )
        return write_piece(
            folder,
            images,
            engine.map(work, split, images),
            split.labels,
            side=self.config.image_size,
            copies=self.copies(name, planned),
            done=done,
        )

    def _description(
        self, folder: Path, plan: Plan, written: Written, config: StoreConfig
    ) -> StoreDescription:
        """Return what there is to say of the pieces in a folder, without those of no records."""
        skipped = all_skipped(
            [
                skipped_by_reason(self.source.skipped),
                *(piece.skipped for pieces in written.values() for piece in pieces),
            ]
        )
        splits, labels = {}, {}
        for name, pieces in written.items():
            if not any(piece.read for piece in pieces):
                shutil.rmtree(folder / name)
                continue
            labelled = self.source.splits[plan.splits[name].origin].labels is not None
            splits[name] = _stored([piece.stored for piece in pieces], labelled=labelled)
            if labelled:
                labels[name] = np.concatenate(
                    [
                        read_array(folder / name / piece / "labels.npy", dtype=np.int64)
                        for piece, _ in splits[name].pieces()
                    ]
                )
        if "train" in self.source.splits and "train" not in splits:
            one = skipped[0].examples[0] if skipped else "there is none"
            raise DataError(
                f"no training image of {self.location} could be read; one of them: {one}"
            )
        names = (split.class_names for split in self.source.splits.values())
        class_names = renamed(next(filter(None, names), None), config.rename)
        read = {name: sum(piece.read for piece in pieces) for name, pieces in written.items()}
        all_levels = (piece.highest_level for pieces in written.values() for piece in pieces)
        levels = [level for level in all_levels if level is not None]
        note = levels_note(max(levels)) if levels and config.levels is None else None
        held_out = held_out_notes(plan, self.source, read, labels)
        found = sum(map(len, self.source.splits.values()))
        return StoreDescription(
            source=self.location,
            config=config,
            token_palette=self.palette,
            class_names=class_names,
            splits=splits,
            account=Account(
                read=sum(read.values()),
                skipped=skipped,
                ignored=self.source.ignored,
                left_out=found - plan.images - plan.duplicates,
                duplicates=plan.duplicates,
                notes=(*self.source.notes, *plan.notes, *held_out, *([note] if note else [])),
                classes=count_classes(class_names, labels),
            ),
            made_with=versions(),
        )

    def _is_cropped(self, name: str) -> bool:
        return self.config.crops > 0 and name == "train"

    @staticmethod
    def _progress(name: str, images: int) -> tqdm:
        return tqdm(total=images, desc=name, unit="image", disable=None)


def _stored(shards: list[StoredShard], *, labelled: bool) -> StoredSplit:
    records = sum(shard.records for shard in shards)
    if len(shards) > 1:
        return StoredSplit(records=records, labelled=labelled, shards=tuple(shards))
    (only,) = shards
    return StoredSplit(records=records, labelled=labelled, sha256=only.sha256, crc32c=only.crc32c)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
