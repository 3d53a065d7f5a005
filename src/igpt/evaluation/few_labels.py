"""Few labels: what a handful of labelled images a class teaches a linear probe.

The paper's low-data protocol (Chen et al. 2020, section 4.7): random subsets with as many images of
each class, logistic regression on frozen features, mean and standard deviation over the subsets of
the accuracy on the whole test split.

    result = few_labels(pretrained, store, layer=12, labels_per_class=[4, 25])
    result.rows[0].mean, result.rows[0].standard_deviation

No other label is used: the penalty is chosen by cross-validation within each subset. Which layer's
features are read is the caller's choice, and kept with the result.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, Integer
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError, DataError
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import LinearProbe
from igpt.model.pretrained import Pretrained
from igpt.randomness import Stream, stream, stream_seed

Labelled = tuple[Float[np.ndarray, "_record _feature"], Integer[np.ndarray, " _record"]]
"""Features and labels of the same records."""

PENALTIES = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Penalties to choose from: the fewer the labels, the stronger they have to be."""

_FOLDS = 4


@dataclass(frozen=True, kw_only=True)
class Accuracies:
    """Test accuracies over random subsets."""

    mean: float
    standard_deviation: float | None
    """Of a sample (n - 1); None for a single subset."""
    accuracies: tuple[float, ...]

    @classmethod
    def of(cls, accuracies: Sequence[float]) -> "Accuracies":
        """Return these, summed up."""
        return cls(
            mean=statistics.fmean(accuracies),
            standard_deviation=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            accuracies=tuple(accuracies),
        )


@dataclass(frozen=True, kw_only=True)
class FewLabelsRow(Accuracies):
    """Probes with so many labels of each class."""

    labels_per_class: int
    penalties: tuple[float, ...]
    """Chosen by cross-validation in each subset."""
    converged: bool
    """Whether every reported probe did."""
    fine_tuned: Accuracies | None = None
    """All weights fine-tuned on the same subsets, if that was asked for."""
    memorized: float | None = None
    """Accuracy of the fine-tuned networks on their own subset, the mean over subsets."""


@dataclass(frozen=True, kw_only=True)
class FewLabelsResult:
    """What a network's features are worth with few labels."""

    layer: int
    layer_chosen: str
    """How, in words."""
    test_images: int
    subsets: int
    seed: int
    finetune_steps: int
    """0 if nothing was fine-tuned."""
    rows: tuple[FewLabelsRow, ...]


def balanced_subset(
    labels: Integer[np.ndarray, " record"], labels_per_class: int, *, seed: int, subset: int = 0
) -> Int64[np.ndarray, " chosen"]:
    """Return the numbers of `labels_per_class` records of every class, drawn without repeats.

    A pure function of its arguments; records of one class are in the order they were drawn.

    Raises:
        ConfigError: `labels_per_class` is under 1.
        DataError: A class has fewer records.
    """
    if labels_per_class < 1:
        raise ConfigError(f"labels_per_class must be at least 1, got {labels_per_class}")
    generator = stream(Stream.SUBSETS, seed, subset, labels_per_class)
    chosen = []
    for label in np.unique(labels):
        records = np.flatnonzero(labels == label)
        if len(records) < labels_per_class:
            raise DataError(
                f"{labels_per_class} labels a class are wanted, but class {label} has "
                f"{len(records)} images; ask for {len(records)} or fewer"
            )
        chosen.append(generator.permutation(records)[:labels_per_class])
    return np.concatenate(chosen)


def few_labels(
    pretrained: Pretrained,
    store: RecordStore,
    *,
    layer: int,
    labels_per_class: Sequence[int] = (4, 25, 400),
    subsets: int = 5,
    seed: int = 0,
    fine_tuned: Callable[[Records], float] | None = None,
) -> FewLabelsResult:
    """Return how well probes read one layer with few labels, a row for each number of them.

    Features are extracted of the drawn training images and of the test split only.

    Args:
        pretrained: Network and tokenizer.
        store: Labelled images with a train and a test split.
        layer: Layer whose features are read.
        labels_per_class: Labels of each class, one row each.
        subsets: Random subsets of each.
        seed: Draws the subsets.
        fine_tuned: Returns the test accuracy of the network fine-tuned on a subset, for the same
            subsets; by default that is left out.

    Raises:
        ConfigError: No such layer, or a number under 1.
        DataError: No labels, or a class with too few images.

    Source: Chen et al. 2020, section 4.7.
    """
    pretrained.model.config.check_layer(layer)
    train, test = store.split("train"), store.split("test")
    labels, test_labels = train.require_labels(), test.require_labels()
    drawn = {
        count: [balanced_subset(labels, count, seed=seed, subset=n) for n in range(subsets)]
        for count in labels_per_class
    }
    read = np.unique(np.concatenate([part for parts in drawn.values() for part in parts]))
    width = pretrained.model.config.width
    features = np.zeros((len(train), width), dtype=np.float32)  # of the others, never read
    features[read] = extract_features(
        pretrained, train.chosen(read), layers=[layer], title="train"
    )[:, 0]
    of_test = extract_features(pretrained, test, layers=[layer], title="test")[:, 0]
    rows = []
    for count, parts in tqdm(drawn.items(), desc="few labels", disable=None):
        row = few_labels_accuracy(
            (features, labels), (of_test, test_labels), labels_per_class=count, subsets=subsets,
            seed=seed,
        )  # fmt: skip
        if fine_tuned is not None:
            tuned = Accuracies.of([fine_tuned(train.chosen(part)) for part in parts])
            row = dataclasses.replace(row, fine_tuned=tuned)
        rows.append(row)
    return FewLabelsResult(
        layer=layer,
        layer_chosen="given",
        test_images=len(test),
        subsets=subsets,
        seed=seed,
        finetune_steps=0,
        rows=tuple(rows),
    )


def few_labels_accuracy(
    train: Labelled,
    test: Labelled,
    *,
    labels_per_class: int,
    subsets: int = 5,
    seed: int = 0,
    penalties: Sequence[float] = PENALTIES,
) -> FewLabelsRow:
    """Return the test accuracy of probes on random subsets of the training records.

    Args:
        train: Features and labels to draw from.
        test: Features and labels that every probe is scored on.
        labels_per_class: Records of each class in a subset.
        subsets: How many are drawn.
        seed: The same seed draws the same subsets.
        penalties: Chosen from by stratified cross-validation within the subset; with a single
            label a class, where that cannot be, the strongest is taken.

    Raises:
        ConfigError: A number under 1, or no penalty.
        DataError: A class has too few records, or features and labels do not fit together.
    """
    if subsets < 1 or not penalties:
        raise ConfigError(
            f"there must be a subset and a penalty, got {subsets} and {len(penalties)}"
        )
    accuracies, probes = [], []
    for subset in range(subsets):
        part = balanced_subset(train[1], labels_per_class, seed=seed, subset=subset)
        features, labels = train[0][part], train[1][part]
        l2 = _choose_penalty(features, labels, penalties, labels_per_class, seed=seed)
        probes.append(LinearProbe(l2).fit(features, labels))
        accuracies.append(probes[-1].score(*test))
    return FewLabelsRow(
        labels_per_class=labels_per_class,
        penalties=tuple(probe.l2 for probe in probes),
        converged=all(probe.converged_ for probe in probes),
        **vars(Accuracies.of(accuracies)),
    )


def _choose_penalty(
    features: np.ndarray,
    labels: np.ndarray,
    penalties: Sequence[float],
    labels_per_class: int,
    *,
    seed: int,
) -> float:
    """Return the penalty best in cross-validation; of equals, the strongest."""
    ordered = sorted(set(penalties), reverse=True)
    if labels_per_class == 1:
        return ordered[0]
    folds = StratifiedKFold(
        min(_FOLDS, labels_per_class), shuffle=True,
        random_state=stream_seed(Stream.FOLDS, seed, bits=32),
    )  # fmt: skip
    right = np.zeros(len(ordered))
    for fitted, held in folds.split(features, labels):
        path = LinearProbe(tolerance=1e-4).fit_path(features[fitted], labels[fitted], ordered)
        right += [(probe.predict(features[held]) == labels[held]).sum() for probe in path]
    return ordered[int(right.argmax())]
