"""Which images of which split of a source each split of a store gets, before any is decoded.

`igpt.data.holdouts` says how images are held out, and `igpt.data.duplicates` which are copies.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from igpt.amounts import counted
from igpt.data.config import SPLITS, StoreConfig
from igpt.data.duplicates import drop_copies, same_files
from igpt.data.engines import Engine
from igpt.data.holdouts import hold_out
from igpt.data.sources import Source


@dataclass(frozen=True, kw_only=True)
class PlannedSplit:
    """The images of a split of a store."""

    origin: str
    """The split of the source that they are of."""
    images: Int64[np.ndarray, " image"]
    """Their numbers there, in rising order."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The images of all splits of a store."""

    splits: dict[str, PlannedSplit]
    notes: tuple[str, ...]
    """What was decided."""
    duplicates: int
    """Images that were dropped, since they are the same as others."""

    @property
    def images(self) -> int:
        """Count them."""
        return sum(len(split.images) for split in self.splits.values())


def plan_splits(source: Source, config: StoreConfig, engine: Engine) -> Plan:
    """Return which images each split gets; files are read as far as copies have to be known.

    Args:
        source: Where the images are.
        config: How many are wanted, and what is held out: its fractions are numbers.
        engine: Reads them.

    Raises:
        ConfigError: The engine cannot read these images.
    """
    images = {name: np.arange(len(split)) for name, split in source.splits.items()}
    if config.limit is not None:
        for name, split in source.splits.items():
            wanted = max(config.limit // split.copies, 1)
            if wanted < len(split):
                images[name] = hold_out(images[name], None, wanted / len(split), config.seed)[1]
    origin, notes = {name: name for name in images}, []
    drawn = sum(map(len, images.values()))
    if config.drop_duplicates:
        images, note = drop_copies(
            {name: (source.splits[name], numbers) for name, numbers in images.items()}, engine
        )
        notes += [note] if note else []
    kept = sum(map(len, images.values()))
    fractions = {
        "test": config.test_fraction or 0.0,
        "validation": config.validation_fraction or 0.0,
    }
    to_hold_out = [name for name, fraction in fractions.items() if fraction]
    if to_hold_out:
        train, of_train = source.splits["train"], images["train"]
        groups = np.arange(len(of_train))
        if not config.drop_duplicates:
            groups = same_files(train, of_train, engine)
        if copies := len(groups) - len(np.unique(groups)):
            copied = counted(
                copies,
                "training image is a copy of another",
                "training images are copies of others",
            )
            notes.append(f"{copied}; copies stay together")
        for name in to_hold_out:
            labels = None if train.labels is None else train.labels[of_train]
            stay, held = hold_out(groups, labels, fractions[name], config.seed)
            origin[name], images[name] = "train", of_train[held]
            of_train, groups = of_train[stay], groups[stay]
        images["train"] = of_train
    return Plan(
        splits={
            name: PlannedSplit(origin=origin[name], images=images[name])
            for name in SPLITS
            if name in origin
        },
        notes=tuple(notes),
        duplicates=drawn - kept,
    )


def held_out_notes(
    plan: Plan,
    source: Source,
    read: Mapping[str, int],
    labels: Mapping[str, Int64[np.ndarray, " _record"]],
) -> list[str]:
    """Return what is said of the images that were held out of train, once they are written.

    Args:
        plan: Which were to be.
        source: Where they are.
        read: How many could be read, of each split.
        labels: Of the records of each split with labels.
    """
    notes = []
    for name in ("test", "validation"):
        planned = plan.splits.get(name)
        if planned is None or planned.origin == name:
            continue
        of_train = source.splits["train"].labels
        what = counted(read[name], "image")
        if not len(planned.images):
            what = "none, since train keeps an image and copies of it stay with it"
            if of_train is not None:
                what = "none, since every class keeps an image; --no-labels sets classes aside"
        elif not read[name]:
            what = f"none, since {counted(len(planned.images), 'image')} could not be read"
        elif of_train is not None:
            there, classes = len(np.unique(labels[name])), len(np.unique(of_train))
            share = f"of {there} of the {classes:,} classes"
            what += ", " + ("a share of each class" if there == classes else share)
        notes.append(f"held out from train for {name}: {what}")
    return notes
