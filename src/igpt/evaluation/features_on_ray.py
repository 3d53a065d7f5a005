"""Features by the processes of a Ray cluster, for more images than one machine has time for.

    with cluster("10.0.0.1:6379"):
        for part in features_by_parts(pretrained, train, [slice(0, 4096), slice(4096, 8192)], [3]):
            part.shape  # (4096, 1, width)

Each process holds the network, on a GPU if the cluster has any, and opens the store for itself, on
a disk that all nodes have. Parts come back in order.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from tqdm import tqdm

from igpt.data.on_ray import resources, rows_in_order, shared
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features, parts_of
from igpt.model.pretrained import Pretrained


def features_on_cluster(
    pretrained: Pretrained, records: Records, *, layers: Sequence[int], title: str | None = None
) -> Float32[np.ndarray, "image layer width"]:
    """Return the features of a split of a store in memory, as `extract_features` has them.

    Arguments and errors as in `features_by_parts`; `title` is that of the progress bar.
    """
    parts = parts_of(len(records))
    shape = (len(records), len(layers), pretrained.model.config.width)
    features = np.empty(shape, np.float32)
    shown = None if title else True
    with tqdm(total=len(records), desc=title, unit="image", disable=shown) as bar:
        found = features_by_parts(pretrained, records, parts, layers)
        for part, some in zip(parts, found, strict=True):
            features[part] = some
            bar.update(len(some))
    return features


def features_by_parts(
    pretrained: Pretrained, records: Records, parts: Sequence[slice], layers: Sequence[int]
) -> Iterator[Float32[np.ndarray, "image layer width"]]:
    """Yield the features of each part of a split of a store, as `extract_features` has them.

    This process is connected to a cluster (`igpt.data.on_ray.cluster`).

    Args:
        pretrained: Network and tokenizer.
        records: A split of a store, whole.
        parts: Which records each is of.
        layers: From 0 to L.

    Raises:
        ConfigError: The network has no such layer, or the images lie in no store.
        DataError: The images are smaller than the network's, or the cluster failed.
    """
    if records.path is None or records.name not in (store := RecordStore.open(records.path)).splits:
        raise ConfigError(f"the {records.described} lie in no store that a cluster could read")
    assert store.splits[records.name].records == len(records), "these are some of a split"
    records.require_fit(pretrained.tokenizer.image_size, pretrained.tokenizer.palette.fingerprint)
    wanted = [pretrained.model.config.check_layer(layer) for layer in layers]
    on_gpus = resources("GPU") >= 1
    rows = [{"first": part.start, "last": part.stop} for part in parts]
    done = rows_in_order(
        rows,
        _Extractor,
        fn_constructor_args=(
            shared(pretrained), str(records.path.absolute()), records.name, wanted, on_gpus,
        ),
        concurrency=max(1, min(len(rows), int(resources("GPU" if on_gpus else "CPU")))),
        num_gpus=1 if on_gpus else 0,
    )  # fmt: skip
    for row in done:
        yield np.asarray(row["features"], np.float32)


class _Extractor:
    """A process of the cluster, with the network in it."""

    def __init__(
        self,
        pretrained: Callable[[], Pretrained],
        store: str,
        split: str,
        layers: Sequence[int],
        on_gpu: bool,
    ) -> None:
        self._pretrained = pretrained()
        self._pretrained.model.to("cuda" if on_gpu else "cpu")
        # Whoever hands out the parts has checked the pixels.
        self._records = RecordStore.open(Path(store)).split(split, checked=False)
        self._layers = list(layers)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        part = self._records.chosen(np.arange(row["first"], row["last"]))
        return {"features": extract_features(self._pretrained, part, layers=self._layers)}
