"""Paths as users give them, texts or `Path`s: functions for users make `Path`s of them first."""

from collections.abc import Iterable
from pathlib import Path
from typing import overload

AnyPath = Path | str


@overload
def as_path(path: AnyPath) -> Path: ...
@overload
def as_path(path: None) -> None: ...
def as_path(path: AnyPath | None) -> Path | None:
    """Return a path that may be left out as a `Path`."""
    return None if path is None else Path(path)


def as_paths(paths: AnyPath | Iterable[AnyPath]) -> list[Path]:
    """Return some paths, or a single one, as `Path`s."""
    return [Path(paths)] if isinstance(paths, AnyPath) else [Path(path) for path in paths]
