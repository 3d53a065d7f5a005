"""Probing a run: what a linear classifier reads from every layer, beside raw pixels.

Each layer's features are fitted on the train split, the penalty chosen on validation, the fit
repeated on both together, and the test split measured once (Chen et al. 2020, section 2.4). The
best layer is the one best on *validation*; its test accuracy is then reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32
from scipy.stats import spearmanr
from tqdm import tqdm

from igpt.data.batches import images_at_size
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.cheap_probes import CheapResult, neighbors_probe, ridge_probe
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import ProbeResult, probe_features
from igpt.evaluation.sgd import SGDResult, sgd_probes
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.model.transformer import ImageGPT
from igpt.processes import choose_device
from igpt.runs.run import RunFolder, seed_weights

Solver = Literal["lbfgs", "sgd", "ridge", "neighbors"]


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
    """Whether the fits did; None for a solver that does not tell."""
    gradient_norm: float | None = None


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
    """What `probe.json` holds, and `probe-untrained.json`, `probe-ridge.json` and the like."""

    solver: Solver
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


SPLITS = ("train", "validation", "test")


def probe_run(
    path: Path,
    *,
    data: Path,
    layers: Sequence[int] | None = None,
    untrained: bool = False,
    concatenate: int = 1,
    raw: bool = True,
    solver: Solver = "lbfgs",
    device: str = "auto",
    seed: int = 0,
) -> LayerProbes:
    """Probe a run's network and return the accuracies; of all layers, the run keeps them.

    With another solver than the paper's for small data, L-BFGS, the results go into a file of
    their own, `probe-ridge.json` and the like, and say how their ranking of the layers compares.

    Args:
        path: Run or model folder; a run gets `probe.json`, or `probe-untrained.json`.
        data: Record store with labels.
        layers: Layers to probe, from 0 to L; all by default.
        untrained: Probe the same network with fresh weights instead.
        concatenate: Also probe so many neighboring layers, centered on the best one, as one
            feature (section 4.4: 5 of them); 1 for none.
        raw: Probe the images' pixels beside the layers.
        solver: "lbfgs", "sgd" (the paper's for ImageNet), "ridge" or "neighbors".
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seed: Seed of the fresh weights.

    Returns:
        A row for each layer. `raw_pixels` is None if not `raw`, or with `untrained`, where it would
        only be the same again; `concatenated` is None without `concatenate`; `rank_correlation`
        compares with the run's `probe.json`, if there is one.

    Raises:
        ConfigError: No such layer, or more layers to concatenate than there are.
        DataError: No labels, no test or validation split, or images smaller than the network's.
        CheckpointError: No model at `path`.
    """
    if solver != "lbfgs" and untrained:
        raise ConfigError(f"an untrained network is probed by lbfgs, got the solver {solver}")
    pretrained = load(path, device=choose_device(device))
    if untrained:
        seed_weights(seed)
        fresh = ImageGPT(pretrained.model.config).to(pretrained.model.device).eval()
        pretrained = Pretrained(model=fresh, tokenizer=pretrained.tokenizer)
    store = RecordStore.open(data)
    splits = [store.split(name) for name in SPLITS]
    for split in splits:
        split.require_labels()
    last = pretrained.model.config.layers
    chosen = [pretrained.model.config.check_layer(layer) for layer in layers or range(last + 1)]
    if not 1 <= concatenate <= len(chosen):
        raise ConfigError(
            f"concatenate must lie between 1 and the {len(chosen)} layers probed, got {concatenate}"
        )
    run = RunFolder.open(path) if (path / "recipe.json").is_file() else None
    if solver == "lbfgs":
        compare = raw and not untrained
        probed = _probe(pretrained, splits, chosen, compare=compare, concatenate=concatenate)
        name = "probe-untrained.json" if untrained else "probe.json"
    else:
        known = None if run is None else run.read("probe.json", LayerProbes)
        probed = _probe_otherwise(
            pretrained, splits, chosen, solver, known, concatenate=concatenate, seed=seed
        )
        name = f"probe-{solver}.json"
    if layers is None and run is not None:
        run.write(name, probed)
    return probed


def _extract(
    pretrained: Pretrained, splits: list[Records], layers: list[int]
) -> list[Float32[np.ndarray, "image layer width"]]:
    return [
        extract_features(pretrained, split, layers=layers, title=f"features of {split.name}")
        for split in splits
    ]


def _probe_otherwise(
    pretrained: Pretrained,
    splits: list[Records],
    layers: list[int],
    solver: Solver,
    known: LayerProbes | None,
    *,
    concatenate: int,
    seed: int,
) -> LayerProbes:
    """Probe every layer by another solver than L-BFGS."""
    labels = [split.require_labels() for split in splits]
    features = _extract(pretrained, splits, layers)

    def fitted(features: list[np.ndarray]) -> list[dict[str, Any]]:
        """Return a row for each place of (record, place, feature)."""
        rows = []
        if solver == "sgd":
            parts = list(zip(features, labels, strict=True))
            device = str(pretrained.model.device)
            size = min(128, len(parts[0][0]))
            for found in sgd_probes(*parts, batch_size=size, seed=seed, device=device):
                rows.append({"setting": found.learning_rate, **_accuracies(found)})
            return rows
        probe = ridge_probe if solver == "ridge" else neighbors_probe
        for place in tqdm(range(features[0].shape[1]), desc=solver, unit="layer", disable=None):
            found = probe(
                *((part[:, place], label) for part, label in zip(features, labels, strict=True))
            )
            rows.append({"setting": found.setting, **_accuracies(found)})
        return rows

    rows = fitted(features)
    best = max(range(len(rows)), key=lambda index: rows[index]["validation_accuracy"])
    joint = None
    if concatenate > 1:
        several = _around(best, concatenate, len(layers))
        joined = [part[:, several].reshape(len(part), 1, -1) for part in features]
        joint = JointProbe(layers=tuple(layers[several]), **fitted(joined)[0])
    ranking = None
    theirs = {row.layer: row.validation_accuracy for row in (known.layers if known else ())}
    if all(layer in theirs for layer in layers):
        ours = [row["validation_accuracy"] for row in rows]
        known_ones = [theirs[layer] for layer in layers]
        if len(set(ours)) > 1 and len(set(known_ones)) > 1:  # or else there is no ranking
            ranking = float(spearmanr(ours, known_ones).statistic)
    return LayerProbes(
        solver=solver,
        best_layer=layers[best],
        test_accuracy=rows[best]["test_accuracy"],
        layers=tuple(
            LayerProbe(layer=layer, **row) for layer, row in zip(layers, rows, strict=True)
        ),
        rank_correlation=ranking,
        concatenated=joint,
        records={split.name: len(split) for split in splits},
    )


def _accuracies(found: SGDResult | CheapResult) -> dict[str, float]:
    return {
        "validation_accuracy": found.validation_accuracy,
        "test_accuracy": found.test_accuracy,
    }


def _probe(
    pretrained: Pretrained,
    splits: list[Records],
    layers: list[int],
    *,
    compare: bool,
    concatenate: int,
) -> LayerProbes:
    features = _extract(pretrained, splits, layers)
    size, device = pretrained.model.config.image_size, pretrained.model.device
    raw = None
    bar = tqdm(total=len(layers) + compare, desc="probes", unit="fit", disable=None)
    with bar:
        if compare:
            raw = _fit([raw_pixels(split, size) for split in splits], splits, device)
            bar.update()
        found = []
        for place in range(len(layers)):
            found.append(_fit([part[:, place] for part in features], splits, device))
            bar.update()
            bar.set_postfix(best=f"{max(result.validation_accuracy for result in found):.1%}")
    best = max(range(len(layers)), key=lambda place: found[place].validation_accuracy)
    joint = None
    if concatenate > 1:
        several = _around(best, concatenate, len(layers))
        joined = [part[:, several].reshape(len(part), -1) for part in features]
        result = _fit(joined, splits, device)
        joint = JointProbe(layers=tuple(layers[several]), **_told(result))
    return LayerProbes(
        solver="lbfgs",
        best_layer=layers[best],
        test_accuracy=found[best].test_accuracy,
        layers=tuple(
            LayerProbe(layer=layer, **_told(result))
            for layer, result in zip(layers, found, strict=True)
        ),
        concatenated=joint,
        raw_pixels=None if raw is None else ProbeFit(**_told(raw)),
        records={split.name: len(split) for split in splits},
    )


def _around(best: int, count: int, layers: int) -> slice:
    """Return so many neighboring layers, centered on the best one as far as there are any."""
    first = min(max(best - count // 2, 0), layers - count)
    return slice(first, first + count)


def raw_pixels(records: Records, size: int) -> Float32[np.ndarray, "image value"]:
    """Return the images' pixels at the network's size as features in [-1, 1], for comparison."""
    images = images_at_size(records, size)
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(127.5) - 1


def _fit(features: list[np.ndarray], splits: list[Records], device: torch.device) -> ProbeResult:
    train, validation, test = (
        (part, split.require_labels()) for part, split in zip(features, splits, strict=True)
    )
    return probe_features(train, validation, test, device=str(device))


def _told(result: ProbeResult) -> dict[str, Any]:
    return {
        "validation_accuracy": result.validation_accuracy,
        "test_accuracy": result.test_accuracy,
        "setting": result.l2,
        "converged": result.converged,
        "gradient_norm": result.gradient_norm,
    }
