"""Figures and features of a run, kept as files."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from igpt.data.store import RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features
from igpt.evaluation.likelihood import LikelihoodResult, evaluate
from igpt.evaluation.masks import MaskEnsemble, class_mask_ensemble, mask_ensemble
from igpt.files import written_aside
from igpt.formats.load import load
from igpt.processes import choose_device
from igpt.runs.probe import LayerProbes
from igpt.runs.run import RunFolder


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `evaluation.json` holds."""

    splits: dict[str, LikelihoodResult] = field(default_factory=dict)
    """Of whole splits, by name."""


@dataclass(frozen=True, kw_only=True)
class MasksResult:
    """What `masks.json` holds: test accuracies of a BERT network under masks."""

    layer: int
    """That was read."""
    penalty: float | None
    """Of the probes; None for a class head."""
    seed: int
    masks: int
    modal: float
    """Of the modal class over all masks."""
    single: tuple[float, ...]
    """Of each mask alone."""
    single_mean: float
    unmasked: float


def evaluate_run(
    path: Path,
    *,
    data: Path,
    split: str = "test",
    images: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> LikelihoodResult:
    """Measure a run's likelihood on a split and return it; of a whole split, the run keeps it.

    `evaluation.json` holds the newest result of each split.

    Raises:
        CheckpointError: No model at `path`.
        DataError: No such split, or images smaller than the network's.
    """
    pretrained = load(path, device=choose_device(device))
    records = RecordStore.open(data).split(split)
    result = evaluate(pretrained, records, images=images, seed=seed, progress=True)
    if images is None and (path / "recipe.json").is_file():
        run = RunFolder.open(path)
        known = run.read("evaluation.json", Evaluation) or Evaluation()
        run.write("evaluation.json", Evaluation(splits={**known.splits, split: result}))
    return result


def masks_run(
    path: Path,
    *,
    data: Path,
    layer: int | None = None,
    masks: int = 5,
    seed: int = 0,
    device: str = "auto",
) -> MasksResult:
    """Classify test images under several masks and return the accuracies, kept as `masks.json`.

    A fine-tuned run answers with its class head. Of a pretrained one, probes are fitted; layer and
    penalty are the best of the run's `probe.json`; with `layer` given, its row there.

    Raises:
        ConfigError: An autoregressive network, no probe of that layer in `probe.json`, or a `layer`
            for a class head.
        CheckpointError: `path` is no run.
        DataError: No labels.
    """
    run = RunFolder.open(path)
    pretrained = load(path, device=choose_device(device))
    pretrained.model.config.require_bert()
    store = RecordStore.open(data)
    if pretrained.class_names is not None:
        if layer is not None:
            raise ConfigError(f"{path} has a class head, which reads one layer; leave out --layer")
        found = class_mask_ensemble(pretrained, store.split("test"), masks=masks, seed=seed)
        read = pretrained.model.config.check_layer(pretrained.class_layer)
        return _keep_masks(run, found, layer=read, penalty=None, seed=seed)
    probe = run.read("probe.json", LayerProbes)
    wanted = probe.best_layer if probe is not None and layer is None else layer
    rows = [row for row in (probe.layers if probe else ()) if row.layer == wanted]
    if wanted is None or not rows:
        raise ConfigError(
            f"{path} has no probe of "
            + ("any layer" if wanted is None else f"layer {wanted}")
            + ", which tells the penalty; run igpt probe first"
        )
    found = mask_ensemble(
        pretrained, store.split("train+validation"), store.split("test"), layer=wanted,
        l2=rows[0].setting, masks=masks, seed=seed,
    )  # fmt: skip
    return _keep_masks(run, found, layer=wanted, penalty=rows[0].setting, seed=seed)


def _keep_masks(
    run: RunFolder, found: MaskEnsemble, *, layer: int, penalty: float | None, seed: int
) -> MasksResult:
    result = MasksResult(
        layer=layer,
        penalty=penalty,
        seed=seed,
        single_mean=found.single_mean,
        **dataclasses.asdict(found),
    )
    run.write("masks.json", result)
    return result


def write_features(
    path: Path,
    *,
    data: Path,
    out: Path,
    layers: Sequence[int] | None = None,
    device: str = "auto",
) -> dict[str, tuple[int, ...]]:
    """Write the features of every split of `data` to one `.npz` and return the arrays' shapes.

    Raises:
        CheckpointError: No model at `path`.
        ConfigError: No such layer, or `out` is no `.npz`.
        DataError: Images smaller than the network's.
    """
    if out.suffix != ".npz":
        raise ConfigError(f"features are written as .npz, got --out {out}; try {out}.npz")
    pretrained = load(path, device=choose_device(device))
    store = RecordStore.open(data)
    if layers is None:
        layers = range(pretrained.model.config.layers + 1)
    arrays: dict[str, np.ndarray] = {"layers": np.array(list(layers))}
    for name in store.splits:
        records = store.split(name)
        arrays[f"{name}_features"] = extract_features(
            pretrained, records, layers=layers, title=name
        )
        if records.labels is not None:
            arrays[f"{name}_labels"] = np.asarray(records.labels)
    if store.class_names is not None:
        arrays["class_names"] = np.array(store.class_names)
    with written_aside(out) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)  # pyrefly: ignore
    return {name: array.shape for name, array in arrays.items()}
