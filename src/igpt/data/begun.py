"""A preparation of many shards that is under way: what is done of it outlives its process.

    begun = Begun(out)
    begun.request(wanted)              # what it was begun with; None if there is none
    begun.piece("train", 7)            # what became of a shard's images; None if it is not there

While it is made, a store of many shards has a hidden folder and no `store.json`, so to everybody
else it is none:

    .preparing/plan.json          what is asked for, of which source, and what was decided
    .preparing/train.npy          numbers of the images of a split
    .preparing/train-00007.json   what became of the images of a shard that is done
    train/00007/...               that shard

Each is written aside and renamed, the shard before its note. All carry checksums.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from igpt import locks
from igpt.arrays import read_array
from igpt.data.description import shard_name
from igpt.data.planned import Plan, PlannedSplit
from igpt.data.writing import WrittenPiece
from igpt.errors import DataError
from igpt.files import digest, discard, read_json, write_json, written_aside
from igpt.places import PREPARING, STORE
from igpt.seals import sealed, unsealed
from igpt.values import from_dict, to_dict

_PLAN = "plan.json"


class Begun:
    """The hidden folder in that of a store to be."""

    def __init__(self, out: Path) -> None:
        """Look at the store to be in `out`, and change nothing."""
        self._out = out
        self._folder = out / PREPARING

    @property
    def exists(self) -> bool:
        """Whether there is a preparation to go on with."""
        return (self._folder / _PLAN).is_file()

    @property
    def is_done(self) -> bool:
        """Whether its store is whole, and the hidden folder was to be removed."""
        return (self._out / STORE).is_file()

    def begin(self, request: dict[str, Any], plan: Plan) -> None:
        """Note what is asked for and what was decided.

        Raises:
            DataError: Another process was faster, or the place cannot be written to.
        """
        with written_aside(self._folder, exclusive=True) as aside:
            aside.mkdir()
            splits = {}
            for name, split in plan.splits.items():
                file = aside / f"{name}.npy"
                np.save(file, split.images)
                splits[name] = {"origin": split.origin, "sha256": digest(file)}
            values = {
                "request": request,
                "notes": plan.notes,
                "duplicates": plan.duplicates,
                "splits": splits,
            }
            write_json(aside / _PLAN, sealed(to_dict(values)))

    def require_same(self, request: dict[str, Any]) -> None:
        """See that what is asked for is what was.

        Raises:
            DataError: It is not, or the notes are damaged.
        """
        known = self._plan()["request"]
        odd = [name for name in request if known.get(name) != request[name]]
        if odd:
            raise DataError(
                f"{self._out} holds the beginnings of another store ({', '.join(odd)} differed); "
                "give the command that began it to go on with that, or remove the folder"
            )

    def plan(self) -> Plan:
        """Return what was decided.

        Raises:
            DataError: The notes are damaged.
        """
        values = self._plan()
        splits = {}
        for name, known in values["splits"].items():
            file = self._folder / f"{name}.npy"
            if digest(file, error=DataError) != known["sha256"]:
                raise DataError(f"{file} was changed since it was written; {self._anew}")
            images = read_array(file, dtype=np.int64, shape=(None,))
            splits[name] = PlannedSplit(origin=known["origin"], images=images)
        return Plan(splits=splits, notes=tuple(values["notes"]), duplicates=values["duplicates"])

    def held(self) -> AbstractContextManager[None]:
        """Hold its lock: one process at a time goes on with it."""
        return locks.held(self._folder)

    def piece(self, split: str, number: int) -> WrittenPiece | None:
        """Return what became of the images of a piece, if it is there.

        Raises:
            DataError: The note of it is damaged.
        """
        file = self._note(split, number)
        if not file.is_file():
            return None
        values = unsealed(read_json(file, error=DataError), file, error=DataError)
        return from_dict(WrittenPiece, values, name=str(file))

    def keep(self, split: str, number: int, piece: WrittenPiece) -> None:
        """Note that a piece is there."""
        write_json(self._note(split, number), sealed(to_dict(piece)))

    def remove(self) -> None:
        """Remove the notes of a store that is whole."""
        discard(self._folder)

    def _note(self, split: str, number: int) -> Path:
        return self._folder / f"{split}-{shard_name(number)}.json"

    def _plan(self) -> dict[str, Any]:
        file = self._folder / _PLAN
        return unsealed(read_json(file, error=DataError), file, error=DataError)

    @property
    def _anew(self) -> str:
        return f"remove {self._out} and prepare the store anew"
