"""The protocol of probes: settings are chosen on validation, and the test split is scored once.

It is the same for all solvers (Chen et al. 2020, sections 2.4 and 3.1): several settings are fitted
to the train split, the one most accurate on validation is fitted again to both together, and only
that fit sees the test split.

    fits = probe_features(ridge(), train, validation, test)    # each (features, labels)

Which features, and what becomes of the classifiers, is known to `igpt.evaluation.probe`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer
from tqdm import tqdm

from igpt.evaluation.choice import at_edge, doubts, turned
from igpt.evaluation.logistic import LinearProbe, check_records, check_width, total_variance
from igpt.evaluation.solvers import Classifier, Solver

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
    return probe_layers(solver, (features, labels), len(train[0]), test, title=title)[0]


@dataclass(frozen=True)
class FittedLayer:
    """What was fitted to the features of a layer."""

    fit: ProbeFit
    chosen: Classifier
    """Fitted to the training records alone."""
    last: Classifier
    """Fitted to those of validation as well; the one that is tested."""


def probe_layers(
    solver: Solver, learned: Labelled, trained: int, test: Labelled, *, title: str | None
) -> tuple[list[ProbeFit], FittedLayer]:
    """Do what `probe_features` does, given train and validation records as one array.

    So nothing has to be copied to fit both together, and features may lie on disk. Of all the
    classifiers those of the layer best on validation are returned too, of equals the first.
    """
    layers = learned[0].shape[1]
    count = layers if solver.side_by_side else 1
    fits: list[ProbeFit] = []
    best: FittedLayer | None = None
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


def _choose(solver: Solver, learned: Labelled, trained: int, test: Labelled) -> list[FittedLayer]:
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
        fits.append(FittedLayer(fit, choice.classifier, refit))
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
