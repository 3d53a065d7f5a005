"""Probes: what a classifier reads from the features of every layer, beside raw pixels.

The protocol is the same for all solvers (Chen et al. 2020, sections 2.4 and 3.1): several settings
are fitted to the train split, the one most accurate on validation is fitted again to both together,
and the test split is scored once. The best layer is the one best on *validation*; its test accuracy
is then reported.

    probes = probe(pretrained, store)                          # every layer, and raw pixels
    fits = probe_features(ridge(), train, validation, test)    # each (features, labels)

The ways to fit a classifier are in `igpt.evaluation.solvers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Integer
from scipy.stats import spearmanr
from tqdm import tqdm

from igpt.data.batches import images_at_size
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import LinearProbe, check_records, check_width
from igpt.evaluation.solvers import Classifier, Solver, SolverName, solver_named
from igpt.model.pretrained import Pretrained

Labelled = tuple[Float[np.ndarray, "_record _layer _feature"], Integer[np.ndarray, " _record"]]
"""Features of some layers, as `extract_features` returns them, and labels of the same records."""


@dataclass(frozen=True, kw_only=True)
class ProbeFit:
    """What a classifier, its setting chosen on validation, reads from some features."""

    setting: float
    """The chosen penalty ("lbfgs", "ridge"), learning rate ("sgd") or number of neighbors."""
    validation_accuracy: float
    """Fitted on the training records alone."""
    test_accuracy: float
    """Fitted on training and validation records together."""
    converged: bool | None = None
    """Whether these two fits did; None for a solver that does not say."""
    gradient_norm: float | None = None
    """The larger of theirs."""
    at_edge: bool = False
    """Whether the chosen setting is an end of those tried."""


@dataclass(frozen=True, kw_only=True)
class LayerProbe(ProbeFit):
    """Of one layer."""

    layer: int


@dataclass(frozen=True, kw_only=True)
class JointProbe(ProbeFit):
    """Of several layers as one feature."""

    layers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class LayerProbes:
    """What a solver reads from the layers of a network."""

    solver: SolverName
    best_layer: int
    """By validation accuracy."""
    test_accuracy: float
    """Of the best layer."""
    layers: tuple[LayerProbe, ...]
    concatenated: JointProbe | None = None
    raw_pixels: ProbeFit | None = None
    """The same classifier on the images' pixels."""
    rank_correlation: float | None = None
    """Spearman's, of the layers' validation accuracies with those by L-BFGS."""
    records: dict[str, int]
    """In each split."""

    @property
    def best(self) -> LayerProbe:
        """The row of the best layer."""
        return next(row for row in self.layers if row.layer == self.best_layer)


def probe_features(
    solver: Solver,
    train: Labelled,
    validation: Labelled,
    test: Labelled,
    *,
    title: str | None = None,
) -> list[ProbeFit]:
    """Return what a solver reads from each layer, and which setting was chosen.

    Each setting is fitted to `train`. The one most accurate on `validation`, of equals the first,
    is fitted again to both together, and only that fit sees `test`.

    Args:
        solver: Which classifiers, and the settings to choose from.
        train: Features (record, layer, feature) and labels.
        validation: The same of other records.
        test: The same of others again.
        title: What to call the progress bar; None for no bar.

    Raises:
        ConfigError: A setting cannot be.
        DataError: Features are not finite, or features and labels do not fit together.

    Source: Chen et al. 2020, sections 2.4 and 3.1.
    """
    splits = (train, validation, test)
    for features, labels in splits:
        check_records(features, labels, classes=2 if features is train[0] else 0)
        check_width(features, train[0].shape[1:])
    layers = train[0].shape[1]
    count = layers if solver.side_by_side else 1
    fits: list[ProbeFit] = []
    with tqdm(total=layers, desc=title, unit="layer", disable=None if title else True) as bar:
        for first in range(0, layers, count):
            part = slice(first, first + count)
            fits += _choose(solver, *((features[:, part], labels) for features, labels in splits))
            bar.update(count)
            bar.set_postfix(best=f"{max(fit.validation_accuracy for fit in fits):.1%}")
    return fits


def _choose(
    solver: Solver, train: Labelled, validation: Labelled, test: Labelled
) -> list[ProbeFit]:
    layers = range(train[0].shape[1])
    settings = np.tile(np.array(solver.settings), (len(layers), 1))
    tried = solver.fit(*train, settings, [None for _ in layers])
    accuracies = _accuracies(tried, *validation)  # (layer, setting)
    best = accuracies.argmax(axis=1)  # the first of equals
    chosen = [tried[layer][best[layer]] for layer in layers]
    features, labels = (np.concatenate(pair) for pair in zip(train, validation, strict=True))
    refits = solver.fit(features, labels, settings[layers, best][:, None], chosen)
    tested = _accuracies(refits, *test)  # (layer, 1)
    fits = []
    for layer in layers:
        both = (chosen[layer], refits[layer][0])
        pair = [fit for fit in both if isinstance(fit, LinearProbe)]  # others converge unseen
        fits.append(
            ProbeFit(
                setting=solver.settings[best[layer]],
                validation_accuracy=float(accuracies[layer, best[layer]]),
                test_accuracy=float(tested[layer, 0]),
                converged=all(fit.converged_ for fit in pair) if pair else None,
                gradient_norm=max(fit.gradient_norm_ for fit in pair) if pair else None,
            )
        )
    return fits


def _accuracies(
    classifiers: Sequence[Sequence[Classifier]],
    features: Float[np.ndarray, "record layer feature"],
    labels: Integer[np.ndarray, " record"],
) -> Float[np.ndarray, "layer setting"]:
    return np.array(
        [
            [float(classifier.score(features[:, layer], labels)) for classifier in row]
            for layer, row in enumerate(classifiers)
        ]
    )


def probe(
    pretrained: Pretrained,
    store: RecordStore,
    *,
    layers: Sequence[int] | None = None,
    solver: SolverName = "lbfgs",
    concatenate: int = 1,
    raw: bool = True,
    seed: int = 0,
) -> LayerProbes:
    """Return what a solver reads from the layers of a network.

    Args:
        pretrained: Network and tokenizer.
        store: Labelled images with all three splits.
        layers: Layers to probe, from 0 to L; all by default.
        solver: "lbfgs", "sgd" (the paper's for ImageNet), "ridge" or "neighbors".
        concatenate: Also probe so many neighboring layers, centered on the best one, as one
            feature (section 4.4: 5 of them); 1 for none.
        raw: Also probe the images' pixels, at the network's size and in [-1, 1].
        seed: Draws the order of the records for "sgd".

    Raises:
        ConfigError: No such layer or solver, or more layers to concatenate than there are.
        DataError: No labels, no test or validation split, or images smaller than the network's.
    """
    config = pretrained.model.config
    splits = [store.split(name) for name in ("train", "validation", "test")]
    labels = [split.require_labels() for split in splits]
    numbers = [config.check_layer(layer) for layer in layers or range(config.layers + 1)]
    if not 1 <= concatenate <= len(numbers):
        raise ConfigError(
            f"concatenate must lie between 1 and the {len(numbers)} layers probed, got "
            f"{concatenate}"
        )
    device = str(pretrained.model.device)
    kind = solver_named(solver, records=len(splits[0]), seed=seed, device=device)

    def fitted(parts: list[np.ndarray], title: str) -> list[ProbeFit]:
        train, validation, test = zip(parts, labels, strict=True)
        return probe_features(kind, train, validation, test, title=title)

    features = [
        extract_features(pretrained, split, layers=numbers, title=f"features of {split.name}")
        for split in splits
    ]
    fits = fitted(features, "probes")
    best = max(range(len(fits)), key=lambda index: fits[index].validation_accuracy)
    joint = of_pixels = None
    if concatenate > 1:
        first = min(max(best - concatenate // 2, 0), len(numbers) - concatenate)
        several = slice(first, first + concatenate)
        joined = [part[:, several].reshape(len(part), 1, -1) for part in features]
        (fit,) = fitted(joined, "layers as one")
        joint = JointProbe(layers=tuple(numbers[several]), **vars(fit))
    if raw:
        (of_pixels,) = fitted([_pixels(split, config.image_size) for split in splits], "raw pixels")
    return LayerProbes(
        solver=solver,
        best_layer=numbers[best],
        test_accuracy=fits[best].test_accuracy,
        layers=tuple(
            LayerProbe(layer=layer, **vars(fit)) for layer, fit in zip(numbers, fits, strict=True)
        ),
        concatenated=joint,
        raw_pixels=of_pixels,
        records={split.name: len(split) for split in splits},
    )


def _pixels(records: Records, size: int) -> Float32[np.ndarray, "image 1 value"]:
    images = images_at_size(records, size)
    return images.reshape(len(images), 1, -1).astype(np.float32) / np.float32(127.5) - 1


def rank_correlation(ours: LayerProbes, theirs: LayerProbes) -> float | None:
    """Return Spearman's correlation of the validation accuracies of our layers with theirs.

    None where they have not probed all of ours, or where all are equal and nothing is ranked.
    """
    known = {row.layer: row.validation_accuracy for row in theirs.layers}
    if not all(row.layer in known for row in ours.layers):
        return None
    pairs = [(row.validation_accuracy, known[row.layer]) for row in ours.layers]
    if any(len(set(side)) < 2 for side in zip(*pairs, strict=True)):
        return None
    return float(spearmanr(*zip(*pairs, strict=True)).statistic)
