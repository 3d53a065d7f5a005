"""Few labels for a run: the low-data protocol on the features of its best layer.

Beside the probes, all weights can be fine-tuned on the same subsets, which the paper found to do
worse (section 4.7). As there are no other labels to stop by, that takes a fixed number of steps.
"""

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.classifier import accuracy
from igpt.evaluation.features import extract_features
from igpt.evaluation.few_labels import balanced_subset, few_labels_accuracy
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.processes import choose_device
from igpt.runs.finetune import ClassifierTraining, config_for
from igpt.runs.probe import LayerProbes
from igpt.runs.recipes import FinetuneConfig
from igpt.runs.run import RunFolder
from igpt.training.loop import train as train_network
from igpt.training.optimizer import build_optimizer


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Test accuracies over random subsets."""

    mean: float
    standard_deviation: float | None
    """Of a sample (n - 1); None for a single subset."""
    accuracies: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class FewLabelsRow(Accuracies):
    """Probes with so many labels of each class."""

    labels_per_class: int
    penalties: tuple[float, ...]
    """Chosen in each subset."""
    converged: bool
    fine_tuned: Accuracies | None = None
    """All weights fine-tuned on the same subsets, if that was asked for."""


@dataclass(frozen=True, kw_only=True)
class FewLabelsResult:
    """What `few-labels.json` holds."""

    layer: int
    layer_chosen: str
    """How, in words."""
    test_images: int
    subsets: int
    seed: int
    finetune_steps: int
    rows: tuple[FewLabelsRow, ...]


def few_labels_run(
    path: Path,
    *,
    data: Path,
    labels_per_class: Sequence[int] = (4, 25, 400),
    subsets: int = 5,
    layer: int | None = None,
    finetune_steps: int = 0,
    config: FinetuneConfig | None = None,
    seed: int = 0,
    device: str = "auto",
) -> FewLabelsResult:
    """Probe a run with few labels and return the accuracies; a run keeps `few-labels.json`.

    Features are extracted of the drawn training images and of the test split only.

    Args:
        path: Run or model, as `load` takes it.
        data: Record store with labels and a test split.
        labels_per_class: Labels of each class, one row of results each.
        subsets: Random subsets of each.
        layer: Layer whose features are read; by default the run's best in `probe.json`, which was
            chosen on validation images with all training labels.
        finetune_steps: Also fine-tune all weights on each subset, for so many steps; 0 for not.
        config: Rates and losses of that; by default those of the run's recipe.
        seed: Draws the subsets.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

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
        probe = None if run is None else run.read("probe.json", LayerProbes)
        if probe is None:
            raise ConfigError(
                f"{path} has not been probed, so nothing tells its best layer; run igpt probe "
                "first, or give --layer"
            )
        layer, chosen = probe.best_layer, "best on validation with all labels (probe.json)"
    pretrained.model.config.check_layer(layer)
    wanted = np.unique(
        np.concatenate(
            [
                balanced_subset(labels, count, seed=seed, subset=subset)
                for count in labels_per_class
                for subset in range(subsets)
            ]
        )
    )
    drawn = train.chosen(wanted)
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
        tuned = None
        if finetune_steps:
            rates = config or config_for(path)
            accuracies = [
                _fine_tuned_accuracy(
                    pretrained,
                    train.chosen(balanced_subset(labels, count, seed=seed, subset=subset)),
                    test,
                    config=rates,
                    steps=finetune_steps,
                    seed=seed,
                )
                for subset in range(subsets)
            ]
            tuned = Accuracies(
                mean=statistics.fmean(accuracies),
                standard_deviation=statistics.stdev(accuracies) if subsets > 1 else None,
                accuracies=tuple(accuracies),
            )
        rows.append(
            FewLabelsRow(
                mean=found.mean,
                standard_deviation=found.standard_deviation,
                fine_tuned=tuned,
                **dataclasses.asdict(found),
            )
        )
    result = FewLabelsResult(
        layer=layer,
        layer_chosen=chosen,
        test_images=len(test),
        subsets=subsets,
        seed=seed,
        finetune_steps=finetune_steps,
        rows=tuple(rows),
    )
    if run is not None:
        run.write("few-labels.json", result)
    return result


def _fine_tuned_accuracy(
    pretrained: Pretrained,
    subset: Records,
    test: Records,
    *,
    config: FinetuneConfig,
    steps: int,
    seed: int,
) -> float:
    """Return the test accuracy of a copy of the network after `steps` steps on the subset."""
    training = dataclasses.replace(
        config.training,
        steps=steps,
        seed=seed,
        batch_size=min(config.training.batch_size, len(subset)),
    )
    config = dataclasses.replace(config, training=training)
    begun = ClassifierTraining.begin(pretrained, subset, config, pretrained.model.device)
    model = begun.classifier.model
    for _ in train_network(
        model, build_optimizer(model, training),
        objective=begun.objective, batch_at=begun.batches.at, config=training,
    ):  # fmt: skip
        pass
    return accuracy(begun.classifier, test)
