"""Measures of a run: it is loaded, measured, and keeps the result in a file of its own.

    evaluate_run     evaluation.json: the likelihood of each split
    probe_run        probe.json, probe-untrained.json, probe-ridge.json and the like
    masks_run        masks.json
    few_labels_run   few-labels.json
    outliers_run     outliers.json, and the pictures outliers.png and extremes.png
    write_features   an .npz of any name

What is measured, and how, is said in `igpt.evaluation`. Each takes the path of a run, or of a model
of any kind that `load` takes, which keeps nothing; `data`, a record store; and `device`, such as
`cpu` or `cuda`, or `auto` for the first GPU, or else the CPU. With `reuse`, what the run keeps is
returned and nothing measured again. A `CheckpointError` says that there is no model at the path, or
that what the run keeps is damaged.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.classifier import accuracy
from igpt.evaluation.features import extract_features
from igpt.evaluation.few_labels import FewLabelsResult, few_labels
from igpt.evaluation.likelihood import LikelihoodResult, evaluate
from igpt.evaluation.masks import MasksResult, class_mask_ensemble, mask_ensemble
from igpt.evaluation.outliers import OutliersResult, compare_losses
from igpt.evaluation.probe import LayerProbe, LayerProbes, probe, rank_correlation
from igpt.evaluation.solvers import SolverName
from igpt.files import written_aside
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.model.transformer import ImageGPT
from igpt.processes import choose_device
from igpt.runs.finetune import ClassifierTraining, config_for
from igpt.runs.pictures import extremes_picture, losses_picture
from igpt.runs.recipes import FinetuneConfig
from igpt.runs.run import Result, RunFolder, seed_weights
from igpt.training.loop import train
from igpt.training.optimizer import build_optimizer


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `evaluation.json` holds."""

    splits: dict[str, LikelihoodResult] = field(default_factory=dict)
    """Of whole splits, by name."""


def _run_at(path: Path) -> RunFolder | None:
    """Return the run that may keep a result; None for a model that is in no run."""
    return RunFolder.open(path) if (path / "recipe.json").is_file() else None


def _measured(
    path: Path,
    name: str,
    kind: type[Result],
    measure: Callable[[Pretrained, RecordStore], Result],
    *,
    data: Path,
    device: str,
    reuse: bool = False,
    whole: bool = True,
) -> Result:
    """Return what a run keeps under this name, if that will do; or else measure and keep it.

    Part of a measure, if it is not `whole`, is neither kept nor taken from what is.
    """
    run = _run_at(path) if whole else None
    known = run.read(name, kind) if run is not None and reuse else None
    if known is not None:
        return known
    result = measure(load(path, device=choose_device(device)), RecordStore.open(data))
    if run is not None:
        run.write(name, result)
    return result


def evaluate_run(
    path: Path,
    *,
    data: Path,
    split: str = "test",
    images: int | None = None,
    seed: int = 0,
    device: str = "auto",
    reuse: bool = False,
) -> LikelihoodResult:
    """Return a run's likelihood on a split, of which the run keeps the newest.

    Arguments as in `igpt.evaluation.likelihood.evaluate`; with `images`, no run keeps the result.

    Raises:
        DataError: No such split, or images smaller than the network's.
    """
    whole = images is None
    run = _run_at(path) if whole else None
    known = (run.read("evaluation.json", Evaluation) if run else None) or Evaluation()
    if reuse and split in known.splits:
        return known.splits[split]

    def measure(pretrained: Pretrained, store: RecordStore) -> Evaluation:
        result = evaluate(
            pretrained, store.split(split), images=images, seed=seed, title="evaluate"
        )
        return Evaluation(splits={**known.splits, split: result})

    return _measured(
        path, "evaluation.json", Evaluation, measure, data=data, device=device, whole=whole
    ).splits[split]


def probe_run(
    path: Path,
    *,
    data: Path,
    layers: Sequence[int] | None = None,
    untrained: bool = False,
    concatenate: int = 1,
    raw: bool = True,
    solver: SolverName = "lbfgs",
    device: str = "auto",
    seed: int = 0,
    reuse: bool = False,
) -> LayerProbes:
    """Return what a solver reads from a run's layers; if those are all, the run keeps it.

    The paper's solver for small data, L-BFGS, gives `probe.json` or `probe-untrained.json`. Others
    give files of their own, such as `probe-ridge.json`, which say how their ranking of the layers
    compares with that in `probe.json`, if there is one.

    Arguments as in `igpt.evaluation.probe.probe`. `untrained` probes the same network with fresh
    weights instead, drawn by `seed`. `raw` is for L-BFGS, and not for an untrained network, beside
    which the images' pixels would only be the same again.

    Raises:
        ConfigError: No such layer, or more layers to concatenate than there are.
        DataError: No labels, no test or validation split, or images smaller than the network's.
    """
    if solver != "lbfgs" and untrained:
        raise ConfigError(f"an untrained network is probed by lbfgs, got the solver {solver}")

    def measure(pretrained: Pretrained, store: RecordStore) -> LayerProbes:
        if untrained:
            seed_weights(seed)
            fresh = ImageGPT(pretrained.model.config).to(pretrained.model.device).eval()
            pretrained = Pretrained(model=fresh, tokenizer=pretrained.tokenizer)
        probed = probe(
            pretrained, store, layers=layers, solver=solver, concatenate=concatenate, seed=seed,
            raw=raw and solver == "lbfgs" and not untrained,
        )  # fmt: skip
        run = _run_at(path)
        known = run.read("probe.json", LayerProbes) if run and solver != "lbfgs" else None
        if known is None:
            return probed
        return dataclasses.replace(probed, rank_correlation=rank_correlation(probed, known))

    suffix = "-untrained" if untrained else "" if solver == "lbfgs" else f"-{solver}"
    return _measured(
        path, f"probe{suffix}.json", LayerProbes, measure, data=data, device=device, reuse=reuse,
        whole=layers is None,
    )  # fmt: skip


def _probed_layer(path: Path, layer: int | None, *, instead: str = "") -> LayerProbe:
    """Return what a run's `probe.json` says of a layer, or of the best one.

    Raises:
        ConfigError: It was not probed.
    """
    run = _run_at(path)
    probed = run.read("probe.json", LayerProbes) if run else None
    rows = {row.layer: row for row in probed.layers} if probed else {}
    wanted = probed.best_layer if probed and layer is None else layer
    if wanted not in rows:
        which = "" if layer is None else f" at layer {layer}"
        raise ConfigError(
            f"{path} has not been probed{which}, and that decides the layer and the penalty; run "
            f"igpt probe first{instead}"
        )
    return rows[wanted]


def masks_run(
    path: Path,
    *,
    data: Path,
    layer: int | None = None,
    masks: int = 5,
    seed: int = 0,
    device: str = "auto",
    reuse: bool = False,
) -> MasksResult:
    """Return the accuracies of a BERT run on test images under masks.

    A fine-tuned run answers with its class head. Of a pretrained one, probes are fitted; layer and
    penalty are the best of the run's `probe.json`; with `layer` given, its row there. Arguments as
    in `igpt.evaluation.masks.mask_ensemble`.

    Raises:
        ConfigError: An autoregressive network, no probe of that layer in `probe.json`, or a `layer`
            for a class head.
        DataError: No labels.
    """

    def measure(pretrained: Pretrained, store: RecordStore) -> MasksResult:
        pretrained.model.config.require_bert()
        test = store.split("test")
        if pretrained.class_names is None:
            row = _probed_layer(path, layer)
            return mask_ensemble(
                pretrained, store.split("train+validation"), test, layer=row.layer, l2=row.setting,
                masks=masks, seed=seed,
            )  # fmt: skip
        if layer is not None:
            raise ConfigError(f"{path} has a class head, which reads one layer; leave out --layer")
        return class_mask_ensemble(pretrained, test, masks=masks, seed=seed)

    return _measured(
        path, "masks.json", MasksResult, measure, data=data, device=device, reuse=reuse
    )


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
    reuse: bool = False,
) -> FewLabelsResult:
    """Return what few labels teach probes of a run's features.

    Beside the probes, all weights can be fine-tuned on the same subsets for `finetune_steps`, which
    the paper found to do worse (section 4.7). As there are no other labels to stop by, that takes a
    fixed number of steps, with the rates and losses of `config`, by default the run's recipe.

    Arguments as in `igpt.evaluation.few_labels.few_labels`; the default `layer` is the run's best
    in `probe.json`, which was chosen on validation images with all training labels.

    Raises:
        ConfigError: No such layer, or none is given where the run has not been probed.
        DataError: No labels, or a class with too few images.
    """

    def measure(pretrained: Pretrained, store: RecordStore) -> FewLabelsResult:
        def fine_tuned(subset: Records) -> float:
            chosen = config or config_for(path)
            tuned = _fine_tuned(pretrained, subset, chosen, steps=finetune_steps, seed=seed)
            return accuracy(tuned, store.split("test"))

        read, how = layer, "given"
        if read is None:
            read = _probed_layer(path, None, instead=", or give --layer").layer
            how = "best on validation with all labels (probe.json)"
        result = few_labels(
            pretrained, store, layer=read, labels_per_class=labels_per_class, subsets=subsets,
            seed=seed, fine_tuned=fine_tuned if finetune_steps else None,
        )  # fmt: skip
        return dataclasses.replace(result, layer_chosen=how, finetune_steps=finetune_steps)

    return _measured(
        path, "few-labels.json", FewLabelsResult, measure, data=data, device=device, reuse=reuse
    )


def _fine_tuned(
    pretrained: Pretrained, records: Records, config: FinetuneConfig, *, steps: int, seed: int
) -> Pretrained:
    """Return the network after so many steps on these records."""
    training = dataclasses.replace(
        config.training,
        steps=steps,
        warmup_steps=steps // 10,
        warmup_epochs=0.0,
        seed=seed,
        batch_size=min(config.training.batch_size, len(records)),
    )
    config = dataclasses.replace(config, training=training)
    begun = ClassifierTraining.begin(pretrained, records, config, pretrained.model.device)
    model = begun.classifier.model
    for _ in train(
        model, build_optimizer(model, training),
        objective=begun.objective, batch_at=begun.batches.at, config=training,
    ):  # fmt: skip
        pass
    return begun.classifier


def outliers_run(
    path: Path,
    *,
    data: Path,
    others: Sequence[Path] = (),
    images: int = 1000,
    seed: int = 0,
    device: str = "auto",
    reuse: bool = False,
) -> OutliersResult:
    """Return how well a run's losses tell foreign images from its test images.

    A run also keeps `outliers.png`, how the losses of each set are spread, and `extremes.png`, its
    likeliest and unlikeliest test images. `others` are record stores of foreign images; arguments
    as in `igpt.evaluation.outliers.compare_losses`.

    Raises:
        ConfigError: The network is not autoregressive.
        DataError: No test or validation split, or images smaller than the network's.
    """

    def measure(pretrained: Pretrained, store: RecordStore) -> OutliersResult:
        stores = [RecordStore.open(other) for other in others]
        compared = compare_losses(pretrained, store, others=stores, images=images, seed=seed)
        if run := _run_at(path):
            extremes_picture(compared, pretrained, run.path / "extremes.png")
            losses_picture(compared, run.path / "outliers.png")
        return compared.result

    return _measured(
        path, "outliers.json", OutliersResult, measure, data=data, device=device, reuse=reuse
    )


def write_features(
    path: Path,
    *,
    data: Path,
    out: Path,
    layers: Sequence[int] | None = None,
    device: str = "auto",
) -> dict[str, tuple[int, ...]]:
    """Write the features of every split to one `.npz` and return the arrays' shapes.

    Raises:
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
