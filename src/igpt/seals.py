"""Checksums: what shows that files hold what was written there.

    write_json(path, sealed(values))                             # with "checksum", of all the rest
    values = unsealed(read_json(path), path, error=DataError)    # without it, or refused
    crc32c(path) == known                                        # of gigabytes, in no time

A text editor can still change such a file, but no longer unnoticed; nor can a damaged disk. Nothing
here is a signature: whoever means to deceive computes the checksum anew.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import google_crc32c

from igpt.errors import IgptError

_KEY = "checksum"
_AT_ONCE = 2**20  # bytes, which stay in the cache


def fingerprint(values: Any) -> str:
    """Return sixteen hexadecimal digits that tell values that JSON has from others.

    They do not depend on the order of an object's fields.
    """
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sealed(values: dict[str, Any]) -> dict[str, Any]:
    """Return the same values, with their checksum."""
    return {**values, _KEY: fingerprint(values)}


def unsealed(values: dict[str, Any], path: Path, *, error: type[IgptError]) -> dict[str, Any]:
    """Return the values without their checksum; those that have none as they are.

    Args:
        values: What a file held.
        path: The file, for the message.
        error: What is raised.

    Raises:
        IgptError: Of the kind `error`: the values are not those that were written.
    """
    rest = {name: value for name, value in values.items() if name != _KEY}
    if _KEY in values and values[_KEY] != fingerprint(rest):
        raise error(
            f"{path} was changed since it was written (its checksum differs); restore it or make "
            "it again"
        )
    return rest


def crc32c(path: Path) -> int:
    """Return the CRC-32C of a file, nine gigabytes a second where SHA-256 reads one and a half.

    It shows all damage to 32 bits in a row, and leaves other unseen once in four billion times.
    """
    checksum = 0
    with path.open("rb") as file:
        while part := file.read(_AT_ONCE):
            checksum = google_crc32c.extend(checksum, part)
    return checksum
