"""Tables of images, in parquet files or on the Hugging Face hub, as `datasets` reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from igpt.data.sources import SourceImage, SourceSplit, split_names
from igpt.errors import DataError

_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label", "class")


def open_tables(location: str) -> dict[str, SourceSplit]:
    """Read a parquet file, a folder of them in the hub's layout, or a data set on the hub.

    Raises:
        DataError: There is no such data set, it cannot be read or has no images, or the hub cannot
            be reached.
    """
    import datasets

    files = {"train": location} if location.endswith(".parquet") else None
    with _quiet():
        try:
            opened = datasets.load_dataset("parquet" if files else location, data_files=files)
        except ConnectionError as error:
            raise DataError(
                f"{location} is not a folder here, and the Hugging Face hub could not be reached "
                "to look for a data set of that name; check the name and the network"
            ) from error
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(f"could not read {location} as a data set: {reason}") from error
    names = split_names([str(name) for name in opened])
    return {name: _open_table(location, key, opened[key]) for name, key in names.items()}


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

    def image_at(index: int) -> SourceImage:
        name, value = f"{location} {split} record {index}", undecoded[index][image]
        if value is None:
            raise DataError(f"{name} has no image")
        return SourceImage(value["path"] or name, value["bytes"] or Path(value["path"]))

    return SourceSplit(images=len(table), image=image_at, labels=labels, class_names=class_names)


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
