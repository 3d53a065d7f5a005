"""Folders of image files, class folders as labels.

Read by ourselves: the `imagefolder` of the `datasets` library gives records without a label when
the classes of two splits differ, takes words in file names for split names, and copies a table of
the folder into its cache.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from igpt.data.sources import SourceImage, SourceSplit, split_names
from igpt.errors import DataError

IMAGE_SUFFIXES = frozenset(
    [".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp"]
)


def open_folder(root: Path) -> dict[str, SourceSplit]:
    """Read `root/train/...`, `root/test/...`, or all of `root` as the training split.

    Raises:
        DataError: There are no images, or some beside class folders.
    """
    folders = {name: root / child for name, child in split_names(_subfolders(root)).items()}
    folders = folders or {"train": root}
    splits = {name: _open_class_folders(folder) for name, folder in folders.items()}
    if not any(len(split) for split in splits.values()):
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(f"{root} holds no images; looked for files that end in {kinds}")
    return {name: split for name, split in splits.items() if len(split)}


def _open_class_folders(root: Path) -> SourceSplit:
    """Read the images under `root`; its own subfolders, if they hold images, are the classes."""
    loose = _image_files(root.iterdir())
    classes = {name: _image_files((root / name).rglob("*")) for name in _subfolders(root)}
    classes = {name: files for name, files in classes.items() if files}
    if loose and classes:
        raise DataError(
            f"{root} has images of its own ({loose[0].name}) beside folders of images "
            f"({next(iter(classes))}/); put every image in a class folder, or none"
        )
    files = loose or [file for files in classes.values() for file in files]
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
    return SourceSplit(
        images=len(files),
        image=lambda index: SourceImage(str(files[index]), files[index]),
        labels=labels.astype(np.int64) if classes else None,
        class_names=tuple(classes) if classes else None,
    )


def _subfolders(folder: Path) -> list[str]:
    return sorted(
        child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != "."
    )


def _image_files(paths: Iterable[Path]) -> list[Path]:
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." and path.is_file()
    )
