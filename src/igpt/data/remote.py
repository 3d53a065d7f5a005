"""Files behind a URL, on an object store, the hub or a web server, as fsspec reads them.

    Remote("s3://bucket/photos/a.jpg", "a.jpg").read_bytes()
    remote_files("s3://bucket/photos")      # all at any depth, in the order of their names

Which kinds there are is fsspec's business (s3, gs, az, hf, http, memory ...), and which names and
passwords they take is that of its packages, by environment and files of their own. A network that
fails is asked again, and then ends the work: an image is skipped only if it is not there.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from igpt.errors import DataError
from igpt.pixels.opening import SkippedImage

_ATTEMPTS = 4
_PAUSE = 1.0  # seconds before the second attempt; each later one waits twice as long

Got = TypeVar("Got")


def is_url(location: str) -> bool:
    """Say whether a location is behind a URL, such as s3://bucket/photos."""
    return "://" in location


@dataclass(frozen=True, order=True)
class Remote:
    """A file behind a URL; like a path, as far as files are read."""

    url: str
    name: str
    """Its path in the folder that was given."""

    @property
    def stem(self) -> str:
        """Its name without folders and ending."""
        return PurePosixPath(self.name).stem

    def open(self, mode: str = "rb") -> Any:  # a file of fsspec's
        """Open it for reading, at any place.

        Raises:
            DataError: There is nothing that reads such URLs.
        """
        files, path = _found(self.url)
        return files.open(path, mode)

    def read_bytes(self, start: int | None = None, stop: int | None = None) -> bytes:
        """Return what is in it, or the bytes from `start` up to `stop`.

        Raises:
            SkippedImage: It is not there.
            DataError: It cannot be reached.
        """
        files, path = _found(self.url)
        return tried(self.url, lambda: files.cat_file(path, start, stop))


def remote_files(url: str) -> list[Remote]:
    """Return all files of a folder, at any depth, in the order of their names; or the file itself.

    Raises:
        DataError: There is nothing there, or it cannot be reached.
    """
    files, root = _found(url)
    found = tried(url, lambda: files.find(root))
    if not found:
        raise DataError(f"there is nothing at {url}; check the URL, and what it may be read with")
    root = root.rstrip("/")
    return [
        Remote(files.unstrip_protocol(path), path.removeprefix(root).lstrip("/") or path)
        for path in sorted(found)
    ]


def _found(url: str):
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise DataError(f"{url} cannot be read ({' '.join(str(error).split())})") from error


def tried(url: str, call: Callable[[], Got]) -> Got:
    """Return what a call for a file gives, asked again a few times if its network fails.

    Raises:
        SkippedImage: The file is not there.
        ValueError: What is in it is broken, as arrow has it.
        DataError: It cannot be reached.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return call()
        except ValueError:
            raise
        except FileNotFoundError as error:
            raise SkippedImage(f"{url} is not there", "unreadable") from error
        except Exception as error:  # each file system has errors of its own
            if attempt == _ATTEMPTS - 1:
                reason = " ".join(str(error).split()) or type(error).__name__
                raise DataError(
                    f"could not read {url} ({reason}); see that it can be reached"
                ) from error
            time.sleep(_PAUSE * 2**attempt)
    raise AssertionError("the last attempt returns or raises")
