"""What a user can get wrong, and what the command line turns into one line and exit code 2.

    IgptError
    ├── ConfigError       a setting that cannot work
    ├── DataError         images, labels, palettes and stores
    └── CheckpointError   runs, model folders and saved states

Each message says what was wanted, what came and what to try, in one line whatever the names of
files in it hold. All are `ValueError`s, so library
users may catch them as such. What only we can get wrong is an `assert`, not one of these.
"""

import difflib
from collections.abc import Iterable


class IgptError(ValueError):
    """Something the user can put right; the message says how."""

    def __str__(self) -> str:
        """Return the message as one line that can be printed."""
        return printable(super().__str__())


class ConfigError(IgptError):
    """A setting, recipe or option that does not exist or cannot work."""


class DataError(IgptError):
    """Images, labels, palettes or record stores that are missing, broken or do not fit."""


class CheckpointError(IgptError):
    """A run, model folder or saved state that is missing, broken or of another kind."""


def printable(text: str) -> str:
    """Return a text with its line ends, control characters and broken bytes written as escapes.

    Names of files may hold any of them, and would break the line or stop the printing.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest of `names`, or list them if none is close."""
    known = sorted(names)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; choose from {', '.join(known)}"
