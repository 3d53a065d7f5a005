"""Writing and reading back, as the tests of `igpt.files` and the programs they run do it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from igpt.errors import DataError
from igpt.files import written_aside

PROGRAM = """
import errno, os, shutil, sys
from contextlib import suppress
from pathlib import Path
from igpt.errors import DataError
from igpt.files import remove_abandoned, require_writable, written_aside
from tests.changes import deaths
from tests.system import refuse
from tests.writing import names, read_folder, told, write, write_folder
home = Path(sys.argv[1])
"""
"""How such a program begins, for `tests.system.run`; it is given a folder to work in."""


def write(path: Path, text: str, *, exclusive: bool = False) -> None:
    """Write a file."""
    with written_aside(path, exclusive=exclusive) as aside:
        aside.write_text(text)


def write_folder(path: Path, text: str, *, exclusive: bool = False) -> None:
    """Write a folder like a small store, all of whose files say the same."""
    with written_aside(path, exclusive=exclusive) as aside:
        (aside / "train").mkdir(parents=True)
        (aside / "train" / "images").write_text(text)
        (aside / "store.json").write_text(text)


def read_folder(path: Path) -> str:
    """Return what all files of such a folder say."""
    assert names(path) in (["store.json", "train"], ["lost+found", "store.json", "train"])
    texts = {file.read_text() for file in (path / "train" / "images", path / "store.json")}
    assert len(texts) == 1, texts
    return texts.pop()


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return sorted(path.name for path in folder.iterdir())


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Print the line with which something is refused."""
    try:
        yield
    except DataError as error:
        print(error)
    else:
        print("not refused")
