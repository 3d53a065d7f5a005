"""Sources: labelled images from wherever they are, one `SourceSplit` for each split.

    open_source("photos/")                       folders of image files, class folders as labels
    open_source("photos.zip")                    the same in a zip or tar file, or WebDataset shards
    open_source("shared/cifar10")                a folder with parquet files, as the hub lays it out
    open_source("more-images.parquet")           one parquet file, or a pattern of several
    open_source("uoft-cs/cifar10")               a data set on the Hugging Face hub
    open_source("s3://bucket/photos")            any of the files above, behind a URL
    open_source("digits", image_size=16)         scikit-learn's handwritten digits, no download
    open_source("tokens/imagenet", palette=...)  the authors' token arrays, imagenet_trX.npy ...

Here stands what a source is, and which kind is at a location; each kind has a module of its own.
Images stay undecoded until `SourceImage.read`, so that one broken file costs one record and not the
whole set. What is made of an image, and of which images, is `igpt.data.prepare`'s business.

Splits are known by their names, which mean training, validation or test (`val`, `valid` and `dev`
are validation). Others, such as STL-10's `unlabeled`, are counted as ignored, unless
`SourceConfig.split` says what they are for. What a source calls validation is the test split if it
is all that there are labels to test with; ImageNet's is the known case, and the paper's figures are
of it (Chen et al. 2020, section 3.1).
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from igpt.data.config import NONE, SPLITS, SourceConfig
from igpt.errors import ConfigError, DataError, nearest_name
from igpt.pixels.images import read_image
from igpt.pixels.palette import Palette

_MEANING = {
    "train": "train", "training": "train",
    "validation": "validation", "val": "validation", "valid": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
_VALIDATION_IS_TEST = frozenset({
    "ilsvrc/imagenet-1k", "timm/imagenet-1k-wds", "evanarlian/imagenet_1k_resized_256",
    "benjamin-paine/imagenet-1k", "benjamin-paine/imagenet-1k-256x256",
    "benjamin-paine/imagenet-1k-128x128", "benjamin-paine/imagenet-1k-64x64",
    "zh-plus/tiny-imagenet", "maysee/tiny-imagenet",
})  # fmt: skip
"""Names on the hub of ImageNet and Tiny ImageNet, as they lie there: with a labelled validation
split, which everybody's figures are of, and a test split without labels or none."""
_SPLIT_NAME = re.compile(rf"((?:.*[^a-z])?)({'|'.join(_MEANING)})((?:[^a-z].*)?)", re.DOTALL)


@dataclass(frozen=True)
class SourceImage:
    """One image of a source, not yet decoded."""

    name: str
    """What messages and stores call it: its path in the source, or its number."""
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
    sendable: Callable[[Sequence[int]], Callable[[int], SourceImage]] | None = None
    """Gives what gives the images of some numbers, and can be sent to another process; None if
    they are in the memory of this one."""
    blocks: Int64[np.ndarray, " block"] | None = None
    """The number of the first image of each block of them that is read as one, if they are."""
    labels: Int64[np.ndarray, " image"] | None = None
    class_names: tuple[str, ...] | None = None
    names: Sequence[str] | None = None
    """What the images are called, where that is known before they are read."""
    copies: int = 1
    """How many records are made of an image; they go to the same split."""
    files: bool = True
    """Whether the images are files, of which parts can be cut before anything is resampled."""

    def __len__(self) -> int:
        """Count the images, broken ones included."""
        return self.images


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is at a location."""

    splits: dict[str, SourceSplit]
    """Those of "train", "validation" and "test" that there are."""
    called: dict[str, str] = field(default_factory=dict)
    """What the source calls them, where they have names."""
    ignored: dict[str, int] = field(default_factory=dict)
    """How many files, folders and records are no part of them, by ending or kind."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Images that are known to be of no use: of each the reason, and what is to be said of it."""
    notes: tuple[str, ...] = ()
    """What was decided that somebody might have expected otherwise."""


def open_source(
    location: str,
    config: SourceConfig | None = None,
    *,
    image_size: int = 32,
    palette: Palette | None = None,
    shared: bool = False,
) -> Source:
    """Return what is at `location`: a split "train", and "validation" and "test" if it has them.

    Token arrays may also be of a validation or test split alone.

    Args:
        location: A folder, a zip, tar or parquet file, a URL of one but a zip file, a hub name
            such as "uoft-cs/cifar10", or "digits"; a folder that is called so is "./digits".
        config: How it is read.
        image_size: Side of the canvas on which "digits" are placed, and of images of tokens.
        palette: What token arrays stand for; other sources have no use for it.
        shared: Whether several processes are to read the images.

    Raises:
        ConfigError: A palette for images, or none for tokens, or a setting without use here.
        DataError: There is nothing there, no images, no training split, a folder that cannot be
            read, labels for some records only, a class that train lacks, or a hub that cannot be
            reached.
    """
    # Each kind builds on what stands above, so this function is all that knows of them.
    from igpt.data.digits import placed_digits
    from igpt.data.folders import open_archive, open_folder, open_url
    from igpt.data.remote import is_url
    from igpt.data.tables import open_tables
    from igpt.data.token_arrays import open_tokens, token_files

    config = config or SourceConfig()
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
        splits = open_tokens(tokens, palette, image_size=image_size)
        source = _with_chosen_splits(location, splits, config)
    elif location == "digits":
        splits = placed_digits(image_size, placements=config.placements, seed=config.seed)
        source = _with_chosen_splits(location, splits, config)
    elif is_url(location):
        source = open_url(location, config)
    elif path.is_dir():
        source = open_folder(path, config, shared=shared)
    elif path.is_file() and path.suffix.lower() in (".zip", ".tar"):
        source = open_archive(path, config)
    elif location.endswith(".parquet"):
        source = open_tables(location, config, shared=shared)
    elif path.exists():
        raise DataError(
            f"{location} is not a folder of images or a .parquet, .zip or .tar file; unpack it "
            "into a folder, or put images into one"
        )
    elif re.fullmatch(r"\w[\w.-]*/[\w.-]+", location):
        source = open_tables(location, config, shared=shared)
    else:
        raise DataError(
            f"there is no folder {location}; give a folder of images, a .parquet, .zip or .tar "
            "file, a hub name such as uoft-cs/cifar10, or digits"
        )
    if "train" not in source.splits and not tokens:
        there = f"only {', '.join(source.splits)}" if source.splits else "none of train and test"
        raise DataError(
            f"{location} has no training split ({there}); name a folder in it train/, or say which "
            "split to train on, such as --split train=test"
        )
    source = _with_labelled_test(location, source, config)
    splits = source.splits
    if config.no_labels:
        splits = {
            name: dataclasses.replace(split, labels=None, class_names=None)
            for name, split in splits.items()
        }
    return dataclasses.replace(source, splits=_with_common_classes(location, splits))


def split_meaning(name: str) -> tuple[str, str] | None:
    """Return which split a name means, and what else there is to it.

    "val" gives validation and "*", and "seg_train" gives train and "seg_*".
    """
    match = _SPLIT_NAME.fullmatch(name.lower())
    return (_MEANING[match[2]], f"{match[1]}*{match[3]}") if match else None


def choose_splits(names: Iterable[str], config: SourceConfig) -> dict[str, str]:
    """Return which of `names`, of folders or files, is the train, validation and test split.

    Names such as "seg_train" and "seg_test" are those of splits if all such names have the rest in
    common. `config.splits` goes before everything; where it says "none", none is.

    Raises:
        DataError: Two of them mean the same split, or one of `config.splits` is not there.
    """
    names = list(names)
    series: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        if meaning := split_meaning(name):
            series.setdefault(meaning[1], []).append((meaning[0], name))
    usual = series.get("*") or (next(iter(series.values())) if len(series) == 1 else [])
    chosen: dict[str, str] = {}
    for split, wanted in config.splits.items():
        if wanted == NONE:
            continue
        same = [name for meaning, name in usual if meaning == _MEANING.get(wanted)]
        if wanted not in names and not same:
            raise DataError(f"there is no split {wanted!r}{nearest_name(wanted, names)}")
        chosen[split] = wanted if wanted in names else same[0]
    taken = set(chosen.values())
    for split in SPLITS:
        matching = [name for meaning, name in usual if meaning == split and name not in taken]
        if split in config.splits:
            continue
        if len(matching) > 1:
            raise DataError(
                f"{' and '.join(matching)} both mean {split}; leave one of them, or choose with "
                f"--split {split}={matching[0]}"
            )
        if matching:
            chosen[split] = matching[0]
    return {split: chosen[split] for split in SPLITS if split in chosen}


def _with_chosen_splits(
    location: str, splits: Mapping[str, SourceSplit], config: SourceConfig
) -> Source:
    """Return the source of splits that have their names, and neither columns nor configurations.

    Raises:
        ConfigError: One of those is asked for.
        DataError: `config.splits` cannot be.
    """
    for option in ("image_column", "label_column", "config"):
        if getattr(config, option) is not None:
            shown = option.replace("_", "-")
            raise ConfigError(f"--{shown} is for tables, and {location} is none; leave it out")
    names = choose_splits(splits, config)
    others = [split for name, split in splits.items() if name not in names.values()]
    return Source(
        splits={split: splits[name] for split, name in names.items()},
        called=names,
        ignored={"images outside of the splits": sum(map(len, others))} if others else {},
    )


def _with_labelled_test(location: str, source: Source, config: SourceConfig) -> Source:
    """Return the source with its validation split as the test split, if that is what it is.

    That is so under the names that are known for it, and wherever the source's own test split has
    no labels and its validation split has some. Notes say so, and what the source calls its splits.
    """
    splits, called, ignored = dict(source.splits), dict(source.called), dict(source.ignored)
    notes = [
        f"{name} of the source is the {split} split"
        for split, name in called.items()
        if name.lower() != split
    ]
    validation, test = splits.get("validation"), splits.get("test")
    if validation is not None and not config.split:
        name = called.pop("validation", "validation")
        withheld = test is not None and test.labels is None and validation.labels is not None
        if withheld or location.lower() in _VALIDATION_IS_TEST:
            splits["test"], called["test"] = splits.pop("validation"), name
            if test is not None:
                ignored["images of a test split without labels"] = len(test)
            notes = [
                f"{name} of the source is the test split, as results are reported of its labels; "
                f"--split validation={name} keeps it for validation"
            ]
        else:
            called["validation"] = name
            if test is None:
                notes.append(
                    f"there is no test split; if results are reported of {name}, as ImageNet's "
                    f"are, --split test={name} makes it that"
                )
    return dataclasses.replace(
        source, splits=splits, called=called, ignored=ignored, notes=(*notes, *source.notes)
    )


def _with_common_classes(
    location: str, splits: Mapping[str, SourceSplit]
) -> dict[str, SourceSplit]:
    """Number the classes of every split as the training split does, or else the first with labels.

    A split may lack a class, but may have none that is unknown.
    """
    known_by = next((name for name, split in splits.items() if split.class_names), "train")
    names = splits[known_by].class_names if known_by in splits else None
    if names is None:
        return dict(splits)
    number = {name: index for index, name in enumerate(names)}
    common = {}
    for key, split in splits.items():
        if split.labels is None or split.class_names in (None, names):
            common[key] = split
            continue
        own = split.class_names or ()
        used = np.unique(split.labels).tolist()
        if unknown := [own[index] for index in used if own[index] not in number]:
            raise DataError(
                f"{location}: {key} has the class {unknown[0]!r} and {known_by} has not; give "
                f"every class a folder or a label in {known_by}, or use --no-labels"
            )
        numbers = np.array([number.get(name, -1) for name in own], np.int64)
        common[key] = dataclasses.replace(split, labels=numbers[split.labels], class_names=names)
    return common
