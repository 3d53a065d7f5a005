"""Stores made of a store: the same images held out otherwise, or those of some classes alone.

    redraw_validation(store, Path("data/seed-1"), seed=1)
    keep_classes(store, Path("data/even"), classes=[0, 2, 4, 6, 8])

Pixels are copied as they are. Records made of the same image, such as the placements of a digit,
have one name and stay together.
"""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from igpt.data.account import count_classes
from igpt.data.description import StoreDescription, StoredSplit, described
from igpt.data.holdouts import hold_out
from igpt.data.store import FOLDED, Records, RecordStore
from igpt.errors import DataError
from igpt.files import write_json, written_aside
from igpt.places import STORE


def redraw_validation(store: RecordStore, out: Path, *, seed: int) -> RecordStore:
    """Return a store with as many validation images, held out of train and validation by `seed`.

    Each class gives its share; the test images stay.

    Raises:
        DataError: There is no validation split, or `out` cannot be written.
    """
    both, held = store.split(FOLDED), len(store.split("validation"))
    names = both.encoded_names
    assert names is not None
    groups = np.unique(names, return_inverse=True)[1] if len(set(both.names)) > 1 else None
    groups = np.arange(len(both)) if groups is None else groups
    kept, validation = hold_out(groups, both.labels, held / len(both), seed)
    splits = {
        "train": dataclasses.replace(both.chosen(kept), name="train"),
        "validation": dataclasses.replace(both.chosen(validation), name="validation"),
    } | {name: store.split(name) for name in store.splits if name == "test"}
    return _write(store, out, splits)


def keep_classes(store: RecordStore, out: Path, *, classes: Sequence[int]) -> RecordStore:
    """Return a store of the images of some classes, which are numbered anew in their order.

    Raises:
        DataError: There are no labels, no such class, or `out` cannot be written.
    """
    names = store.class_names
    if names is None or not set(classes) <= set(range(len(names))):
        raise DataError(f"{store.path} has no classes {list(classes)}; give some that it has")
    splits = {}
    for name in store.splits:
        records = store.split(name)
        labels = records.require_labels()
        numbers = np.flatnonzero(np.isin(labels, classes))
        anew = np.searchsorted(np.sort(classes), labels[numbers]).astype(np.int64)
        splits[name] = dataclasses.replace(records.chosen(numbers), labels=anew)
    return _write(
        store, out, splits, class_names=tuple(names[number] for number in sorted(classes))
    )


def _write(
    store: RecordStore,
    out: Path,
    splits: Mapping[str, Records],
    class_names: tuple[str, ...] | None = None,
) -> RecordStore:
    """Write records as a store that is described like another."""
    known = {item.name: getattr(store, item.name) for item in dataclasses.fields(StoreDescription)}
    with written_aside(out) as aside:
        for name, records in splits.items():
            folder = aside / name
            folder.mkdir(parents=True)
            np.save(folder / "images.npy", records.images)
            np.save(folder / "names.npy", np.asarray(records.encoded_names))
            if records.labels is not None:
                np.save(folder / "labels.npy", records.labels)
        known["splits"] = {
            name: StoredSplit(
                records=len(records),
                labelled=records.labels is not None,
                checksum=zlib.crc32(np.ascontiguousarray(records.images).data),
            )
            for name, records in splits.items()
        }
        class_names = known["class_names"] = class_names or store.class_names
        labels = {name: split.labels for name, split in splits.items() if split.labels is not None}
        classes = count_classes(class_names, labels)
        known["account"] = dataclasses.replace(store.account, classes=classes)
        known["made_with"] = {**store.made_with, "igpt": version("igpt")}
        write_json(aside / STORE, described(StoreDescription(**known)))
    return RecordStore.open(out)
