"""Folders of image files, on disk or in archives, with class folders or lists of files as labels.

Which folders are splits and which are classes is seen from their names: folders are splits only if
every one with images is one, and what can be read both ways is refused. Labels in `metadata.csv` or
`.jsonl`, with a column `file_name`, and WebDataset's `.cls` and `.json` go before class folders.

Read by ourselves: the `imagefolder` of the `datasets` library gives records without a label when
the classes of two splits differ, takes words in file names for split names, and copies a table of
the folder into its cache.
"""

import csv
import dataclasses
import io
import posixpath
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igpt.data.collection import (
    Collection,
    File,
    Folder,
    folder_files,
    tar_files,
    url_files,
    webdataset_key,
    zip_files,
)
from igpt.data.config import SourceConfig
from igpt.data.labels import LABEL_COLUMNS, WITHOUT, read_labels
from igpt.data.remote import remote_files
from igpt.data.sources import (
    Source,
    SourceImage,
    SourceSplit,
    choose_splits,
    split_meaning,
)
from igpt.data.tables import open_tables, table_rows
from igpt.errors import ConfigError, DataError
from igpt.files import parse_json
from igpt.pixels.opening import readable_endings


def open_folder(root: Path, config: SourceConfig, *, shared: bool = False) -> Source:
    """Read a folder: of parquet files, of tar files, or of images.

    Args:
        root: The folder.
        config: How it is read.
        shared: Whether several processes are to read the images.

    Raises:
        ConfigError: A setting has no use here.
        DataError: There are no images, or what they are is not plain.
    """
    return _open_files(folder_files(root), root, config, shared=shared)


def open_url(url: str, config: SourceConfig) -> Source:
    """Read what is behind a URL: a parquet or tar file, or a folder as `open_folder` does.

    Raises:
        ConfigError: A setting has no use here.
        DataError: There are no images, what they are is not plain, or it cannot be reached.
    """
    if url.endswith(".parquet"):
        return open_tables(url, config, shared=True)
    if url.endswith(".tar"):
        return _open_collection(tar_files(remote_files(url)), config)
    return _open_files(url_files(url), url, config, shared=True)


def _open_files(
    collection: Collection, root: Path | str, config: SourceConfig, *, shared: bool
) -> Source:
    images = collection.root.all_files()
    tables, shards = collection.others[".parquet"], collection.others[".tar"]
    if tables:
        if images:
            raise DataError(
                f"{root} holds both parquet files and images ({images[0].name}); give the one or "
                "the other a folder of its own"
            )
        source = open_tables(str(root), config, shared=shared)
        collection.ignored.update({**source.ignored, **({".tar": len(shards)} if shards else {})})
        return dataclasses.replace(source, ignored=dict(collection.ignored))
    if shards and images:
        collection.ignored[".tar"] += len(shards)
    elif shards:
        ignored, collection = collection.ignored, tar_files(sorted(shards), root)
        collection.ignored.update(ignored)
    return _open_collection(collection, config)


def open_archive(path: Path, config: SourceConfig) -> Source:
    """Read a zip or tar file as the folder that it holds.

    Raises:
        ConfigError: A setting has no use here.
        DataError: It is broken or holds no images, or what they are is not plain.
    """
    is_zip = path.suffix.lower() == ".zip"
    return _open_collection(zip_files(path) if is_zip else tar_files([path]), config)


def _open_collection(collection: Collection, config: SourceConfig) -> Source:
    shown = collection.shown
    for value, option in ((config.image_column, "image-column"), (config.config, "config")):
        if value is not None:
            raise ConfigError(f"--{option} is for tables, and {shown} is none; leave it out")
    if not collection.root.all_files():
        raise DataError(
            f"{shown} holds no images; looked for files that end in "
            f"{', '.join(sorted(readable_endings()))}; found {_listed(collection.ignored)}"
        )
    notes: list[str] = []
    listed = None if config.no_labels else _listed_labels(collection, config, notes)
    if config.no_labels:
        unread = [*collection.metadata, *collection.keyed.values()]
        collection.ignored.update(posixpath.splitext(file.name)[1] for file in unread)
    root = _looked_through(collection.root, notes)
    splits = _split_folders(shown, root, config)
    skipped: list[tuple[str, str]] = []
    made = {
        name: _open_split(f"{shown} ({name})", folder, config, listed, skipped)
        for name, folder in (splits or {"train": root}).items()
    }
    left_out = len(root.all_files()) - sum(map(len, made.values())) - len(skipped)
    if left_out:
        collection.ignored["images outside of the splits"] += left_out
    if listed:
        known = {file.key for file in collection.root.all_files()}
        skipped += [
            (
                "listed, but not there",
                f"{name} is in the list of labels, but there is no such file",
            )
            for name in listed
            if name not in known
        ]
    tables = sum(collection.ignored[ending] for ending in (".csv", ".json", ".jsonl"))
    if tables and not config.no_labels and all(split.labels is None for split in made.values()):
        notes.append(
            "there are no labels; to read some from a table, call it metadata.csv, with columns "
            "file_name and label"
        )
    return Source(
        splits={name: split for name, split in made.items() if len(split)},
        called={split: folder.name for split, folder in splits.items()},
        ignored=dict(collection.ignored),
        skipped=tuple(skipped),
        notes=tuple(notes),
    )


def _looked_through(folder: Folder, notes: list[str]) -> Folder:
    """Return the folder that holds more than one other, where each above holds nothing else."""
    while not folder.files and len(folder.folders) == 1:
        (inner,) = folder.folders.values()
        if not inner.folders or (
            split_meaning(inner.name) and not any(map(split_meaning, inner.folders))
        ):
            break
        notes.append(f"the folder {inner.name}/ is all there is, so what lies in it is read")
        folder = inner
    return folder


def _split_folders(shown: str, root: Folder, config: SourceConfig) -> dict[str, Folder]:
    """Return which folders are splits; none if all are classes.

    Raises:
        DataError: Some are named for splits and some are not.
    """
    chosen = choose_splits(root.folders, config)
    others = [name for name in root.folders if name not in chosen.values()]
    if chosen and others and not config.splits:
        names = list(chosen.values())
        if len(names) == 1 and not (root.folders[names[0]].folders and _is_plain(names[0])):
            return {}  # a class that happens to be called "train", or "toy_train"
        raise DataError(
            f"{shown} has folders named for splits ({', '.join(names)}) beside others "
            f"({', '.join(others[:3])}), so they may be splits or classes; if they are splits, add "
            f"--split {next(iter(chosen))}={names[0]}, and if classes, rename {names[0]}/"
        )
    folders = {}
    for split, name in chosen.items():
        folder = root.folders[name]
        while not folder.files and len(folder.folders) == 1:  # seg_train/seg_train/
            (inner,) = folder.folders.values()
            if inner.name != folder.name and not split_meaning(inner.name):
                break
            folder = inner
        folders[split] = folder
    return folders


def _is_plain(name: str) -> bool:
    """Return whether a name is that of a split and nothing else."""
    meaning = split_meaning(name)
    return meaning is not None and meaning[1] == "*"


def _open_split(
    shown: str,
    root: Folder,
    config: SourceConfig,
    listed: dict[str, Any] | None,
    skipped: list[tuple[str, str]],
) -> SourceSplit:
    """Read the images of a split; its own folders are the classes, unless labels are listed."""
    files, values = root.all_files(), None
    in_list = listed is not None and any(file.key in listed for file in files)
    if listed is not None and in_list:
        skipped += [
            ("not in the list of labels", f"{file.name} is not in the list of labels")
            for file in files
            if file.key not in listed
        ]
        files = [file for file in files if file.key in listed]
        values = [listed[file.key] for file in files]
    elif root.folders and not config.no_labels:
        if root.files:
            raise DataError(
                f"{shown} has images of its own ({root.files[0].name}) beside folders of images "
                f"({min(root.folders)}/); put every image in a class folder, or none, or read all "
                "of them without labels with --no-labels"
            )
        classes = {name: root.folders[name].all_files() for name in sorted(root.folders)}
        files = [file for of_class in classes.values() for file in of_class]
        values = [name for name, of_class in classes.items() for _ in of_class]
    labels, class_names = None, None
    if values is not None:
        labels, class_names = read_labels(shown, values, alphabetical=not in_list)
    images = _Images(files)
    return SourceSplit(
        images=len(files),
        image=images,
        sendable=images.part,
        labels=labels,
        class_names=class_names,
        names=[file.name for file in files],
    )


@dataclass(frozen=True)
class _Images:
    """Gives the images of some files by their numbers."""

    files: Sequence[File] | Mapping[int, File]

    def __call__(self, number: int) -> SourceImage:
        file = self.files[number]
        return SourceImage(file.name, file.read())

    def part(self, numbers: Sequence[int]) -> "_Images":
        return _Images({number: self.files[number] for number in numbers})


def _listed_labels(
    collection: Collection, config: SourceConfig, notes: list[str]
) -> dict[str, Any] | None:
    """Return the labels that stand in lists or beside the images, by the images' names."""
    labels: dict[str, Any] = {}
    used: set[str] = set()
    for file in collection.metadata:
        folder, column = posixpath.dirname(file.name), None
        for row in _rows(file):
            if not isinstance(row.get("file_name"), str):
                raise DataError(
                    f"{file.name} lacks a file_name in some row; name every image in a column of "
                    "that name, or leave its labels out with --no-labels"
                )
            column = column or _label_column(row, config)
            if column is None:
                notes.append(
                    f"{file.name} has no column of labels, only {', '.join(map(str, row))}; "
                    "--label-column names one"
                )
                break
            name = posixpath.normpath(posixpath.join(folder, row["file_name"].replace("\\", "/")))
            key, label = unicodedata.normalize("NFC", name), row.get(column)
            if labels.setdefault(key, label) != label:
                raise DataError(
                    f"{file.name} names {key} several times, with several labels; {WITHOUT}"
                )
    for file in collection.root.all_files() if collection.keyed else ():
        key = webdataset_key(file.name)
        number, values = (collection.keyed.get(key + ending) for ending in (".cls", ".json"))
        if values and (config.label_column or not number):
            row = _object(_text(values), values.name)
            if column := _label_column(row, config):
                labels[file.key] = row[column]
                used.add(key + ".json")
        elif number:
            labels[file.key] = _text(number).strip()
            used.add(key + ".cls")
    collection.ignored.update(
        posixpath.splitext(key)[1] for key in collection.keyed if key not in used
    )
    if config.label_column is not None and not labels:
        raise ConfigError(
            f"there is no column {config.label_column} of labels in {collection.shown}; leave out "
            "--label-column, or add a metadata.csv with file_name and that column"
        )
    return labels or None


def _label_column(row: dict[str, Any], config: SourceConfig) -> str | None:
    if config.label_column is not None:
        return config.label_column if config.label_column in row else None
    return next((name for name in LABEL_COLUMNS if name in row), None)


def _rows(file: File) -> Iterator[dict[str, Any]]:
    """Yield the rows of a metadata.csv, .jsonl or .parquet."""
    if file.name.endswith(".parquet"):
        yield from table_rows(file.name, file.read())
    elif file.name.endswith(".jsonl"):
        lines = _text(file).split("\n")
        yield from (_object(line, file.name) for line in lines if line.strip())
    else:
        try:
            yield from csv.DictReader(io.StringIO(_text(file), newline=""), strict=True)
        except csv.Error as error:
            raise DataError(f"{file.name} is no table of commas ({error}); mend it") from error


def _object(text: str, name: str) -> dict[str, Any]:
    try:
        value = parse_json(text, finite=False)
    except ValueError as error:
        raise DataError(f"{name} is damaged ({error}); mend it") from error
    if not isinstance(value, dict):
        raise DataError(f"{name} should hold JSON objects; mend it")
    return value


def _text(file: File) -> str:
    content = file.read()
    try:
        return (content.read_bytes() if isinstance(content, Path) else content).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"could not read {file.name} ({error}); save it as UTF-8 text") from error


def _listed(ignored: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in list(ignored.items())[:8]) or "no files"
