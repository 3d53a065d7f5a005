"""Few labels: what a handful of labelled images a class teaches a linear probe.

The paper's low-data protocol (Chen et al. 2020, section 4.7): random subsets with as many images of
each class, logistic regression on frozen features, mean and standard deviation over the subsets of
the accuracy on the whole test split.

    result = few_labels(pretrained, store, layer=12, labels_per_class=[4, 25])
    result.rows[0].mean, result.rows[0].standard_deviation

No other label is used: the penalty is chosen by cross-validation within each subset, in which all
copies of an image are on one side. Which layer's features are read is the caller's choice, and kept
with the result; once it is made, subsets are drawn from training and validation images together.
"""

import dataclasses
import hashlib
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, Integer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold
from tqdm import tqdm

from igpt.data.store import FOLDED, Records, RecordStore
from igpt.errors import ConfigError, DataError
from igpt.evaluation.choice import at_edge, doubts, turned
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import PENALTIES, LinearProbe, total_variance
from igpt.model.pretrained import Pretrained
from igpt.randomness import Stream, stream, stream_seed

Labelled = tuple[Float[np.ndarray, "_record _feature"], Integer[np.ndarray, " _record"]]
"""Features and labels of the same records."""

LABELS_PER_CLASS = (4, 25, 400)
"""How many labels each class gets by default, as far as the smallest class has them."""

_FOLDS = 4
_HELD = 200  # records to hold out, if need be several times, since 40 say too little ...
_REPEATS = 5  # ... but no more than so often each


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
    at_edge: bool | None = None
    """Whether most of them are at an edge of their grid, where penalties further on might be
    better; a single one may be there by a record or two. None in results older than the question.
    """
    converged: bool
    """Whether every reported probe did."""
    fine_tuned: Accuracies | None = None
    """All weights fine-tuned on the same subsets, if that was asked for."""
    memorized: float | None = None
    """Accuracy of the fine-tuned networks on their own subset, the mean over subsets."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the accuracy may be too low, in words."""
        return doubts(converged=self.converged, edge=self.at_edge)


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


def drawn_from(store: RecordStore) -> Records:
    """Return the records that subsets are drawn from: train, and validation if there is any."""
    return store.split(FOLDED if "validation" in store.splits else "train")


def fitting_labels(records: Records) -> tuple[int, ...]:
    """Return the default numbers of labels that every class has; where none is so small, its size.

    Raises:
        DataError: There are no labels.
    """
    smallest = int(np.unique(records.require_labels(), return_counts=True)[1].min())
    return tuple(count for count in LABELS_PER_CLASS if count <= smallest) or (smallest,)


def balanced_subset(
    labels: Integer[np.ndarray, " record"],
    labels_per_class: int,
    *,
    seed: int,
    subset: int = 0,
    class_names: Sequence[str] | None = None,
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
            name = label if class_names is None else repr(class_names[label])
            least = np.unique(labels, return_counts=True)[1].min()
            raise DataError(
                f"{labels_per_class} labels a class are wanted, but class {name} has "
                f"{len(records)} images; ask for {least} or fewer"
            )
        chosen.append(generator.permutation(records)[:labels_per_class])
    return np.concatenate(chosen)


def copies(records: Records) -> Int64[np.ndarray, " record"]:
    """Return a number for each record, the same for records that were made of one image.

    Those are crops or placements, which have its name, and records whose pixels are the same.
    """
    pixels = [hashlib.sha256(image.tobytes()).digest() for image in records.images]
    numbers = np.arange(len(records))
    links = []
    for keys in (records.names or numbers.tolist(), pixels):
        _, first, group = np.unique(
            np.array(keys, dtype=object), return_index=True, return_inverse=True
        )
        links.append(first[group])
    same = coo_array(
        (np.ones(2 * len(records)), (np.tile(numbers, 2), np.concatenate(links))),
        shape=(len(records), len(records)),
    )
    return connected_components(same, directed=False)[1].astype(np.int64)


def few_labels(
    pretrained: Pretrained,
    store: RecordStore,
    *,
    layer: int,
    labels_per_class: Sequence[int],
    subsets: int = 5,
    seed: int = 0,
    fine_tuned: Callable[[Records], float] | None = None,
) -> FewLabelsResult:
    """Return how well probes read one layer with few labels, a row for each number of them.

    Features are extracted of the drawn training images and of the test split only.

    Args:
        pretrained: Network and tokenizer.
        store: Labelled images with a train and a test split; those of validation, if there are
            any, are drawn from too.
        layer: Layer whose features are read.
        labels_per_class: Labels of each class, one row each.
        subsets: Random subsets of each.
        seed: Draws the subsets.
        fine_tuned: Returns the test accuracy of the network fine-tuned on a subset, for the same
            subsets; by default that is left out.

    Raises:
        ConfigError: No such layer, a number under 1, or no number of labels.
        DataError: No labels, or a class with too few images.

    Source: Chen et al. 2020, section 4.7.
    """
    pretrained.model.config.check_layer(layer)
    if subsets < 1 or not labels_per_class:
        raise ConfigError(
            f"there must be a subset and a number of labels, got {subsets} and "
            f"{list(labels_per_class)}"
        )
    train = drawn_from(store)
    test = store.split("test")
    labels, test_labels = train.require_labels(), test.require_labels()
    drawn = {
        count: [
            balanced_subset(labels, count, seed=seed, subset=subset, class_names=train.class_names)
            for subset in range(subsets)
        ]
        for count in labels_per_class
    }
    read = np.unique(np.concatenate([part for parts in drawn.values() for part in parts]))
    width = pretrained.model.config.width
    features = np.zeros((len(train), width), dtype=np.float32)  # of the others, never read
    features[read] = extract_features(
        pretrained, train.chosen(read), layers=[layer], title="train"
    )[:, 0]
    of_test = extract_features(pretrained, test, layers=[layer], title="test")[:, 0]
    groups = np.zeros(len(train), dtype=np.int64)
    groups[read] = copies(train.chosen(read))
    rows = []
    for count, parts in tqdm(drawn.items(), desc="few labels", disable=None):
        row = few_labels_accuracy(
            (features, labels), (of_test, test_labels), labels_per_class=count, subsets=subsets,
            seed=seed, groups=groups,
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
    groups: Int64[np.ndarray, " _record"] | None = None,
) -> FewLabelsRow:
    """Return the test accuracy of probes on random subsets of the training records.

    Args:
        train: Features and labels to draw from.
        test: Features and labels that every probe is scored on.
        labels_per_class: Records of each class in a subset.
        subsets: How many are drawn.
        seed: The same seed draws the same subsets.
        penalties: In parts of the `total_variance` of a subset's features. They are chosen from by
            stratified cross-validation within the subset; where that cannot be, as with a single
            image of a class, the strongest is taken.
        groups: Training records with the same number are copies of one image; by default none are.

    Raises:
        ConfigError: A number under 1, or no penalty.
        DataError: A class has too few records, or features and labels do not fit together.
    """
    if subsets < 1 or not penalties:
        raise ConfigError(
            f"there must be a subset and a penalty, got {subsets} and {len(penalties)}"
        )
    if groups is None:
        groups = np.arange(len(train[1]))
    accuracies, probes, edges = [], [], []
    for subset in range(subsets):
        part = balanced_subset(train[1], labels_per_class, seed=seed, subset=subset)
        features, labels = train[0][part], train[1][part]
        grid = total_variance(features).item() * np.array(sorted(set(penalties), reverse=True))
        l2, edge = _choose_penalty(features, labels, groups[part], grid.tolist(), seed=seed)
        probes.append(LinearProbe(l2).fit(features, labels))
        accuracies.append(probes[-1].score(*test))
        edges.append(edge)
    return FewLabelsRow(
        labels_per_class=labels_per_class,
        penalties=tuple(probe.l2 for probe in probes),
        at_edge=sum(edges) > subsets / 2,
        converged=all(probe.converged_ for probe in probes),
        **vars(Accuracies.of(accuracies)),
    )


def _choose_penalty(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    penalties: Sequence[float],
    *,
    seed: int,
) -> tuple[float, bool]:
    """Return the penalty best in cross-validation, and whether it is at an edge.

    They are tried from the strongest on; of equals, that is the strongest.
    """
    images = [len(np.unique(groups[labels == label])) for label in np.unique(labels)]
    if min(images) < 2:
        return penalties[0], False
    parts = [
        (fitted, held)
        for repeat in range(min(_REPEATS, math.ceil(_HELD / len(labels))))
        for fitted, held in StratifiedGroupKFold(
            min(_FOLDS, *images),
            shuffle=True,
            random_state=stream_seed(Stream.FOLDS, seed, repeat, bits=32),
        ).split(features, labels, groups)
        if len(held) and len(np.unique(labels[fitted])) > 1
    ]
    paths = [
        LinearProbe(tolerance=1e-3).fit_path(features[fitted], labels[fitted], penalties)
        for fitted, _ in parts
    ]
    scored = sum(len(held) for _, held in parts)
    accuracies: list[float] = []
    for probes in zip(*paths, strict=True):  # of all folds, with one penalty
        right = [
            (probe.predict(features[held]) == labels[held]).sum()
            for probe, (_, held) in zip(probes, parts, strict=True)
        ]
        accuracies.append(float(sum(right)) / scored)
        if turned(accuracies, len(labels)):
            break
    return penalties[int(np.argmax(accuracies))], at_edge(accuracies, len(penalties))
