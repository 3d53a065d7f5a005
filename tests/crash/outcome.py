"""What a folder holds, but for what the clock decides: the same for two runs of the same work."""

import hashlib
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

_CLOCK = {"seconds", "images_per_second", "tokens_per_second", "started"}
_OF_THE_CLOCK = {"metrics_sha256", "checksum"}
"""Checksums of files or values with such numbers in them."""

_CLOCK_IN_TEXT = re.compile(rb"[\d,.]+ (tokens/s|s|min|h)\b|\d{4}-\d\d-\d\dT[\d:+]+")
"""What pages say of it: speeds, durations, dates."""


def outcome(folder: Path) -> dict[str, str]:
    """Return the checksum of every file, and a word for every folder, by its path in `folder`."""
    return {
        str(path.relative_to(folder)): _facts(path)
        for path in sorted(folder.rglob("*"))
        if path.name != "log.txt"  # says when, and that it went on
    }


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Return the paths that are not in both, or not the same there."""
    return [path for path in sorted({*one, *other}) if one.get(path) != other.get(path)]


def _facts(path: Path) -> str:
    if path.is_dir():
        return "folder"
    written = path.read_bytes()
    try:
        if path.suffix == ".json":
            written = json.dumps(_timeless(json.loads(written))).encode()
        elif path.suffix == ".jsonl":
            lines = [_timeless(json.loads(line)) for line in written.splitlines()]
            written = json.dumps(lines).encode()
        elif path.suffix in (".html", ".md"):
            written = _CLOCK_IN_TEXT.sub(b"", written)
        elif path.suffix == ".npz":
            with zipfile.ZipFile(io.BytesIO(written)) as arrays:
                written = b"".join(name.encode() + arrays.read(name) for name in arrays.namelist())
    except (ValueError, zipfile.BadZipFile):
        pass  # it is half a file: compared as it is
    return hashlib.md5(written).hexdigest()


def _timeless(value: Any) -> Any:
    """Return a JSON value without what the clock decides."""
    if isinstance(value, list):
        return [_timeless(part) for part in value]
    if not isinstance(value, dict):
        return value
    left_out = _CLOCK | (_OF_THE_CLOCK if _has_clock(value) else set())
    return {name: _timeless(part) for name, part in value.items() if name not in left_out}


def _has_clock(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_clock, value))
    return isinstance(value, dict) and any(
        name in _CLOCK or _has_clock(part) for name, part in value.items()
    )
