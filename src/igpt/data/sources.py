"""Sources: labelled images from wherever they are, one `SourceSplit` for each split.

    open_source("photos/")                       folders of image files, class folders as labels
    open_source("shared/cifar10")                a folder with parquet files, as the hub lays it out
    open_source("more-images.parquet")           one parquet file, or a pattern of several
    open_source("uoft-cs/cifar10")               a data set on the Hugging Face hub
    open_source("digits", image_size=16)         scikit-learn's handwritten digits, no download
    open_source("tokens/imagenet", palette=...)  the authors' token arrays, imagenet_trX.npy ...

Parquet files and the hub are read by the `datasets` library, folders of image files by ourselves:
its `imagefolder` gives records without a label when the classes of two splits differ, takes words
in file names for split names, and copies a table of the folder into its cache. Images stay
undecoded until `SourceSplit.read`, so that one broken file costs one record and not the whole set.

Token arrays become the pixels that their palette shows, which the same palette turns back into the
same tokens; that it does is checked, so nothing is lost.

One image may become several records: a digit at several places, or `random_crops` of a file.

Only splits that mean training, validation or test are opened (`val`, `valid` and `dev` are
validation); others, such as STL-10's `unlabeled`, are left alone.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from igpt.data.augment import CROP, LONGEST, crop_boxes
from igpt.errors import ConfigError, DataError
from igpt.pixels.images import DEFAULT_FILTER, ResamplingFilter, read_crops, read_image
from igpt.pixels.palette import Palette
from igpt.randomness import Stream, stream, stream_seed

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
IMAGE_SUFFIXES = frozenset(
    [".bmp", ".gif", ".jpeg", ".jpg", ".png", ".pgm", ".ppm", ".tif", ".tiff", ".webp"]
)
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")


@dataclass(frozen=True, kw_only=True)
class SourceSplit:
    """The images of one split in a fixed order, each read when asked for."""

    images: int
    read: Callable[[int], UInt8[np.ndarray, "copy height width 3"]]
    """Gives the records made of an image; raises DataError if its pixels are not whole."""
    name_of: Callable[[int], str]
    """What to call an image in a message: its file name, or its number."""
    labels: Int64[np.ndarray, " image"] | None = None
    class_names: tuple[str, ...] | None = None
    copies: int = 1
    """How many records are made of an image; they go to the same split."""
    file_of: Callable[[int], tuple[Path | bytes, str]] | None = None
    """Gives an image's file, or what is in it, and its name; raises DataError if it has none."""

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
        image_size: Side of the canvas on which "digits" are placed.
        placements: Records made of each of the "digits".
        seed: Chooses the test digits and the placements; other sources do not use it.
        palette: What token arrays stand for; other sources have no use for it.

    Raises:
        ConfigError: A palette for images, or none for tokens.
        DataError: There is nothing there, no images, no training split, labels for some records
            only, splits with different classes, or a hub that cannot be reached.
    """
    path = Path(location)
    tokens = _token_files(path)
    if bool(tokens) != (palette is not None):
        raise ConfigError(
            f"{location} holds tokens, which mean nothing without their palette; give it with "
            "--palette kmeans_centers.npy"
            if tokens
            else f"{location} holds no token arrays (NAME_trX.npy, NAME_vaX.npy or NAME_teX.npy), "
            "and images need no palette here; leave out --palette"
        )
    if palette is not None:
        return _open_tokens(tokens, palette, image_size=image_size)
    if location == "digits":
        splits = placed_digits(image_size, placements=placements, seed=seed)
    elif location.endswith(".parquet"):
        splits = _open_dataset("parquet", location, data_files={"train": location})
    elif path.is_dir():
        has_parquet = next(path.rglob("*.parquet"), None) is not None
        splits = _open_dataset(location, location) if has_parquet else _open_folder(path)
    elif path.exists():
        raise DataError(f"{location} is not a folder of images or a .parquet file")
    elif re.fullmatch(r"\w[\w.-]*/[\w.-]+", location):
        splits = _open_dataset(location, location)
    else:
        raise DataError(
            f"there is no folder {location}; give a folder of images, a .parquet file, a hub name "
            "such as uoft-cs/cifar10, or digits"
        )
    if "train" not in splits:
        found = f"only {', '.join(splits)}" if splits else "none of train, validation and test"
        raise DataError(f"{location} has no training split ({found}); name a folder in it train/")
    _require_same_classes(location, splits)
    return splits


def placed_digits(image_size: int, *, placements: int, seed: int) -> dict[str, SourceSplit]:
    """Return scikit-learn's 1,797 digits, 8x8, white on black, at random places of a black canvas.

    A stratified fifth of the digits is the test split, and every placement of a digit is in the
    split of that digit, so that no shape is in both.

    Raises:
        ConfigError: The canvas is smaller than a digit, or there are no placements.
    """
    if image_size < 8 or placements < 1:
        raise ConfigError(
            f"digits need an image size of at least 8 and at least 1 placement, got "
            f"image_size={image_size} and placements={placements}"
        )
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, target = load_digits(return_X_y=True)  # values lie in [0, 16]
    pixels = np.rint(np.asarray(values) * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    parts = train_test_split(
        np.arange(len(pixels)),
        test_size=0.2,
        stratify=target,
        random_state=stream_seed(Stream.DIGITS, seed, bits=32),
    )
    generator = stream(Stream.PLACEMENTS, seed)
    offsets = generator.integers(0, image_size - 8 + 1, size=(len(pixels), placements, 2))

    def split(digit_numbers: Int64[np.ndarray, " digit"]) -> SourceSplit:
        def read(index: int) -> UInt8[np.ndarray, "copy height width 3"]:
            digit = digit_numbers[index]
            canvases = np.zeros((placements, image_size, image_size, 3), dtype=np.uint8)
            for canvas, (top, left) in zip(canvases, offsets[digit], strict=True):
                canvas[top : top + 8, left : left + 8] = pixels[digit, :, :, None]
            return canvases

        return SourceSplit(
            images=len(digit_numbers),
            read=read,
            name_of=lambda index: f"digit {digit_numbers[index]}",
            labels=np.asarray(target)[digit_numbers].astype(np.int64),
            class_names=tuple("0123456789"),
            copies=placements,
        )

    return {name: split(np.sort(part)) for name, part in zip(("train", "test"), parts, strict=True)}


def random_crops(
    split: SourceSplit,
    crops: int,
    *,
    image_size: int,
    seed: int,
    filter: ResamplingFilter = DEFAULT_FILTER,
    fast_jpeg: bool = False,
    enlarge: bool = False,
) -> SourceSplit:
    """Return the split with records that are `random-resize-crop`s of its whole images.

    Each is resampled once, from the decoded file. Where crop k of an image lies depends on the
    seed, the number of the image, k and the size of the image, and on nothing else.

    Args:
        split: Images that have files.
        crops: Records made of each image.
        image_size: Side of a record, in pixels.
        seed: Chooses the crops.
        filter: How pixels are averaged.
        fast_jpeg: As in `read_crops`.
        enlarge: Accept images of which the smallest crop is smaller than a record; without it,
            reading one is a ConfigError.
    """
    file_of = split.file_of
    assert file_of is not None, "crops are cut from files"

    def read(image: int) -> UInt8[np.ndarray, "copy size size 3"]:
        def boxes_in(height: int, width: int) -> Float64[np.ndarray, "crop 4"]:
            if min(height, width) * CROP < image_size * LONGEST and not enlarge:
                raise ConfigError(
                    f"{split.name_of(image)} is {width}x{height}, and {CROP}/{LONGEST} of its "
                    f"shorter side, the smallest crop, is less than --image-size {image_size}; "
                    "choose a smaller size, or --enlarge"
                )
            return crop_boxes(stream(Stream.CROPS, seed, image), height, width, crops)

        file, name = file_of(image)
        return read_crops(file, boxes_in, image_size, filter, name=name, fast_jpeg=fast_jpeg)

    return dataclasses.replace(split, read=read, copies=crops)


def _token_files(path: Path) -> dict[str, Path]:
    """Return the token arrays of each split: one `.npy` file, or NAME_trX.npy and the like."""
    parts = {"train": "tr", "validation": "va", "test": "te"}
    if path.suffix == ".npy" and path.is_file():
        found = [split for split, part in parts.items() if path.stem.endswith(f"_{part}X")]
        return {found[0] if found else "test": path}
    path = path.absolute()  # "." has no name
    files = {split: path.with_name(f"{path.name}_{part}X.npy") for split, part in parts.items()}
    return {split: file for split, file in files.items() if file.is_file()}


def _open_tokens(
    files: dict[str, Path], palette: Palette, *, image_size: int
) -> dict[str, SourceSplit]:
    again = palette.encode(palette.rgb)
    if not np.array_equal(again, np.arange(palette.size)):
        token = int(np.flatnonzero(again != np.arange(palette.size))[0])
        raise DataError(
            f"colors {token} and {int(again[token])} of the palette are the same bytes, so its "
            "tokens cannot be kept as pixels; is it the palette of these tokens?"
        )
    splits = {
        name: _open_token_array(file, palette, image_size=image_size)
        for name, file in files.items()
    }
    most = max((split.class_names or () for split in splits.values()), key=len)
    return {
        name: dataclasses.replace(split, class_names=split.class_names and most)
        for name, split in splits.items()
    }


def _open_token_array(path: Path, palette: Palette, *, image_size: int) -> SourceSplit:
    """Read tokens (record, position) and, from the file with Y for X, labels or one-hot classes.

    Source: openai/image-gpt, src/download.py and src/run.py.
    """
    tokens = _load_array(path)
    size = math.isqrt(tokens[0].size) if tokens.ndim > 1 and len(tokens) else 0
    if tokens.dtype.kind not in "iu" or size == 0 or size**2 != tokens[0].size:
        raise DataError(
            f"{path} should hold whole numbers, a row of tokens for each square image, but holds "
            f"{tokens.dtype} {tokens.shape}"
        )
    if size != image_size:
        raise DataError(
            f"{path} holds images of {size}x{size} pixels, and tokens cannot be resampled; "
            f"prepare them with --image-size {size}"
        )

    def read(index: int) -> UInt8[np.ndarray, "copy height width 3"]:
        try:
            return palette.decode(np.asarray(tokens[index])).reshape(1, size, size, 3)
        except DataError as error:  # one token too large and the palette is another for all
            raise ConfigError(f"{path}, record {index}: {error}") from error

    labels, class_names = None, None
    if path.stem.endswith("X") and (beside := path.with_name(f"{path.stem[:-1]}Y.npy")).is_file():
        labels, count = _token_labels(beside)
        if len(labels) != len(tokens):
            raise DataError(f"{beside} has {len(labels)} labels for the {len(tokens)} images")
        class_names = tuple(str(number) for number in range(count))
    return SourceSplit(
        images=len(tokens),
        read=read,
        name_of=lambda index: f"{path}, record {index}",
        labels=labels,
        class_names=class_names,
    )


def _token_labels(path: Path) -> tuple[Int64[np.ndarray, " record"], int]:
    """Return class numbers and how many classes there are, from numbers or one-hot rows."""
    values = np.array(_load_array(path))
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 1 and values.dtype.kind in "iu" and values.size and values.min() >= 0:
        return values.astype(np.int64), int(values.max()) + 1
    if values.ndim == 2 and values.dtype.kind in "iufb" and values.size:
        chosen = values.argmax(axis=1)
        if np.array_equal(values, np.arange(values.shape[1]) == chosen[:, None]):
            return chosen.astype(np.int64), values.shape[1]
    raise DataError(
        f"{path} should hold class numbers from 0, or one row a record with a single 1 in it, but "
        f"holds {values.dtype} {values.shape}"
    )


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no whole .npy file of numbers ({error})") from error


def _open_folder(root: Path) -> dict[str, SourceSplit]:
    """Read `root/train/...`, `root/test/...`, or all of `root` as the training split."""
    folders = {name: root / child for name, child in _split_names(_subfolders(root)).items()}
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
        read=lambda index: read_image(files[index])[None],
        name_of=lambda index: str(files[index]),
        file_of=lambda index: (files[index], str(files[index])),
        labels=labels.astype(np.int64) if classes else None,
        class_names=tuple(classes) if classes else None,
    )


def _subfolders(folder: Path) -> list[str]:
    return sorted(
        child.name for child in folder.iterdir() if child.is_dir() and child.name[0] != "."
    )


def _image_files(paths: Iterator[Path]) -> list[Path]:
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." and path.is_file()
    )


def _open_dataset(location: str, shown: str, **arguments: Any) -> dict[str, SourceSplit]:
    """Read what the `datasets` library finds at `location`, which messages call `shown`."""
    import datasets

    with _quiet():
        try:
            opened = datasets.load_dataset(location, **arguments)
        except ConnectionError as error:
            raise DataError(
                f"{shown} is not a folder here, and the Hugging Face hub could not be reached to "
                "look for a data set of that name; check the name and the network"
            ) from error
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(f"could not read {shown} as a data set: {reason}") from error
    names = _split_names(list(opened))
    return {name: _open_table(shown, key, opened[key]) for name, key in names.items()}


def _open_table(location: str, split: str, table: Any) -> SourceSplit:
    import datasets

    features = table.features
    image = _column(_IMAGE_COLUMNS, features, datasets.Image)
    if image is None:
        raise DataError(
            f"{location} has no column of images; its columns are {', '.join(features)}"
        )
    label = _column(_LABEL_COLUMNS, features, datasets.ClassLabel)
    labels, class_names = None, None
    if label is not None:
        names = getattr(features[label], "names", None)
        labels, class_names = _read_labels(f"{location} ({split})", table.data.column(label), names)
    undecoded = table.select_columns([image]).cast_column(image, datasets.Image(decode=False))

    def name_of(index: int) -> str:
        return undecoded[index][image]["path"] or f"{location} {split} record {index}"

    def file_of(index: int) -> tuple[Path | bytes, str]:
        value = undecoded[index][image]
        if value is None:
            raise DataError(f"{location} {split} record {index} has no image")
        name = value["path"] or f"{location} {split} record {index}"
        return value["bytes"] or Path(value["path"]), name

    def read(index: int) -> UInt8[np.ndarray, "copy height width 3"]:
        file, name = file_of(index)
        return read_image(file, name=name)[None]

    return SourceSplit(
        images=len(table),
        read=read,
        name_of=name_of,
        labels=labels,
        class_names=class_names,
        file_of=file_of,
    )


def _column(usual_names: tuple[str, ...], features: Any, kind: type) -> str | None:
    """Return the column of this kind, the usual names first, or else one with a usual name."""
    of_kind = [name for name in features if isinstance(features[name], kind)]
    for names in (of_kind, list(features)):
        for name in usual_names:
            if name in names:
                return name
    return of_kind[0] if of_kind else None


def _read_labels(
    shown: str, column: Any, names: list[str] | None
) -> tuple[Int64[np.ndarray, " record"] | None, tuple[str, ...] | None]:
    """Return class numbers and names; the hub marks labels that are withheld as null or -1."""
    from pyarrow import types

    if not types.is_integer(column.type) and not types.is_string(column.type):
        raise DataError(f"{shown} has labels of type {column.type}; they must be numbers or words")
    missing = -1 if types.is_integer(column.type) else ""
    values = np.array([missing if value is None else value for value in column.to_pylist()])
    withheld = values == missing
    if withheld.all():
        return None, None
    if withheld.any():
        raise DataError(
            f"{shown} has labels for {np.count_nonzero(~withheld):,} of its {len(values):,} "
            "records; label all of them, or none"
        )
    if names is None:  # plain numbers or words, not declared as classes
        classes, values = np.unique(values, return_inverse=True)
        names = [str(name) for name in classes]
    return values.astype(np.int64), tuple(names)


def _split_names(found: list[str]) -> dict[str, str]:
    """Return which of the names in `found` is the train, validation and test split."""
    names: dict[str, str] = {}
    for split, aliases in SPLIT_NAMES.items():
        matching = [name for name in found if name.lower() in aliases]
        if len(matching) > 1:
            raise DataError(f"{' and '.join(matching)} both mean {split}; leave one of them")
        if matching:
            names[split] = matching[0]
    return names


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


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the bars of `datasets`, its notes about caching and those about retries."""
    import datasets
    import huggingface_hub

    libraries = (datasets.logging, huggingface_hub.logging)
    levels = [library.get_verbosity() for library in libraries]
    bars_were_off = datasets.are_progress_bars_disabled()
    for library in libraries:
        library.set_verbosity_error()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
        if not bars_were_off:
            datasets.enable_progress_bars()
