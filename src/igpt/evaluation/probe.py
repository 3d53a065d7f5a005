"""Probes: what a classifier reads from the features of every layer, beside raw pixels.

By the protocol of `igpt.evaluation.protocol`, the best layer is the one best on *validation*; its
test accuracy is then reported.

    probes = probe(pretrained, store)                          # every layer, and raw pixels
    probes, kept = probe_and_keep(pretrained, store)           # and the best layer's classifier

The ways to fit a classifier are in `igpt.evaluation.solvers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from scipy.stats import spearmanr

from igpt.data.batches import images_at_size
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.calibration import calibrated
from igpt.evaluation.confusion import Confusion, confusion
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import LinearProbe, check_records
from igpt.evaluation.protocol import FittedLayer, ProbeFit, probe_layers
from igpt.evaluation.sgd import SGDConfig
from igpt.evaluation.solvers import SGD, SolverName, solver_named
from igpt.evaluation.stored_features import stored_features
from igpt.model.kept_probe import KeptProbe
from igpt.model.pretrained import Pretrained


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
    class_names: tuple[str, ...] | None = None
    """Of its rows and columns; None in results older than the question."""
    untrained: bool = False
    """Whether the network's weights were fresh ones; always false in results older than that."""

    @property
    def best(self) -> LayerProbe:
        """The row of the best layer."""
        return next(row for row in self.layers if row.layer == self.best_layer)


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
    """Return what a solver reads from the layers of a network; arguments as in `probe_and_keep`."""
    return probe_and_keep(
        pretrained, store, layers=layers, solver=solver, concatenate=concatenate, raw=raw, sgd=sgd,
        folder=folder, seed=seed,
    )[0]  # fmt: skip


def probe_and_keep(
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
) -> tuple[LayerProbes, KeptProbe | None]:
    """Return what a solver reads from the layers of a network, and the best layer's classifier.

    That is the classifier which the test accuracy is of, as something to keep; None if the solver
    is another than "lbfgs".

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

    def fitted(
        learned: np.ndarray, test: np.ndarray, title: str
    ) -> tuple[list[ProbeFit], FittedLayer]:
        check_records(learned[:trained], truth[:trained], classes=2)
        check_records(learned[trained:], truth[trained:])
        check_records(test, labels[2])
        return probe_layers(kind, (learned, truth), trained, (test, labels[2]), title=title)

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
    tested_on = test[:, best]
    predicted = np.asarray(reported.last.predict(tested_on))
    result = LayerProbes(
        solver=solver,
        best_layer=numbers[best],
        test_accuracy=fits[best].test_accuracy,
        layers=tuple(
            LayerProbe(layer=layer, **vars(fit)) for layer, fit in zip(numbers, fits, strict=True)
        ),
        concatenated=joint,
        raw_pixels=of_pixels,
        records={split.name: len(split) for split in splits},
        confusion=confusion(labels[2], predicted, classes=len(store.class_names or ())),
        class_names=store.class_names,
    )
    kept = None
    if isinstance(reported.last, LinearProbe):
        assert isinstance(reported.chosen, LinearProbe)
        names = store.class_names
        assert names is not None, "records with labels have classes"
        kept = KeptProbe(
            layer=numbers[best],
            class_names=tuple(names[label] for label in reported.last.classes_),
            penalty=reported.last.l2,
            preparation=store.preparation,
            validation_accuracy=reported.fit.validation_accuracy,
            test_accuracy=reported.fit.test_accuracy,
            test_right=int((predicted == labels[2]).sum()),
            test_images=len(predicted),
            calibration=calibrated(
                reported.last, (tested_on, labels[2]),
                by=reported.chosen, held_out=(learned[trained:, best], labels[1]),
            ),
            model=pretrained.identity,
            store=store.identity,
            weight=reported.last.weight_,
            intercept=reported.last.intercept_,
        )  # fmt: skip
    return result, kept


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
