"""What is at a path: a run, a search, a store, a model or a palette, told by names of files alone.

    require_model(Path("runs/a"))     # before torch is imported, which takes seconds
    run_of(Path("runs/rates"))        # the run that a search came out with
    located(Path("builtin"))          # the model that comes with igpt

No torch and no NumPy here: the command line looks at paths first. Whether what is there is whole is
for those to say who read it.
"""

import os
import re
import shlex
from pathlib import Path
from typing import Literal

from igpt import locks
from igpt.errors import CheckpointError, ConfigError, DataError, IgptError
from igpt.files import read_json, remove_abandoned, require_writable

Kind = Literal["run", "search", "store", "model", "palette"]

RECIPE, SEARCH, STORE = "recipe.json", "search.json", "store.json"
"""The file that each kind of folder has."""

BUILTIN = "builtin"
"""The name of the model that comes with igpt, where nothing else is called so."""

_BUILTIN_FOLDER = Path(__file__).parent / "builtin"

_PICTURES = {
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif",
}  # fmt: skip
"""Endings of pictures as people have them."""

PREPARING = ".preparing"
"""The folder in that of a store of many shards that is being made."""

_NOTHING = {locks.LOCK, "lost+found"}
"""What may be in an empty folder: the lock of a search, and what some file systems put there."""


def kind_of(path: Path) -> Kind | None:
    """Return what of igpt's own is at a path; None for anything else."""
    if (path / SEARCH).is_file():
        return "search"
    if (path / RECIPE).is_file():
        return "run"
    if (path / STORE).is_file():
        return "store"
    if _is_model(path):
        return "model"
    return "palette" if path.suffix == ".npy" and path.is_file() else None


def _is_model(path: Path) -> bool:
    """Say whether this is a model folder of igpt's own, not one of `transformers`."""
    file = path / "config.json"
    try:
        return file.is_file() and "model_type" not in read_json(file)
    except IgptError:
        return (path / "palette.npy").is_file()


def located(path: Path) -> Path:
    """Return the folder of the model that comes with igpt for its name; other paths as they are.

    What is called so in the current folder goes before it, as before a name on the hub.
    """
    return _BUILTIN_FOLDER if str(path) == BUILTIN and not os.path.lexists(path) else path


def is_picture(path: Path) -> bool:
    """Return whether this is named as pictures are, and no folder; there need be nothing."""
    return path.suffix.lower() in _PICTURES and not path.is_dir()


def run_of(path: Path) -> Path:
    """Return what a path stands for: the run that a search came out with, or the path itself.

    Of the name of the model that comes with igpt, that model's folder.

    Raises:
        CheckpointError: It is a search that is not finished, or its file is damaged.
    """
    path = located(path)
    if not (path / SEARCH).is_file():
        return path
    name = read_json(path / SEARCH).get("run")
    if not isinstance(name, str):
        raise CheckpointError(
            f"{path} is a search of learning rates that is not finished; give the command that "
            "began it once more, or one of the runs in it"
        )
    return path / name


def resuming(run: Path) -> str:
    """Return the command that goes on with a run, to paste into a shell."""
    return f"igpt resume {shlex.quote(str(run))}"


def require_room(path: Path) -> None:
    """Check that a run could be made at `path`, and nothing would be overwritten.

    Raises:
        ConfigError: There is something at `path`.
        DataError: The place cannot be written to.
    """
    require_writable(path)
    remove_abandoned(path.parent, path.name)
    remove_abandoned(path)
    if (path / RECIPE).is_file():
        raise ConfigError(
            f"{path} already holds a run; choose another --out, or go on with {resuming(path)}"
        )
    if path.exists() and (not path.is_dir() or {*os.listdir(path)} - _NOTHING):
        raise ConfigError(f"{path} is there already and is not empty; choose another --out")


def is_hub_name(name: str) -> bool:
    """Return whether this has the form of a model's name on the hub, `owner/name`."""
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) is not None


def is_on_hub(path: Path) -> bool:
    """Say whether a model is to be looked for on the hub: runs/typo is no name there."""
    return is_hub_name(str(path)) and not path.parent.is_dir()


def require_run(path: Path) -> None:
    """See that there is a run, or a search that came out with one.

    Raises:
        CheckpointError: There is none.
    """
    if not (run_of(path) / RECIPE).is_file():
        raise CheckpointError(
            f"{path} holds no run (no {RECIPE}); give a folder that igpt pretrain or igpt finetune "
            "wrote"
        )


def require_model(path: Path) -> None:
    """See that there is a run, a model or a checkpoint, or what may be a name on the hub.

    Raises:
        CheckpointError: There is nothing of the kind.
    """
    folder = run_of(path)
    marks = (RECIPE, "config.json", "model/config.json")
    known = any((folder / mark).is_file() for mark in marks)
    if not (known or is_on_hub(path) or _is_checkpoint(folder)):
        raise no_model(path)


def _is_checkpoint(path: Path) -> bool:
    """Say whether this may be a TensorFlow checkpoint, or a folder that holds one."""
    return any(path.glob("*.index")) if path.is_dir() else Path(f"{path}.index").is_file()


def no_model(path: Path) -> CheckpointError:
    """Return the error that says that there is no model."""
    if is_hub_name(str(path)) and not path.exists():
        return CheckpointError(
            f"there is no {path}, and since there is a folder {path.parent} here, no model of that "
            "name was looked for on the hub; check the name, or call it from another folder"
        )
    return CheckpointError(
        f"{path} holds no model (no config.json, no model/config.json, no TensorFlow checkpoint); "
        "give the folder of a run that has saved a checkpoint, or another model, such as "
        f"{BUILTIN}, which comes with igpt"
    )


def require_store(path: Path) -> None:
    """See that there is a record store.

    Raises:
        DataError: There is none.
    """
    if not (path / STORE).is_file():
        if (path / PREPARING).is_dir():
            raise DataError(
                f"{path} is a store that is not finished; give the command that began it once more"
            )
        missing = f"holds no {STORE}" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {missing}; make a record store there first, with `igpt data`")


def require_file(path: Path) -> None:
    """See that there is a file.

    Raises:
        DataError: There is none.
    """
    if not path.is_file():
        what = "is a folder, where a file is wanted" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}; check the path")
