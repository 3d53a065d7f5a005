"""Tables of images, in parquet files or on the Hugging Face hub, as `datasets` reads them.

An image is in the table itself. A row that names a file instead is a record without image, since a
table made by others could name any file of this machine; only the hub's folders of images, of which
`datasets` makes the table here, are files.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from igpt.data.config import SourceConfig
from igpt.data.labels import LABEL_COLUMNS, read_labels
from igpt.data.sources import Source, SourceImage, SourceSplit, choose_splits
from igpt.errors import DataError, IgptError, nearest_name
from igpt.pixels.opening import SkippedImage

_IMAGE_COLUMNS = ("image", "img", "jpg", "png")


def open_tables(location: str, config: SourceConfig) -> Source:
    """Read a parquet file, a folder of them in the hub's layout, or a data set on the hub.

    Raises:
        DataError: There is no such data set or column, it cannot be read or has no images, or the
            hub cannot be reached.
    """
    import datasets

    with _quiet(), _refusals(location):
        if location.endswith(".parquet"):
            opened = datasets.load_dataset("parquet", data_files={"train": location})
        elif Path(location).is_dir() and not Path(location, "README.md").is_file():
            # Seen as parquet whatever else lies there; a README may say which files are which.
            opened = datasets.load_dataset("parquet", config.config, data_dir=location)
        else:
            opened = datasets.load_dataset(location, config.config)
        names = choose_splits(map(str, opened), config)
        notes: list[str] = []
        splits = {
            split: _open_table(location, name, opened[name], config, notes)
            for split, name in names.items()
        }
    ignored = {
        f"records of the split {name}": len(opened[name])
        for name in map(str, opened)
        if name not in names.values()
    }
    return Source(splits=splits, called=names, ignored=ignored, notes=tuple(dict.fromkeys(notes)))


def table_rows(name: str, content: Path | bytes) -> list[dict[str, Any]]:
    """Return the rows of a parquet file that holds no images.

    Raises:
        DataError: It is broken.
    """
    import pyarrow.parquet

    with _refusals(name):
        file = io.BytesIO(content) if isinstance(content, bytes) else content
        return pyarrow.parquet.read_table(file).to_pylist()


def _open_table(
    location: str, split: str, table: Any, config: SourceConfig, notes: list[str]
) -> SourceSplit:
    import datasets

    shown = f"{location} ({split})"
    features = table.features
    image = _column(config.image_column, _IMAGE_COLUMNS, features, datasets.Image)
    if image is None:
        raise DataError(
            f"{shown} has no column of images; its columns are {', '.join(features)}; if one of "
            "them is, choose it with --image-column"
        )
    images = table.data.column(image)
    if not _may_hold_images(images.type):
        raise DataError(
            f"the column {image} of {shown} holds no images but {images.type}; choose another with "
            "--image-column"
        )
    label = None
    if not config.no_labels:
        label = _column(config.label_column, LABEL_COLUMNS, features, datasets.ClassLabel)
    labels, class_names = None, None
    if label is not None:
        names = getattr(features[label], "names", None)
        column = table.data.column(label).to_pylist()
        labels, class_names = read_labels(f"{shown}, column {label},", column, names)
        kinds = (name for name in features if isinstance(features[name], datasets.ClassLabel))
        if others := [name for name in kinds if name != label]:
            notes.append(
                f"the labels are those of the column {label}; --label-column chooses another of "
                f"{', '.join(others)}"
            )
    files = table.info.builder_name == "imagefolder"  # its paths are those of `datasets`

    def image_at(index: int) -> SourceImage:
        try:
            value = images[index].as_py()
        except ValueError as error:  # arrow's errors are such, and those of broken words
            raise SkippedImage(f"{split} record {index} is broken ({error})") from error
        value = value if isinstance(value, dict) else {"bytes": value}  # None for no image at all
        content, path = value["bytes"], value.get("path")
        name = f"{path}" if path and not files else f"{split} record {index}"
        if isinstance(content, bytes):
            return SourceImage(name, content)
        if files and isinstance(path, str) and Path(path).is_file():
            return SourceImage(Path(path).name, Path(path))
        elsewhere = f", only the path {path}, which is not looked at" if path else ""
        message = f"{split} record {index} has no image (in the table{elsewhere})"
        raise SkippedImage(message, "unreadable")

    return SourceSplit(images=len(table), image=image_at, labels=labels, class_names=class_names)


def _may_hold_images(kind: Any) -> bool:
    """Return whether an arrow type is that of files' bytes, or of structures with such a field."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return "binary" in str(kind)


def _column(
    wanted: str | None, usual_names: tuple[str, ...], features: Any, kind: type
) -> str | None:
    """Return the wanted column, or that of this kind, the usual names first, or by name alone.

    Raises:
        DataError: The wanted one is not there.
    """
    if wanted is not None:
        if wanted not in features:
            raise DataError(f"there is no column {wanted!r}{nearest_name(wanted, features)}")
        return wanted
    of_kind = [name for name in features if isinstance(features[name], kind)]
    for names in (of_kind, list(features)):
        for name in usual_names:
            if name in names:
                return name
    return of_kind[0] if of_kind else None


@contextmanager
def _refusals(location: str) -> Iterator[None]:
    """Turn whatever is wrong with a table into one line for the user."""
    try:
        yield
    except IgptError:
        raise
    except ConnectionError as error:
        raise DataError(
            f"{location} is not a folder here, and the Hugging Face hub could not be reached "
            "to look for a data set of that name; check the name and the network"
        ) from error
    except Exception as error:  # a reader of tables may fail in any way on a broken file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        advice = "; choose one with --config" if "onfig name is missing" in str(error) else ""
        listed = " ".join(str(error).split()) if advice else reason
        raise DataError(f"could not read {location} as a data set: {listed}{advice}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the bars of `datasets`, its notes, and what it logs of errors that it raises too."""
    import datasets
    import huggingface_hub

    libraries = (datasets.logging, huggingface_hub.logging)
    levels = [library.get_verbosity() for library in libraries]
    bars_were_off = datasets.are_progress_bars_disabled()
    for library in libraries:
        library.set_verbosity(logging.CRITICAL)  # its errors are raised as well
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        for library, level in zip(libraries, levels, strict=True):
            library.set_verbosity(level)
        if not bars_were_off:
            datasets.enable_progress_bars()
