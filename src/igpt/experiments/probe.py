"""Probing a run: what a linear classifier reads from every layer, beside raw pixels.

Each layer's features are fitted on the train split, the penalty chosen on validation, the fit
repeated on both together, and the test split measured once (Chen et al. 2020, section 2.4). The
best layer is the one best on *validation*; its test accuracy is then reported.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from tqdm import tqdm

from igpt.data.batches import images_at_size
from igpt.data.records import Records, RecordStore
from igpt.evaluation.features import extract_features
from igpt.evaluation.linear_probe import PENALTIES, ProbeResult, probe_features
from igpt.experiments.run import RunFolder, choose_device, seed_everything
from igpt.model.loading import load
from igpt.model.pretrained import Pretrained
from igpt.model.transformer import ImageGPT
from igpt.objectives.classification import check_layer

SPLITS = ("train", "validation", "test")


def probe_run(
    path: Path,
    *,
    data: Path,
    layers: Sequence[int] | None = None,
    untrained: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> dict[str, Any]:
    """Probe a run's network and return the accuracies; of all layers, the run keeps them.

    Args:
        path: Run or model folder; a run gets `probe.json`, or `probe-untrained.json`.
        data: Record store with labels.
        layers: Layers to probe, from 0 to L; all by default.
        untrained: Probe the same network with fresh weights instead.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seed: Seed of the fresh weights.

    Returns:
        `raw_pixels` (test accuracy of logistic regression on the same images' pixels; None with
        `untrained`, where it would only be the same again),
        `best_layer`, `test_accuracy` (of the best layer) and `layers`, a list with `layer`,
        `validation_accuracy`, `test_accuracy`, `penalty`, `converged`, `gradient_norm`.

    Raises:
        DataError: No labels, no test or validation split, or images smaller than the network's.
        CheckpointError: No model at `path`.
    """
    pretrained = load(path, device=choose_device(device))
    if untrained:
        seed_everything(seed)
        fresh = ImageGPT(pretrained.model.config).to(pretrained.model.device)
        pretrained = Pretrained(model=fresh, tokenizer=pretrained.tokenizer)
    store = RecordStore.open(data)
    splits = [store.split(name) for name in SPLITS]
    for split in splits:
        split.require_labels()
    probed = _probe(pretrained, splits, layers, compare=not untrained)
    if layers is None and (path / "recipe.json").is_file():
        name = "probe-untrained.json" if untrained else "probe.json"
        RunFolder.open(path).write(name, probed)
    return probed


def _probe(
    pretrained: Pretrained, splits: list[Records], layers: Sequence[int] | None, *, compare: bool
) -> dict[str, Any]:
    if layers is None:
        layers = range(pretrained.model.config.layers + 1)
    layers = [check_layer(pretrained.model, layer) for layer in layers]
    features = [
        extract_features(pretrained, split, layers=layers, title=f"features of {split.name}")
        for split in splits
    ]
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
    return {
        "raw_pixels": raw and raw.test_accuracy,
        "best_layer": layers[best],
        "test_accuracy": found[best].test_accuracy,
        "layers": [
            {"layer": layer, **_told(result)} for layer, result in zip(layers, found, strict=True)
        ],
        "raw_pixels_fit": raw and _told(raw),
        "penalties": list(PENALTIES),
        "records": {split.name: len(split) for split in splits},
    }


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
        "penalty": result.l2,
        "converged": result.converged,
        "gradient_norm": result.gradient_norm,
    }
