"""Tables of images, in parquet files or on the Hugging Face hub, as `datasets` reads them.

An image is in the table itself. A row that names a file instead is a record without image, since a
table made by others could name any file of this machine; only the hub's folders of images, of which
`datasets` makes the table here, are files.
"""

import dataclasses
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from igpt.data.config import SourceConfig
from igpt.data.labels import LABEL_COLUMNS, read_labels
from igpt.data.parquet_rows import ParquetRows, RowValues
from igpt.data.remote import is_url
from igpt.data.sources import Source, SourceImage, SourceSplit, choose_splits
from igpt.errors import ConfigError, DataError, IgptError, nearest_name
from igpt.pixels.opening import SkippedImage

_IMAGE_COLUMNS = ("image", "img", "jpg", "png")


def open_tables(location: str, config: SourceConfig, *, shared: bool = False) -> Source:
    """Read a parquet file, a folder of them in the hub's layout, or a data set on the hub.

    Args:
        location: A path, a pattern, a URL or a name on the hub.
        config: How it is read.
        shared: Whether several processes are to read the images: parquet files are then read where
            they lie, and not copied first into the cache of `datasets`.

    Raises:
        ConfigError: It is to be shared, and is no set of parquet files.
        DataError: There is no such data set or column, it cannot be read or has no images, or the
            hub cannot be reached.
    """
    with _quiet(), _refusals(location):
        opened = _parquet_files(location, config) if shared else _in_cache(location, config)
        names = choose_splits(opened, config)
        notes: list[str] = []
        splits = {
            split: _open_table(location, name, opened[name], config, notes)
            for split, name in names.items()
        }
    ignored = {
        f"records of the split {name}": table.rows
        for name, table in opened.items()
        if name not in names.values()
    }
    return Source(splits=splits, called=names, ignored=ignored, notes=tuple(dict.fromkeys(notes)))


@dataclass(frozen=True, kw_only=True)
class _Table:
    """A split as a table, wherever its rows lie."""

    features: Any
    """Its columns, as `datasets` describes them."""
    rows: int
    kind: Callable[[str], Any]
    """Gives arrow's type of a column."""
    column: Callable[[str], list[Any]]
    """Gives the values of a column."""
    images: Callable[[str], Callable[[int], Any]]
    """Gives what gives the values of a column of images by their numbers."""
    files: bool = False
    """Whether images are files of this machine, whose paths are those of `datasets`."""
    blocks: Int64[np.ndarray, " block"] | None = None


def _arguments(location: str, config: SourceConfig) -> dict[str, Any]:
    """Return what `datasets` is to be asked for."""
    if location.endswith(".parquet"):
        return {"path": "parquet", "data_files": {"train": location}}
    if Path(location).is_dir() and not Path(location, "README.md").is_file():
        # Seen as parquet whatever else lies there; a README may say which files are which.
        return {"path": "parquet", "name": config.config, "data_dir": location}
    return {"path": location, "name": config.config}


def _in_cache(location: str, config: SourceConfig) -> dict[str, _Table]:
    """Return the splits as `datasets` reads them, which keeps them in its cache."""
    import datasets

    opened = datasets.load_dataset(**_arguments(location, config))
    return {str(name): _of_datasets(table) for name, table in opened.items()}


def _of_datasets(table: Any) -> _Table:
    columns = table.data

    def images(name: str) -> Callable[[int], Any]:
        values = columns.column(name)
        return lambda index: values[index].as_py()

    return _Table(
        features=table.features,
        rows=len(table),
        kind=lambda name: columns.column(name).type,
        column=lambda name: columns.column(name).to_pylist(),
        images=images,
        files=table.info.builder_name == "imagefolder",
    )


def _parquet_files(location: str, config: SourceConfig) -> dict[str, _Table]:
    """Return the splits that `datasets` sees in some parquet files, which stay where they are."""
    import datasets

    if is_url(location):
        return _of_parquet(_found_behind(location), None)
    builder = datasets.load_dataset_builder(**_arguments(location, config))
    if builder.info.builder_name != "parquet":
        raise ConfigError(
            f"{location} is no set of parquet files, which several processes could share; give its "
            "files by a URL, such as hf://datasets/owner/name, or leave out --ray"
        )
    return _of_parquet(builder.config.data_files or {}, builder.info.features)


def _found_behind(url: str) -> dict[str, list[str]]:
    """Return the parquet files behind a URL by their splits, as `datasets` tells these apart."""
    from datasets import data_files

    named = url.endswith(".parquet")
    patterns = {"train": [url]} if named else data_files.get_data_patterns(url)
    found = {
        str(name): data_files.DataFilesList.from_patterns(of_split, "" if named else url)
        for name, of_split in patterns.items()
    }
    return {
        name: [str(file) for file in files if str(file).endswith(".parquet")]
        for name, files in found.items()
    }


def _of_parquet(
    splits: Mapping[Any, Sequence[Any]], known: Mapping[str, Any] | None
) -> dict[str, _Table]:
    """Return the splits of parquet files, with the columns that are known or that they tell of."""
    import datasets

    tables = {}
    for name, files in splits.items():
        rows = ParquetRows.open([str(file) for file in files])
        tables[str(name)] = _Table(
            features=known or datasets.Features.from_arrow_schema(rows.schema),
            rows=rows.rows,
            kind=lambda column, schema=rows.schema: schema.field(column).type,
            column=rows.column,
            images=rows.images,
            blocks=rows.starts,
        )
    return tables


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
    location: str, split: str, table: _Table, config: SourceConfig, notes: list[str]
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
    kind = table.kind(image)
    if not _may_hold_images(kind):
        raise DataError(
            f"the column {image} of {shown} holds no images but {kind}; choose another with "
            "--image-column"
        )
    label = None
    if not config.no_labels:
        label = _column(config.label_column, LABEL_COLUMNS, features, datasets.ClassLabel)
    labels, class_names = None, None
    if label is not None:
        names = getattr(features[label], "names", None)
        labels, class_names = read_labels(f"{shown}, column {label},", table.column(label), names)
        kinds = (name for name in features if isinstance(features[name], datasets.ClassLabel))
        if others := [name for name in kinds if name != label]:
            notes.append(
                f"the labels are those of the column {label}; --label-column chooses another of "
                f"{', '.join(others)}"
            )
    images = _Images(table.images(image), split, files=table.files)
    return SourceSplit(
        images=table.rows,
        image=images,
        sendable=None if table.blocks is None else images.part,
        blocks=table.blocks,
        labels=labels,
        class_names=class_names,
    )


@dataclass(frozen=True)
class _Images:
    """Gives the images of a split by the numbers of their rows."""

    value: Callable[[int], Any]
    split: str
    _: KW_ONLY
    files: bool

    def __call__(self, index: int) -> SourceImage:
        split, files = self.split, self.files
        try:
            value = self.value(index)
        except IgptError:  # which are such too: a network that fails is no broken record
            raise
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

    def part(self, numbers: Sequence[int]) -> "_Images":
        """Return what gives the images of some rows of parquet files alone."""
        assert isinstance(self.value, RowValues)
        return dataclasses.replace(self, value=self.value.part(numbers))


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
