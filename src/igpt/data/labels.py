"""Labels: class numbers and names, from whatever a table or a list of files calls its classes."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from igpt.errors import ConfigError, DataError, nearest_name

LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "category", "cls")
"""What the column of labels is called, unless its name is given; the last is WebDataset's."""

_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # as a number is written, and no longer than one

WITHOUT = "leave the labels out with --no-labels, or choose another column with --label-column"


def read_labels(
    shown: str,
    values: Iterable[Any],
    names: Sequence[str] | None = None,
    *,
    alphabetical: bool = False,
) -> tuple[Int64[np.ndarray, " record"] | None, tuple[str, ...] | None]:
    """Return class numbers and class names, or twice None if every label is withheld.

    Whole numbers, words and truth values are classes, in their order, words that are all whole
    numbers in that of these; so are floats without a fraction. None, an empty word and not-a-number
    are withheld labels; so is -1, as the hub writes it, unless the labels are plainly -1 and 1.

    Args:
        shown: What messages call the labels.
        values: The labels, as plain Python values.
        names: Names of the classes, if the labels are their numbers.
        alphabetical: Whether words stay in alphabetical order even if all are numbers.

    Raises:
        DataError: Labels are no classes, outside their names, or there for some records only.
    """
    labels = [_plain(shown, value) for value in values]
    present = {label for label in labels if label is not None}
    if len({type(label) for label in present}) > 1:
        raise DataError(f"{shown} mixes numbers and words; {WITHOUT}")
    if names is not None or present != {-1, 1}:
        labels = [None if label == -1 else label for label in labels]
        present.discard(-1)
    if not present:
        return None, None
    if missing := sum(label is None for label in labels):
        raise DataError(
            f"{shown} has labels for {len(labels) - missing:,} of its {len(labels):,} records; "
            f"label all of them, or {WITHOUT}"
        )
    if names is None:
        classes, numbers = np.unique(np.array(labels), return_inverse=True)
        called = [str(name) for name in classes.tolist()]
        if not alphabetical and all(map(_NUMBER.fullmatch, called)):
            order = sorted(range(len(called)), key=lambda index: int(called[index]))
            called = [called[index] for index in order]
            numbers = np.argsort(order)[numbers]
        return numbers.astype(np.int64), tuple(called)
    if odd := [x for x in present if isinstance(x, str) or not 0 <= x < len(names)]:
        raise DataError(
            f"{shown} has the label {odd[0]!r}, outside its {len(names)} names; {WITHOUT}"
        )
    return np.array(labels, np.int64), tuple(names)


def renamed(names: Sequence[str] | None, changes: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of classes with some changed; their numbers stay.

    Args:
        names: The classes, in the order of their numbers; None without labels.
        changes: Such as n01440764=tench.

    Raises:
        ConfigError: There is no class of that name, or two would have the same.
    """
    new = dict(change.split("=", 1) for change in changes)
    for name in new:
        if name not in (names or ()):
            raise ConfigError(
                f"no class is called {name!r}{nearest_name(name, names)}"
                if names
                else f"there are no labels, and no class {name!r} to rename; leave out --rename"
            )
    if names is None:
        return None
    called = tuple(new.get(name, name) for name in names)
    twice = next((name for name in called if called.count(name) > 1), None) if new else None
    if twice is not None:
        raise ConfigError(
            f"two classes would be called {twice!r}; to make one of them, put their images into "
            "one folder, or give them one label"
        )
    return called


def _plain(shown: str, value: Any) -> int | str | bool | None:
    """Return a label as a number, a word, a truth value, or None if it is withheld."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value) or None
    if isinstance(value, float) and (value != value or value.is_integer()):
        return None if value != value else int(value)
    if isinstance(value, list | tuple | dict):
        raise DataError(f"{shown} has several labels a record, where one is wanted; {WITHOUT}")
    raise DataError(
        f"{shown} has labels such as {value!r}, where whole numbers or words are wanted; {WITHOUT}"
    )
