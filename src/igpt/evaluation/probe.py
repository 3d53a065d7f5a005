"""Probes: what a classifier reads from the features of every layer, beside raw pixels.

The protocol is the same for all solvers (Chen et al. 2020, sections 2.4 and 3.1): several settings
are fitted to the train split, the one most accurate on validation is fitted again to both together,
and the test split is scored once. The best layer is the one best on *validation*; its test accuracy
is then reported.

    probes = probe(pretrained, store)                          # every layer, and raw pixels
    fits = probe_features(ridge(), train, validation, test)    # each (features, labels)

The ways to fit a classifier are in `igpt.evaluation.solvers`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Integer
from scipy.stats import spearmanr
from tqdm import tqdm

from igpt.data.batches import images_at_size
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.choice import at_edge, doubts, turned
from igpt.evaluation.confusion import Confusion, confusion
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import (
    LinearProbe,
    check_records,
    check_width,
    total_variance,
)
from igpt.evaluation.sgd import SGDConfig
from igpt.evaluation.solvers import SGD, Classifier, Solver, SolverName, solver_named
from igpt.evaluation.stored_features import stored_features
from igpt.model.pretrained import Pretrained

Labelled = tuple[Float[np.ndarray, "_record _layer _feature"], Integer[np.ndarray, " _record"]]
"""Features of some layers, as `extract_features` returns them, and labels of the same records."""


@dataclass(frozen=True, kw_only=True)
class ProbeFit:
    """What a classifier, its setting chosen on validation, reads from some features."""

    setting: float
    """The chosen penalty ("lbfgs", "ridge"), learning rate ("sgd") or number of neighbors."""
    at_edge: bool | None = None
    """Whether it is the first or the last of those to choose from and better than the one beside
    it, so that one further on may be better still; None in results older than the question."""
    validation_accuracy: float
    """Fitted on the training records alone."""
    test_accuracy: float
    """Fitted on training and validation records together."""
    converged: bool | None = None
    """Whether these two fits did; None for a solver that does not say."""
    gradient_norm: float | None = None
    """The larger of theirs."""

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the accuracy may be too low, in words."""
        return doubts(converged=self.converged, edge=self.at_edge)


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
    confusion: Confusion | None = None
    """What the best layer's classifier takes the test images for; None of over 100 classes, and in
    results older than the question."""

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

    Each setting is fitted to `train`; those of a solver that goes through them in turn, up to the
    first that is less accurate on `validation` than the best by more than a standard error. The
    most accurate there, of equals the first, is fitted again to both together, and only that fit
    sees `test`.

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
    for (features, labels), classes in ((train, 2), (validation, 0), (test, 0)):
        check_records(features, labels, classes=classes)
        check_width(features, train[0].shape[1:])
    features, labels = (np.concatenate(pair) for pair in zip(train, validation, strict=True))
    return _probe_layers(solver, (features, labels), len(train[0]), test, title=title)[0]


@dataclass(frozen=True)
class _Fitted:
    """The classifiers of a layer."""

    fit: ProbeFit
    chosen: Classifier
    """Fitted to the training records alone."""
    last: Classifier
    """Fitted to those of validation as well; the one that is tested."""


def _probe_layers(
    solver: Solver, learned: Labelled, trained: int, test: Labelled, *, title: str | None
) -> tuple[list[ProbeFit], _Fitted]:
    """Do what `probe_features` does, given train and validation records as one array.

    So nothing has to be copied to fit both together, and features may lie on disk. Of all the
    classifiers those of the layer best on validation are returned too, of equals the first.
    """
    layers = learned[0].shape[1]
    count = layers if solver.side_by_side else 1
    fits: list[ProbeFit] = []
    best: _Fitted | None = None
    with tqdm(total=layers, desc=title, unit="layer", disable=None if title else True) as bar:
        for first in range(0, layers, count):
            part = slice(first, first + count)
            both, tested = ((features[:, part], labels) for features, labels in (learned, test))
            for fitted in _choose(solver, both, trained, tested):
                fits.append(fitted.fit)
                if best is None or fitted.fit.validation_accuracy > best.fit.validation_accuracy:
                    best = fitted
            assert best is not None, "a layer or more is probed"
            bar.update(count)
            bar.set_postfix(best=f"{best.fit.validation_accuracy:.1%}")
    assert best is not None
    return fits, best


@dataclass(frozen=True)
class _Choice:
    """The classifier most accurate on validation."""

    classifier: Classifier
    setting: float
    accuracy: float
    at_edge: bool


def _choose(solver: Solver, learned: Labelled, trained: int, test: Labelled) -> list[_Fitted]:
    features, labels = learned
    settings = np.tile(np.array(solver.settings), (features.shape[1], 1))  # (layer, setting)
    if solver.scaled:
        settings *= total_variance(features[:trained])[:, None]
    tried = solver.fit(features[:trained], labels[:trained], settings, [None for _ in settings])
    chosen = [
        _best_of(row, settings[layer].tolist(), len(labels) - trained, solver)
        for layer, row in enumerate(_scored(solver, tried, features[trained:], labels[trained:]))
    ]
    again = np.array([[choice.setting] for choice in chosen])
    refits = solver.fit(features, labels, again, [choice.classifier for choice in chosen])
    fits = []
    for choice, row in zip(chosen, _scored(solver, refits, *test), strict=True):
        ((refit, accuracy),) = row
        both = (choice.classifier, refit)
        pair = [fit for fit in both if isinstance(fit, LinearProbe)]  # others converge unseen
        fit = ProbeFit(
            setting=choice.setting,
            at_edge=choice.at_edge,
            validation_accuracy=choice.accuracy,
            test_accuracy=accuracy,
            converged=all(fit.converged_ for fit in pair) if pair else None,
            gradient_norm=max(fit.gradient_norm_ for fit in pair) if pair else None,
        )
        fits.append(_Fitted(fit, choice.classifier, refit))
    return fits


def _scored(
    solver: Solver,
    classifiers: Iterable[Iterable[Classifier]],
    features: Float[np.ndarray, "record layer feature"],
    labels: Integer[np.ndarray, " record"],
) -> Iterator[Iterable[tuple[Classifier, float]]]:
    """Yield for each layer its classifiers, each with its accuracy."""
    if solver.score is not None:
        accuracies = solver.score(classifiers, features, labels)
        for row, known in zip(classifiers, accuracies.tolist(), strict=True):
            yield zip(row, known, strict=True)
        return
    for layer, row in enumerate(classifiers):
        of_layer = features[:, layer]
        yield ((one, float(one.score(of_layer, labels))) for one in row)


def _best_of(
    scored: Iterable[tuple[Classifier, float]],
    settings: Sequence[float],
    records: int,
    solver: Solver,
) -> _Choice:
    """Return the most accurate of the classifiers, one a setting; of equals, the first."""
    accuracies: list[float] = []
    best = None
    for classifier, accuracy in scored:
        accuracies.append(accuracy)
        if best is None or accuracies[-1] > max(accuracies[:-1]):
            best = classifier
        if solver.in_turn and turned(accuracies, records):
            break
    assert best is not None, "a solver has a setting or more"
    index = int(np.argmax(accuracies))
    return _Choice(
        classifier=best,
        setting=settings[index],
        accuracy=accuracies[index],
        at_edge=at_edge(accuracies, len(settings)) and solver.settings[index] != solver.limit,
    )


def probe(
    pretrained: Pretrained,
    store: RecordStore,
    *,
    layers: Sequence[int] | None = None,
    solver: SolverName = "lbfgs",
    concatenate: int = 1,
    raw: bool = True,
    sgd: SGDConfig = SGD,
    folder: Path | None = None,
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
        sgd: How "sgd" trains its heads.
        folder: Where to keep the features, on disk and not in memory; what is there of the same
            network and images is not extracted again.
        seed: Draws the order of the records for "sgd".

    Raises:
        CheckpointError: What `folder` keeps is damaged.
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
    trained = len(splits[0])
    kind = solver_named(solver, records=trained, sgd_config=sgd, seed=seed, device=device)
    truth = np.concatenate(labels[:2])

    def fitted(learned: np.ndarray, test: np.ndarray, title: str) -> tuple[list[ProbeFit], _Fitted]:
        check_records(learned[:trained], truth[:trained], classes=2)
        check_records(learned[trained:], truth[trained:])
        check_records(test, labels[2])
        return _probe_layers(kind, (learned, truth), trained, (test, labels[2]), title=title)

    def features_of(parts: list[Records], name: str) -> np.ndarray:
        if folder is not None:
            file = folder / f"{name}.npy"
            return stored_features(pretrained, parts, file, layers=numbers, title=name)
        whole = np.empty((sum(map(len, parts)), len(numbers), config.width), dtype=np.float32)
        begin = 0
        for part in parts:
            extract_features(
                pretrained, part, layers=numbers, out=whole[begin : begin + len(part)],
                title=f"features of {part.name}",
            )  # fmt: skip
            begin += len(part)
        return whole

    learned, test = features_of(splits[:2], "learned"), features_of(splits[2:], "test")
    fits, reported = fitted(learned, test, "probes")
    best = fits.index(reported.fit)
    joint = of_pixels = None
    if concatenate > 1:
        first = min(max(best - concatenate // 2, 0), len(numbers) - concatenate)
        several = slice(first, first + concatenate)
        joined, tested = (part[:, several].reshape(len(part), 1, -1) for part in (learned, test))
        _, of_several = fitted(joined, tested, "layers as one")
        joint = JointProbe(layers=tuple(numbers[several]), **vars(of_several.fit))
    if raw:
        pixels = [_pixels(split, config.image_size) for split in splits]
        (of_pixels,), _ = fitted(np.concatenate(pixels[:2]), pixels[2], "raw pixels")
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
        confusion=confusion(
            labels[2],
            np.asarray(reported.last.predict(test[:, best])),
            classes=len(store.class_names or ()),
        ),
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
