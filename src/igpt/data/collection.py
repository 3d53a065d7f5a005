"""Collections: the files of a folder, a zip or tar file, sorted into a tree of images and the rest.

    collection = folder_files(Path("photos"))
    collection.root.folders["cat"].files        # images, undecoded
    collection.ignored                          # {".txt": 2, "@eaDir/": 1}

Here stands which files are images at all. What the tree's folders mean, splits or classes, is for
`igpt.data.folders`. Hidden files and what systems drop into folders are passed over at any depth;
each real folder is read once, wherever links to it lie. Nothing of an archive is written to disk.
"""

import os
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path, PurePosixPath

from igpt.data.remote import Remote, remote_files
from igpt.data.sources import split_meaning
from igpt.errors import DataError
from igpt.pixels.opening import SkippedImage, readable_endings

LARGEST_MEMBER = 2**27
"""Bytes of an archive's file that are read at most; an image of them is broken or a trap."""

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

_DROPPINGS = {
    "@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
}  # fmt: skip
_DEFLATED = zipfile.ZIP_DEFLATED
_image_endings = cache(readable_endings)  # asked for once a file

Content = Path | Remote | Callable[[], bytes]


@dataclass(frozen=True)
class File:
    """A file of a collection."""

    name: str
    """Its path in the collection, with slashes."""
    content: Content

    def read(self) -> Path | bytes:
        """Return its path on the disk, or what is in it.

        Raises:
            DataError: It cannot be read from its archive.
        """
        if isinstance(self.content, Remote):
            return self.content.read_bytes()
        return self.content if isinstance(self.content, Path) else self.content()

    @property
    def key(self) -> str:
        """Its name with accents written in one way, for lists made on other systems."""
        return unicodedata.normalize("NFC", self.name)


@dataclass
class Folder:
    """Images and folders of them; folders without any image at any depth are left out."""

    name: str = ""
    files: list[File] = field(default_factory=list)
    folders: dict[str, "Folder"] = field(default_factory=dict)

    def all_files(self) -> list[File]:
        """Return the images at any depth, in the order of their paths."""
        files, folders = list(self.files), list(self.folders.values())
        while folders:
            folder = folders.pop()
            files += folder.files
            folders += folder.folders.values()
        return sorted(files, key=lambda file: file.name.split("/"))


@dataclass
class Collection:
    """What lies in a folder or an archive."""

    shown: str
    """What messages call it."""
    root: Folder = field(default_factory=Folder)
    ignored: Counter[str] = field(default_factory=Counter)
    """How many files and folders are not looked at, by ending or kind."""
    metadata: list[File] = field(default_factory=list)
    """Lists of file names with labels."""
    keyed: dict[str, File] = field(default_factory=dict)
    """WebDataset's labels: files by the path that they have in common with their image."""
    others: dict[str, list[Path | Remote]] = field(
        default_factory=lambda: {".parquet": [], ".tar": []}
    )
    """Files that are collections themselves, by ending."""

    def add(self, parts: Sequence[str], file: File, *, keyed: bool = False) -> None:
        """Sort in a file that lies in the folders `parts` of the tree."""
        name = file.name.rpartition("/")[2]
        ending = os.path.splitext(name)[1].lower()
        if dropping := next((kind for part in (*parts, name) if (kind := passed_over(part))), None):
            self.ignored[dropping] += 1
        elif name in METADATA:
            self.metadata.append(file)
        elif keyed and ending in (".cls", ".json"):
            self.keyed[webdataset_key(file.name) + ending] = file
        elif _is_image(name):
            folder = self.root
            for part in parts:
                part = unicodedata.normalize("NFC", part)
                folder = folder.folders.setdefault(part, Folder(part))
            folder.files.append(file)
        elif ending in self.others and isinstance(file.content, Path | Remote):
            self.others[ending].append(file.content)
        else:
            self.ignored[ending or "without an ending"] += 1


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _image_endings()


def passed_over(name: str) -> str | None:
    """Return the kind of a file or folder that is hidden or a system's own; None for others."""
    if name.lower() in _DROPPINGS:
        return name.strip()
    return "hidden" if name.startswith(".") else None


def folder_files(root: Path) -> Collection:
    """Return the files of a folder; links are followed, each real folder is read once.

    Real folders go first, so that a folder is known by its own name rather than by a link's.

    Raises:
        DataError: A folder in it cannot be read.
    """
    collection = Collection(str(root))
    waiting: deque[tuple[tuple[str, ...], Path]] = deque([((), root)])
    links: deque[tuple[tuple[str, ...], Path]] = deque()
    seen: set[tuple[int, int]] = set()
    while waiting or links:
        parts, path = waiting.popleft() if waiting else links.popleft()
        with _refusals(str(path), "make it readable, or move it out of the collection"):
            known = os.stat(path)
            if (known.st_dev, known.st_ino) in seen:
                collection.ignored["links to folders that are read already"] += 1
                continue
            seen.add((known.st_dev, known.st_ino))
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
            modes = [_mode(entry) for entry in entries]
        for entry, mode in zip(entries, modes, strict=True):
            inner = (*parts, entry.name)
            if stat.S_ISDIR(mode):
                if dropping := passed_over(entry.name):
                    collection.ignored[f"{dropping}/"] += 1
                else:
                    where = links if entry.is_symlink() else waiting
                    where.append((inner, Path(entry.path)))
            elif stat.S_ISREG(mode):
                collection.add(parts, File("/".join(inner), Path(entry.path)))
            else:
                collection.ignored["pipes, sockets and devices"] += 1
    return collection


def _mode(entry: os.DirEntry[str]) -> int:
    """Return what kind of file an entry is, or what it links to; a file if that leads nowhere.

    An image that cannot be reached is a file to be skipped when it is read; anything else may be a
    folder of images.

    Raises:
        OSError: It cannot be seen what it links to.
    """
    if not entry.is_symlink():
        if entry.is_dir():
            return stat.S_IFDIR
        return stat.S_IFREG if entry.is_file() else stat.S_IFIFO
    try:
        return entry.stat().st_mode
    except OSError as error:
        if isinstance(error, PermissionError) and not _is_image(entry.name):
            raise
        return stat.S_IFREG


def zip_files(path: Path) -> Collection:
    """Return the files of a zip file, each read when asked for.

    Raises:
        DataError: It is no whole zip file.
    """
    collection = Collection(str(path))
    with _refusals(str(path), "download it again"), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        if not member.is_dir():
            parts = _safe_parts(member.filename)
            name = "/".join(parts)
            collection.add(parts[:-1], File(name, partial(_read_zip, path, member, name)))
    return collection


def url_files(url: str) -> Collection:
    """Return the files of a folder behind a URL, each read when asked for.

    Raises:
        DataError: There is nothing there, or it cannot be reached.
    """
    collection = Collection(url)
    for remote in remote_files(url):
        *parts, _ = remote.name.split("/")
        if dropping := next((kind for part in parts if (kind := passed_over(part))), None):
            collection.ignored[f"{dropping}/"] += 1
        else:
            collection.add(parts, File(remote.name, remote))
    return collection


def tar_files(paths: Sequence[Path | Remote], root: Path | str | None = None) -> Collection:
    """Return the files of tar files, WebDataset shards or others, each read when asked for.

    Args:
        paths: The tar files. If they are named for splits, such as train-000.tar, those are folders
            of the tree.
        root: The folder or the URL in which they lie, if there are several.

    Raises:
        DataError: One is no whole tar file, or is compressed.
    """
    first = paths[0].url if isinstance(paths[0], Remote) else paths[0]
    collection = Collection(str(root or first))
    meanings = [split_meaning(path.stem) for path in paths]
    for path, meaning in zip(paths, meanings, strict=True):
        shard = ""
        if root:
            inner = path.name if isinstance(path, Remote) else path.relative_to(root)
            shard = PurePosixPath(inner).with_suffix("").as_posix()
        above = Path(shard).parent.parts
        if meaning or any(meanings):
            above = (*above, meaning[0] if meaning else path.stem)
        for name, offset, size in _tar_members(path):
            parts = _safe_parts(name)
            name = "/".join([shard, *parts] if shard else parts)
            file = File(name, partial(_read_tar, path, offset, size, name))
            collection.add((*above, *parts[:-1]), file, keyed=True)
    return collection


def webdataset_key(name: str) -> str:
    """Return what the files of one record have in common: the path up to the first dot."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _read_zip(path: Path, member: zipfile.ZipInfo, name: str) -> bytes:
    """Return what is in a file of a zip file; each thread reads for itself, and closes it."""
    with _refusals(name, "make the archive again", SkippedImage), path.open("rb") as file:
        file.seek(member.header_offset + 26)
        lengths = struct.unpack("<HH", file.read(4))  # of its name and of what else is noted there
        file.seek(sum(lengths), os.SEEK_CUR)
        packed = file.read(min(member.compress_size, LARGEST_MEMBER + 1))
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, _DEFLATED):
            message = f"{name} is encrypted or packed in an unusual way; unpack it first"
            raise SkippedImage(message, "unreadable")
        content = packed
        if member.compress_type == _DEFLATED:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, LARGEST_MEMBER + 1)
        content = _bounded(content, name)
        if zlib.crc32(content) != member.CRC:
            raise SkippedImage(f"{name} is damaged in {path}; make the archive again", "broken")
        return content


def _read_tar(path: Path | Remote, offset: int, size: int, name: str) -> bytes:
    size = min(size, LARGEST_MEMBER + 1)
    if isinstance(path, Remote):
        return _bounded(path.read_bytes(offset, offset + size), name)
    with _refusals(name, "make the archive again", SkippedImage), path.open("rb") as file:
        file.seek(offset)
        return _bounded(file.read(size), name)


def _tar_members(path: Path | Remote) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each regular file in a tar file, and where and how long it is."""
    advice = "download it again; a compressed one has to be unpacked first"
    shown = path.url if isinstance(path, Remote) else str(path)
    with (
        _refusals(shown, advice),
        path.open("rb") as file,
        tarfile.open(fileobj=file, mode="r:") as archive,
    ):
        for member in archive:
            if member.isreg() and not member.issparse():
                yield member.name, member.offset_data, member.size


def _bounded(content: bytes, name: str) -> bytes:
    if len(content) > LARGEST_MEMBER:
        raise SkippedImage(
            f"{name} is more than {LARGEST_MEMBER:,} bytes; leave it out", "too large"
        )
    return content


def _safe_parts(name: str) -> list[str]:
    """Return the folders and the file that a path in an archive names, never one above."""
    parts = name.replace("\\", "/").split("/")
    return [part for part in parts if part not in ("", ".", "..")] or ["nameless"]


@contextmanager
def _refusals(name: str, advice: str, kind: type[DataError] = DataError) -> Iterator[None]:
    """Turn whatever is wrong with a folder or an archive into one line for the user."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the readers of archives fail in any way on broken ones
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise kind(f"could not read {name} ({' '.join(reason.split())}); {advice}") from error
