"""Few labels for a run: the low-data protocol on the features of its best layer."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from igpt.data.records import RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features
from igpt.evaluation.few_labels import balanced_subset, few_labels_accuracy
from igpt.experiments.run import RunFolder, choose_device
from igpt.model.loading import load
from igpt.objectives.classification import check_layer


def few_labels_run(
    path: Path,
    *,
    data: Path,
    labels_per_class: Sequence[int] = (4, 25, 400),
    subsets: int = 5,
    layer: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Probe a run with few labels and return the accuracies; a run keeps `few-labels.json`.

    Features are extracted of the drawn training images and of the test split only.

    Args:
        path: Run or model, as `load` takes it.
        data: Record store with labels and a test split.
        labels_per_class: Labels of each class, one row of results each.
        subsets: Random subsets of each.
        layer: Layer whose features are read; by default the run's best in `probe.json`, which was
            chosen on validation images with all training labels.
        seed: Draws the subsets.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

    Returns:
        `layer`, `layer_chosen` (how, in words), `test_images`, `subsets`, `seed` and `rows`: for
        each of `labels_per_class` its `mean`, `standard_deviation`, `accuracies`, `penalties` and
        `converged`.

    Raises:
        ConfigError: No such layer, or none is given where the run has not been probed.
        DataError: No labels, or a class with too few images.
        CheckpointError: No model at `path`.

    Source: Chen et al. 2020, section 4.7.
    """
    pretrained = load(path, device=choose_device(device))
    store = RecordStore.open(data)
    train, test = store.split("train"), store.split("test")
    labels, _ = train.require_labels(), test.require_labels()
    run = RunFolder.open(path) if (path / "recipe.json").is_file() else None
    chosen = "given"
    if layer is None:
        probe = None if run is None else run.read("probe.json")
        if not probe:
            raise ConfigError(
                f"{path} has not been probed, so nothing tells its best layer; run igpt probe "
                "first, or give --layer"
            )
        layer, chosen = int(probe["best_layer"]), "best on validation with all labels (probe.json)"
    check_layer(pretrained.model, layer)
    wanted = np.unique(
        np.concatenate(
            [
                balanced_subset(labels, count, seed=seed, subset=subset)
                for count in labels_per_class
                for subset in range(subsets)
            ]
        )
    )
    drawn = dataclasses.replace(train, images=train.images[wanted], labels=labels[wanted])
    width = pretrained.model.config.width
    features = np.zeros((len(train), width), dtype=np.float32)  # of the others, never read
    features[wanted] = extract_features(pretrained, drawn, layers=[layer], title="train")[:, 0]
    of_test = extract_features(pretrained, test, layers=[layer], title="test")[:, 0]
    rows = []
    for count in tqdm(labels_per_class, desc="few labels", disable=None):
        found = few_labels_accuracy(
            (features, labels),
            (of_test, test.require_labels()),
            labels_per_class=count,
            subsets=subsets,
            seed=seed,
        )
        rows.append(
            {
                "labels_per_class": count,
                "mean": found.mean,
                "standard_deviation": found.standard_deviation,
                **dataclasses.asdict(found),
            }
        )
    result = {
        "layer": layer,
        "layer_chosen": chosen,
        "test_images": len(test),
        "subsets": subsets,
        "seed": seed,
        "rows": rows,
    }
    if run is not None:
        run.write("few-labels.json", result)
    return result
