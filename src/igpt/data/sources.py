"""Sources: labelled images from wherever they are, one `SourceSplit` for each split.

    open_source("photos/")                       folders of image files, class folders as labels
    open_source("shared/cifar10")                a folder with parquet files, as the hub lays it out
    open_source("more-images.parquet")           one parquet file, or a pattern of several
    open_source("uoft-cs/cifar10")               a data set on the Hugging Face hub
    open_source("digits", image_size=16)         scikit-learn's handwritten digits, no download
    open_source("tokens/imagenet", palette=...)  the authors' token arrays, imagenet_trX.npy ...

Here stands what a source is, and which kind is at a location; each kind has a module of its own.
Images stay undecoded until `SourceImage.read`, so that one broken file costs one record and not the
whole set. What is made of an image, and of which images, is `igpt.data.prepare`'s business.

Only splits that mean training, validation or test are opened (`val`, `valid` and `dev` are
validation); others, such as STL-10's `unlabeled`, are left alone.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from igpt.errors import ConfigError, DataError
from igpt.pixels.images import read_image
from igpt.pixels.palette import Palette

_SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class SourceImage:
    """One image of a source, not yet decoded."""

    name: str
    """What messages call it: its file name, or its number."""
    content: Path | bytes | UInt8[np.ndarray, "copy height width 3"]
    """Its file, or what is in that; or else the pixels of every record that it becomes."""

    def read(self) -> UInt8[np.ndarray, "copy height width 3"]:
        """Return the pixels of every record that it becomes.

        Raises:
            DataError: The file is missing or broken.
        """
        if isinstance(self.content, np.ndarray):
            return self.content
        return read_image(self.content, name=self.name)[None]


@dataclass(frozen=True, kw_only=True)
class SourceSplit:
    """The images of one split in a fixed order, each read when asked for."""

    images: int
    """How many there are, broken ones included."""
    image: Callable[[int], SourceImage]
    """Gives the image of a number; raises DataError if there is none."""
    labels: Int64[np.ndarray, " image"] | None = None
    class_names: tuple[str, ...] | None = None
    copies: int = 1
    """How many records are made of an image; they go to the same split."""
    files: bool = True
    """Whether the images are files, of which parts can be cut before anything is resampled."""

    def __len__(self) -> int:
        """Count the images, broken ones included."""
        return self.images


def open_source(
    location: str,
    *,
    image_size: int = 32,
    placements: int = 4,
    seed: int = 0,
    palette: Palette | None = None,
) -> dict[str, SourceSplit]:
    """Return the splits found at `location`: "train", and "validation" and "test" if it has them.

    Token arrays may also be of a validation or test split alone.

    Args:
        location: A folder, a parquet file, a hub name such as "uoft-cs/cifar10", or "digits".
        image_size: Side of the canvas on which "digits" are placed, and of images of tokens.
        placements: Records made of each of the "digits".
        seed: Chooses the test digits and the placements; other sources do not use it.
        palette: What token arrays stand for; other sources have no use for it.

    Raises:
        ConfigError: A palette for images, or none for tokens.
        DataError: There is nothing there, no images, no training split, labels for some records
            only, splits with different classes, or a hub that cannot be reached.
    """
    # Each kind builds on what stands above, so this function is all that knows of them.
    from igpt.data.digits import placed_digits
    from igpt.data.folders import open_folder
    from igpt.data.tables import open_tables
    from igpt.data.token_arrays import open_tokens, token_files

    path = Path(location)
    tokens = token_files(path)
    if bool(tokens) != (palette is not None):
        raise ConfigError(
            f"{location} holds tokens, which mean nothing without their palette; give it with "
            "--palette kmeans_centers.npy"
            if tokens
            else f"{location} holds no token arrays (NAME_trX.npy, NAME_vaX.npy or NAME_teX.npy), "
            "and images need no palette here; leave out --palette"
        )
    if palette is not None:
        return open_tokens(tokens, palette, image_size=image_size)
    if location == "digits":
        splits = placed_digits(image_size, placements=placements, seed=seed)
    elif location.endswith(".parquet"):
        splits = open_tables(location)
    elif path.is_dir():
        has_parquet = next(path.rglob("*.parquet"), None) is not None
        splits = open_tables(location) if has_parquet else open_folder(path)
    elif path.exists():
        raise DataError(f"{location} is not a folder of images or a .parquet file")
    elif re.fullmatch(r"\w[\w.-]*/[\w.-]+", location):
        splits = open_tables(location)
    else:
        raise DataError(
            f"there is no folder {location}; give a folder of images, a .parquet file, a hub name "
            "such as uoft-cs/cifar10, or digits"
        )
    if "train" not in splits:
        there = f"only {', '.join(splits)}" if splits else "none of train, validation and test"
        raise DataError(f"{location} has no training split ({there}); name a folder in it train/")
    _require_same_classes(location, splits)
    return splits


def split_names(names: Iterable[str]) -> dict[str, str]:
    """Return which of `names`, of folders or files, is the train, validation and test split.

    Raises:
        DataError: Two of them mean the same split.
    """
    chosen: dict[str, str] = {}
    for split, aliases in _SPLIT_NAMES.items():
        matching = [name for name in names if name.lower() in aliases]
        if len(matching) > 1:
            raise DataError(f"{' and '.join(matching)} both mean {split}; leave one of them")
        if matching:
            chosen[split] = matching[0]
    return chosen


def _require_same_classes(location: str, splits: dict[str, SourceSplit]) -> None:
    train = splits["train"]
    for name, split in splits.items():
        if train.class_names is None or split.class_names in (None, train.class_names):
            continue
        odd = sorted(set(train.class_names) ^ set(split.class_names or ()))
        if not odd:
            raise DataError(f"{location}: train and {name} number the same classes differently")
        has, lacks = ("train", name) if odd[0] in train.class_names else (name, "train")
        raise DataError(
            f"{location}: {has} has the label {odd[0]!r} and {lacks} has not; every split needs "
            "the same classes"
        )
