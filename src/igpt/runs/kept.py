"""Kept results: JSON files in a run's folder, each with what it was made from, and a checksum.

    {
      "best_layer": 3, ...
      "made_from": {"all": {"model": "5d41402abc4b2a76", "store": "7d793037a0760186",
                            "settings": {"solver": "lbfgs", "seed": 0, ...}}},
      "checksum": "..."
    }

A result is used again only where all of that is the same, and a report shows it only as long as the
run has the model that was measured. Files with several results have a key for each, such as a split
of `evaluation.json`. Results of igpt 0.1 do not say what they were made from: they are shown, but
not used again.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.files import read_json, write_json
from igpt.seals import sealed, unsealed
from igpt.values import from_dict, to_dict

Result = TypeVar("Result")

ALL = "all"
"""The key of what a result was made from, where a file holds one."""


@dataclass(frozen=True, kw_only=True)
class MadeFrom:
    """What decides a result: made from the same, it comes out the same."""

    model: str
    """Its `Pretrained.identity`."""
    store: str
    """Its `RecordStore.identity`."""
    settings: dict[str, Any]
    """The arguments that decide the figures, as JSON has them."""

    def is_enough(
        self, wanted: "MadeFrom", settings_are_enough: Callable[[dict, dict], bool]
    ) -> bool:
        """Return whether a result that was made from this will do where another is wanted."""
        same = (self.model, self.store) == (wanted.model, wanted.store)
        return same and settings_are_enough(self.settings, wanted.settings)


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What stands in a file beside the result."""

    made_from: dict[str, MadeFrom]


def outdated(made_from: Mapping[str, MadeFrom], model: str) -> list[str]:
    """Return which results of a file were made from another model than that of this identity."""
    return [part for part, made in made_from.items() if made.model != model]


def write_kept(file: Path, result: Any, made_from: Mapping[str, MadeFrom]) -> None:
    """Write a result, with what it, or each part of it, was made from.

    Raises:
        DataError: The disk is full, or the place cannot be written to.
    """
    said = {"made_from": to_dict(made_from)} if made_from else {}
    write_json(file, sealed({**to_dict(result), **said}))


def read_kept(file: Path, kind: type[Result]) -> tuple[Result, dict[str, MadeFrom]]:
    """Return a result of this kind, and what it, or each part of it, was made from.

    Raises:
        CheckpointError: The file is missing or damaged, or of an earlier igpt.
    """
    values = unsealed(read_json(file), file, error=CheckpointError)
    try:
        made_from = from_dict(_Header, {"made_from": values.pop("made_from", {})}, name="it")
        return from_dict(kind, values, name="it"), made_from.made_from
    except ConfigError as error:
        raise CheckpointError(
            f"{file} is damaged or of an earlier igpt: {error}; measure it again"
        ) from error


@contextmanager
def kept_if_possible() -> Iterator[None]:
    """Have what cannot be written end in a note: the figures are there to be shown all the same."""
    try:
        yield
    except DataError as error:
        warnings.warn(f"the figures are not kept: {error}", stacklevel=3)
