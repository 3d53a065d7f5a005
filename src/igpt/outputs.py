"""Where a file may be written that the user named: one rule for every `--out`.

What is there stays, unless `--overwrite` says that it may go. Never, even so, is anything written
onto what is read, onto a folder or a device, or into a folder that igpt keeps: a store, a run, a
model. Only the pages of `igpt report` and `igpt claims` may be replaced without asking, by a newer
page of the same command: they are made out of folders that are still there, and are known by their
first lines.

All of it is known before the work. Folders that must be new, such as a run's, have a rule of their
own (`igpt.files.written_aside` with `exclusive`).
"""

import os
from collections.abc import Iterable
from pathlib import Path

from igpt.errors import ConfigError
from igpt.files import require_writable

_KEPT = {
    "store": ("store.json",),
    "run": ("recipe.json", "provenance.json"),
    "model": ("config.json", "model.safetensors"),
}
"""The folders that igpt keeps, by the files that each has."""

_FIRST_LINES = 8192  # bytes


def require_free(
    *outputs: Path, reads: Iterable[Path] = (), overwrite: bool = False, page: str | None = None
) -> None:
    """See that these files may be written.

    Args:
        outputs: The files; no two of them may be one.
        reads: Files that are read for them, and folders of such.
        overwrite: Whether what is there may be replaced.
        page: A text in the first lines of the command's own pages, which may be replaced anyway.

    Raises:
        ConfigError: Something is there already, or would be lost.
        DataError: The place cannot be written to.
    """
    real = [os.path.realpath(output) for output in outputs]
    inputs = {_identity(path): path for path in reads}
    folders = {Path(os.path.realpath(path)) for path in inputs.values() if path.is_dir()}
    for output, path in zip(outputs, real, strict=True):
        if real.count(path) > 1:
            raise ConfigError(f"{output} would be written twice; give the images other names")
        if (read := inputs.get(_identity(output))) is not None:
            raise ConfigError(f"{read} is read and would be replaced; choose another --out")
        if output.exists() and not folders.isdisjoint(Path(path).parents):
            raise ConfigError(
                f"{output} lies in a folder that is read and would be replaced; choose another "
                "--out"
            )
        require_outside(output)
        if output.is_dir():
            raise ConfigError(f"{output} is a folder, where a file is wanted; add the file's name")
        if output.exists() and not output.is_file():
            raise ConfigError(f"{output} is a device or a pipe, where a file is wanted")
        own = page is not None and _begins_with(output, page)
        if os.path.lexists(output) and not (overwrite or own):
            raise ConfigError(
                f"{output} is there already; choose another --out, or replace it with --overwrite"
            )
        require_writable(output)


def require_outside(output: Path) -> None:
    """See that nothing is written into a folder that igpt keeps.

    Raises:
        ConfigError: It lies in one.
    """
    for folder in Path(os.path.realpath(output)).parents:
        for kind, marks in _KEPT.items():
            if all((folder / mark).is_file() for mark in marks):
                raise ConfigError(
                    f"{output} lies in the {kind} {folder}, which holds only what igpt keeps "
                    "there; choose an --out outside of it"
                )


def require_ending(output: Path, ending: str, what: str) -> None:
    """See that a file is named for what it holds.

    Raises:
        ConfigError: It is not.
    """
    if output.suffix.lower() != ending:
        raise ConfigError(f"{what} written as {ending}, got --out {output}; try {output}{ending}")


def _identity(path: Path) -> object:
    """Return what a file has in common with its other names."""
    if not path.exists():
        return os.path.realpath(path)
    status = path.stat()
    return status.st_dev, status.st_ino


def _begins_with(path: Path, text: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return text.encode() in file.read(_FIRST_LINES)
