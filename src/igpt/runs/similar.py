"""Photographs like this one: the nearest images of a store, by a run's features.

result = similar_files("runs/a", ["photo.jpg"], among="data/photos")
result.queries[0].neighbors[0].name, result.queries[0].neighbors[0].distance
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from igpt.data.loose import SkippedFile, loose_files, read_squares
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features, file_features
from igpt.evaluation.similar import nearest
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.outputs import require_ending, require_free
from igpt.paths import AnyPath, as_path, as_paths
from igpt.pixels.images import image_grid, write_png
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.processes import choose_device

_SHOWN_SIZE = 128  # about how large an image appears in the picture, in pixels


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """An image of the store."""

    name: str
    """The file that it was made of, or what else the store calls it."""
    split: str
    class_name: str | None
    """None in a store without labels."""
    distance: float
    """One minus the cosine of whitened features."""


@dataclass(frozen=True, kw_only=True)
class SimilarTo:
    """What is most like one file."""

    file: str
    neighbors: tuple[Neighbor, ...]
    """The nearest first."""


@dataclass(frozen=True, kw_only=True)
class SimilarResult:
    """What is most like some files."""

    layer: int
    layer_chosen: str
    """How, in words."""
    store: str
    images: int
    """That were searched: all of the store."""
    queries: tuple[SimilarTo, ...]
    skipped: tuple[SkippedFile, ...]
    """Files that could not be read."""


def similar_files(
    path: AnyPath,
    images: AnyPath | Sequence[AnyPath],
    *,
    among: AnyPath,
    count: int = 5,
    layer: int | None = None,
    out: AnyPath | None = None,
    overwrite: bool = False,
    device: str = "auto",
) -> SimilarResult:
    """Return which images of a store are most like some image files.

    Args:
        path: Run or model folder, or what else `load` takes.
        images: Files, and folders, zip or tar files of them.
        among: Record store, all splits of which are searched.
        count: Neighbors of each file.
        layer: Whose features are compared; by default the best one that `igpt probe` found, or the
            middle one where it was not run.
        out: Also draw them, .png: a row a file, its neighbors from the nearest on.
        overwrite: Whether a picture that is there may be replaced.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

    Raises:
        CheckpointError: No model at `path`, or no `layer` is given and the kept probe is damaged or
            of an earlier model.
        ConfigError: No such layer, fewer images than `count`, or `out` may not be written.
        DataError: None of the files can be read, or the store's images are smaller than the
            network's.
    """
    path, among = Path(path), Path(among)
    out = as_path(out)
    images = as_paths(images)
    if out is not None:
        require_ending(out, ".png", "a picture of neighbors is")
        require_free(out, reads=images, overwrite=overwrite)
    loose = loose_files(images)
    pretrained, store = load(path, device=choose_device(device)), RecordStore.open(among)
    read, chosen = _layer_to_read(pretrained) if layer is None else (layer, "given")
    pretrained = pretrained.prepared(store.preparation)
    parts = [store.split(name) for name in store.splits]
    searched = np.concatenate(
        [extract_features(pretrained, part, layers=[read], title=part.name)[:, 0] for part in parts]
    )
    asked = file_features(pretrained, loose, layers=[read], title="files")
    near = nearest(searched, asked.features[:, 0], count=count)
    known = _Known(parts)
    result = SimilarResult(
        layer=read,
        layer_chosen=chosen,
        store=str(among),
        images=len(searched),
        queries=tuple(
            SimilarTo(
                file=name,
                neighbors=tuple(
                    known.neighbor(number, distance)
                    for number, distance in zip(numbers, distances, strict=True)
                ),
            )
            for name, numbers, distances in zip(
                asked.names, near.numbers.tolist(), near.distances.tolist(), strict=True
            )
        ),
        skipped=tuple(loose.skipped),
    )
    if out is not None:
        side = store.config.image_size
        whole = ImageTokenizer(pretrained.palette, side, store.preparation)
        shown = [part.squares for part in read_squares(loose_files(images), whole)]
        _draw(out, np.concatenate(shown), near.numbers, known)
    return result


def _layer_to_read(pretrained: Pretrained) -> tuple[int, str]:
    """Return the layer whose features say most, as far as is known, and how it was chosen."""
    try:
        classifier = pretrained.classifier()
    except ConfigError:  # it has none; a damaged one is refused, or figures would change unseen
        middle = pretrained.model.config.layers // 2
        return middle, "the middle one; igpt probe finds the best"
    return classifier.layer, f"that of the {classifier.kind}"


class _Known:
    """All records of a store, one split after another."""

    def __init__(self, parts: Sequence[Records]) -> None:
        self._parts = parts
        self._ends = np.cumsum([len(part) for part in parts])

    def find(self, number: int) -> tuple[Records, int]:
        """Return the split of a record and its number there."""
        index = int(np.searchsorted(self._ends, number, side="right"))
        part = self._parts[index]
        return part, number - int(self._ends[index]) + len(part)

    def neighbor(self, number: int, distance: float) -> Neighbor:
        """Return what is known of a record."""
        part, index = self.find(number)
        name = None
        if part.labels is not None and part.class_names is not None:
            name = part.class_names[part.labels[index]]
        (file,) = part.chosen(np.array([index])).names
        return Neighbor(name=file, split=part.name, class_name=name, distance=max(distance, 0.0))


def _draw(
    out: Path,
    files: UInt8[np.ndarray, "file size size 3"],
    numbers: Int64[np.ndarray, "file neighbor"],
    known: _Known,
) -> None:
    """Draw each file, made ready as the store's images were, and then those that are like it."""
    rows = []
    for pixels, row in zip(files, numbers.tolist(), strict=True):
        rows.append([pixels, *(part.images[index] for part, index in map(known.find, row))])
    cells = np.array(rows)
    write_png(out, image_grid(cells, scale=max(1, _SHOWN_SIZE // cells.shape[2])))
