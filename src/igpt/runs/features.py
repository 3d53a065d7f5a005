"""Features in files of others' kinds: NumPy's, parquet, or a data set of the `datasets` library.

    write_features("runs/a", data="data/photos", out="features.npz")
    write_features("runs/a", images=["photo.jpg", "folder"], out="features.parquet")

By the ending of `out`:

    .npz        of files: `features` (image, layer, width) and `files`; of a store, for each split,
                NAME_features, NAME_files and, where there are labels, NAME_labels; beside them
                `layers` and, with labels, `class_names`
    .parquet    a row an image: `file`, `split`, `label` (a number, null without), `class_name`, and
                for each layer `layer_N`, its width numbers
    none        a folder that `datasets.load_from_disk` reads: the same columns, by split, the
                labels as a `ClassLabel`; of files, one split named "files"
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from jaxtyping import Float32, Int64

from igpt.data.loose import SkippedFile, loose_files
from igpt.data.store import RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features, file_features
from igpt.files import require_writable, written_aside
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.outputs import require_free, require_outside
from igpt.paths import AnyPath, as_path, as_paths
from igpt.processes import choose_device

FILES = "files"
"""What the split of loose files is called."""


@dataclass(frozen=True, kw_only=True)
class WrittenFeatures:
    """What was written."""

    out: str
    layers: tuple[int, ...]
    images: dict[str, int]
    """In each split; of loose files, in one named "files"."""
    width: int
    skipped: tuple[SkippedFile, ...] = ()
    """Files that could not be read."""


@dataclass(frozen=True, kw_only=True)
class _Split:
    files: list[str]
    features: Float32[np.ndarray, "image layer width"]
    labels: Int64[np.ndarray, " image"] | None = None


def write_features(
    path: AnyPath,
    images: AnyPath | Sequence[AnyPath] = (),
    *,
    data: AnyPath | None = None,
    out: AnyPath,
    overwrite: bool = False,
    layers: Sequence[int] | None = None,
    device: str = "auto",
    ray: str | None = None,
) -> WrittenFeatures:
    """Write the features of image files, or of every split of a store.

    Args:
        path: Run or model folder, or what else `load` takes.
        images: Files, and folders, zip or tar files of them.
        data: A record store instead.
        out: An `.npz` or `.parquet` file, or a new folder.
        overwrite: Whether a file that is there may be replaced.
        layers: Layers wanted, from 0 to L; all by default.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        ray: Address of a Ray cluster that is to extract those of a store; "local" starts one here.

    Raises:
        CheckpointError: No model at `path`.
        ConfigError: No such layer, both files and a store or neither, or `out` is of another kind
            or may not be written.
        DataError: Images smaller than the network's, or none of the files can be read.
    """
    path, out = Path(path), Path(out)
    data = as_path(data)
    images = as_paths(images)
    if bool(images) == (data is not None):
        raise ConfigError("give either image files or a record store (--data), and not both")
    if ray is not None and data is None:
        raise ConfigError("--ray is for the features of a store; give --data, or leave it out")
    _require_place(out, images, overwrite=overwrite)
    loose = loose_files(images) if images else None
    pretrained = load(path, device="cpu" if ray else choose_device(device))
    asked = range(pretrained.model.config.layers + 1) if layers is None else layers
    numbers = tuple(dict.fromkeys(asked))  # each once, as a table cannot have a column twice
    if loose is not None:
        read = file_features(pretrained, loose, layers=numbers, title=FILES)
        splits, class_names = {FILES: _Split(files=read.names, features=read.features)}, None
    else:
        assert data is not None
        store = RecordStore.open(data)
        splits, class_names = _of_store(pretrained, store, numbers, ray), store.class_names
    write = {".npz": _write_npz, ".parquet": _write_parquet}.get(out.suffix.lower(), _write_folder)
    write(splits, numbers, class_names, out)
    return WrittenFeatures(
        out=str(out),
        layers=numbers,
        images={name: len(split.files) for name, split in splits.items()},
        width=pretrained.model.config.width,
        skipped=() if loose is None else tuple(loose.skipped),
    )


def _require_place(out: Path, images: Sequence[Path], *, overwrite: bool) -> None:
    if out.suffix.lower() in (".npz", ".parquet"):
        require_free(out, reads=images, overwrite=overwrite)
    elif out.suffix:
        raise ConfigError(
            f"features are written as .npz, .parquet or a folder of datasets, whose name has no "
            f"ending, got --out {out}; try {out.with_suffix('.npz')}"
        )
    elif overwrite:
        raise ConfigError(f"{out} would be a folder, and folders are not replaced; remove it first")
    else:
        require_outside(out)
        require_writable(out, exclusive=True)


def _of_store(
    pretrained: Pretrained, store: RecordStore, layers: Sequence[int], ray: str | None
) -> dict[str, _Split]:
    with _extractor(ray) as features_of:
        splits = {}
        for name in store.splits:
            records = store.split(name)
            splits[name] = _Split(
                files=records.names,
                features=features_of(pretrained, records, layers=layers, title=name),
                labels=None if records.labels is None else np.asarray(records.labels),
            )
        return splits


@contextmanager
def _extractor(ray: str | None) -> Iterator[Callable[..., np.ndarray]]:
    """Give what extracts the features of a split, here or on a cluster."""
    if ray is None:
        yield extract_features
        return
    from igpt.data.on_ray import cluster
    from igpt.evaluation.features_on_ray import features_on_cluster

    with cluster(ray):
        yield features_on_cluster


def _write_npz(
    splits: dict[str, _Split],
    layers: Sequence[int],
    class_names: Sequence[str] | None,
    out: Path,
) -> None:
    arrays: dict[str, np.ndarray] = {"layers": np.array(layers)}
    for name, split in splits.items():
        prefix = "" if name == FILES else f"{name}_"
        arrays[f"{prefix}features"] = split.features
        arrays[f"{prefix}files"] = np.array(split.files)
        if split.labels is not None:
            arrays[f"{prefix}labels"] = split.labels
    if class_names is not None:
        arrays["class_names"] = np.array(class_names)
    with written_aside(out) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)  # pyrefly: ignore


def _write_parquet(
    splits: dict[str, _Split],
    layers: Sequence[int],
    class_names: Sequence[str] | None,
    out: Path,
) -> None:
    tables = [
        _table(name, split, layers, class_names, label=datasets.Value("int64"))
        for name, split in splits.items()
    ]
    with written_aside(out) as aside, _no_bars():
        datasets.concatenate_datasets(tables).to_parquet(str(aside))


def _write_folder(
    splits: dict[str, _Split],
    layers: Sequence[int],
    class_names: Sequence[str] | None,
    out: Path,
) -> None:
    label = datasets.ClassLabel(names=list(class_names)) if class_names else datasets.Value("int64")
    tables = {
        name: _table(name, split, layers, class_names, label=label)
        for name, split in splits.items()
    }
    with written_aside(out, exclusive=True) as aside, _no_bars():
        datasets.DatasetDict(**tables).save_to_disk(str(aside))


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep the library's own bars off the terminal, which has ours."""
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def _table(
    name: str,
    split: _Split,
    layers: Sequence[int],
    class_names: Sequence[str] | None,
    *,
    label: datasets.Value | datasets.ClassLabel,
) -> datasets.Dataset:
    """Return a split as a table, a row an image."""
    labels = [None] * len(split.files) if split.labels is None else split.labels.tolist()
    names = class_names or ()
    width = split.features.shape[2]
    columns = {f"layer_{layer}": split.features[:, index] for index, layer in enumerate(layers)}
    kinds = {
        "file": datasets.Value("string"),
        "split": datasets.Value("string"),
        "label": label,
        "class_name": datasets.Value("string"),
        **{column: datasets.List(datasets.Value("float32"), length=width) for column in columns},
    }
    return datasets.Dataset.from_dict(
        {
            "file": [file.encode(errors="replace").decode() for file in split.files],
            "split": [name] * len(split.files),
            "label": labels,
            "class_name": [None if number is None else names[number] for number in labels],
            **columns,
        },
        features=datasets.Features(kinds),
    )
