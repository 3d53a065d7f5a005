"""Measures of a run: it is loaded, measured, and keeps the result in a file of its own.

    evaluate_run     evaluation.json: the likelihood of each split
    probe_run        probe.json, probe-untrained.json, probe-ridge.json and the like; and in the
                     folder probe, the best layer's classifier, for `igpt.runs.classify`
    masks_run        masks.json
    few_labels_run   few-labels.json
    outliers_run     outliers.json, and the pictures outliers.png and extremes.png

What is measured, and how, is said in `igpt.evaluation`. Each takes the path of a run, or of a model
of any kind that `load` takes, which keeps nothing; `data`, a record store; and `device`, such as
`cpu` or `cuda`, or `auto` for the first GPU, or else the CPU. With `reuse`, what the run keeps is
returned and nothing measured again, if it was made from the same model, store and settings
(`igpt.runs.kept`). Where a run cannot be written to, the result is returned with a warning that it
is not kept. A `CheckpointError` says that there is no model at the path, or that it is damaged.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.classifier import accuracy
from igpt.evaluation.few_labels import (
    FewLabelsResult,
    drawn_from,
    few_labels,
    fitting_labels,
)
from igpt.evaluation.likelihood import LikelihoodResult, evaluate
from igpt.evaluation.masks import MasksResult, class_mask_ensemble, mask_ensemble
from igpt.evaluation.outliers import OutliersResult, compare_losses
from igpt.evaluation.probe import LayerProbes, probe_and_keep, rank_correlation
from igpt.evaluation.sgd import SGDConfig
from igpt.evaluation.solvers import SGD, SolverName
from igpt.model.pretrained import Pretrained
from igpt.model.transformer import ImageGPT, seed_weights
from igpt.paths import AnyPath, as_path, as_paths
from igpt.runs.eight_bit import require_likelihood, with_color_bits
from igpt.runs.finetune import ClassifierTraining, config_for
from igpt.runs.foreign import foreign_identity, foreign_records
from igpt.runs.kept import kept_if_possible
from igpt.runs.pictures import extremes_picture, losses_picture
from igpt.runs.recipes import FinetuneConfig
from igpt.runs.reuse import kept, kept_probe, kept_row, measured, not_probed, run_at
from igpt.seals import fingerprint
from igpt.training.averaging import exchange_averages
from igpt.training.loop import train
from igpt.training.optimizer import build_optimizer
from igpt.values import to_dict


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What `evaluation.json` holds."""

    splits: dict[str, LikelihoodResult] = field(default_factory=dict)
    """Of whole splits, by name."""


def evaluate_run(
    path: AnyPath,
    *,
    data: AnyPath,
    split: str = "test",
    images: int | None = None,
    draws: int | None = None,
    eight_bit: bool = False,
    seed: int = 0,
    device: str = "auto",
    reuse: bool = False,
) -> LikelihoodResult:
    """Return a run's likelihood on a split, of which the run keeps the newest.

    Arguments as in `igpt.evaluation.likelihood.evaluate`; with `images`, no run keeps the result.
    `eight_bit` adds the bits per dimension of 8-bit images (`igpt.runs.eight_bit`).

    Raises:
        ConfigError: Draws for a network that needs none, or bits of 8-bit images of one without a
            likelihood.
        DataError: No such split, or images smaller than the network's.
    """
    path, data = Path(path), Path(data)
    run, whole = run_at(path), images is None
    asked = {} if draws is None else {"draws": draws}
    asked |= {"eight_bit": True} if eight_bit else {}

    def measure(pretrained: Pretrained, store: RecordStore) -> Evaluation:
        if eight_bit:
            require_likelihood(pretrained)
        records = store.split(split).sample(images)
        result = evaluate(pretrained, records, draws=draws, seed=seed, title="evaluate")
        if eight_bit:
            result = with_color_bits(result, pretrained, store, records, run=run)
        known = kept(run, "evaluation.json", Evaluation)[0] if run and whole else None
        return Evaluation(splits={**(known.splits if known else {}), split: result})

    return measured(
        path, "evaluation.json", Evaluation, measure, data=data, device=device,
        settings=lambda _: {"seed": seed, **asked},
        enough=lambda known, wanted: known in (wanted, wanted | {"eight_bit": True}),
        part=split, reuse=reuse, whole=whole,
    ).splits[split]  # fmt: skip


def probe_run(
    path: AnyPath,
    *,
    data: AnyPath,
    layers: Sequence[int] | None = None,
    untrained: bool = False,
    concatenate: int = 1,
    raw: bool | None = None,
    solver: SolverName = "lbfgs",
    sgd: SGDConfig = SGD,
    folder: AnyPath | None = None,
    device: str = "auto",
    seed: int = 0,
    reuse: bool = False,
) -> LayerProbes:
    """Return what a solver reads from a run's layers; if those are all, the run keeps it.

    The paper's solver for small data, L-BFGS, gives `probe.json` or `probe-untrained.json`; of the
    trained network, the run also keeps the best layer's probe, for `Pretrained.classify`. Others
    give files of their own, such as `probe-ridge.json`, which say how their ranking of the layers
    compares with that in `probe.json`, if there is one.

    Arguments as in `igpt.evaluation.probe.probe`. `untrained` probes the same network with fresh
    weights instead, drawn by `seed`. `raw` is by default for L-BFGS alone, and not for an untrained
    network, beside which the images' pixels would only be the same again.

    Raises:
        ConfigError: No such layer, or more layers to concatenate than there are.
        DataError: No labels, no test or validation split, or images smaller than the network's.
    """
    path, data = Path(path), Path(data)
    folder = as_path(folder)
    if raw is None:
        raw = solver == "lbfgs" and not untrained
    ranked = solver != "lbfgs" and not untrained

    def measure(pretrained: Pretrained, store: RecordStore) -> LayerProbes:
        if untrained:
            seed_weights(seed)
            fresh = ImageGPT(pretrained.model.config).to(pretrained.model.device).eval()
            pretrained = Pretrained(model=fresh, tokenizer=pretrained.tokenizer)
        probed, classifier = probe_and_keep(
            pretrained, store, layers=layers, solver=solver, concatenate=concatenate, seed=seed,
            sgd=sgd, folder=folder, raw=raw,
        )  # fmt: skip
        run = run_at(path) if layers is None and not untrained else None
        if run is not None and classifier is not None:
            with kept_if_possible():
                classifier.save(run.probe)
        probed = dataclasses.replace(probed, untrained=untrained)
        known = kept_probe(path, store) if ranked else None
        if known is None:
            return probed
        return dataclasses.replace(probed, rank_correlation=rank_correlation(probed, known))

    def settings(store: RecordStore) -> dict[str, Any]:
        beside = fingerprint(to_dict(kept_probe(path, store))) if ranked else None
        return {
            "seed": seed, "compared_with": beside, "raw": raw, "concatenate": concatenate,
            "sgd": sgd if solver == "sgd" else None,
        }  # fmt: skip

    def enough(known: dict[str, Any], wanted: dict[str, Any]) -> bool:
        more = {} if wanted["raw"] else {"raw": known.get("raw")}
        more |= {} if wanted["concatenate"] > 1 else {"concatenate": known.get("concatenate")}
        return known == wanted | more  # beside the layers, there may be more than is asked for

    suffix = "-untrained" * untrained + ("" if solver == "lbfgs" else f"-{solver}")
    return measured(
        path, f"probe{suffix}.json", LayerProbes, measure, data=data, device=device,
        settings=settings, enough=enough, reuse=reuse, whole=layers is None,
    )  # fmt: skip


def masks_run(
    path: AnyPath,
    *,
    data: AnyPath,
    layer: int | None = None,
    masks: int = 5,
    seed: int = 0,
    device: str = "auto",
    reuse: bool = False,
) -> MasksResult:
    """Return the accuracies of a BERT run on test images under masks.

    A fine-tuned run answers with its class head. Of a pretrained one, probes are fitted, their
    layer, unless it is given, and penalty chosen under masks too; what whole images give is taken
    from the run's `probe.json`. Arguments as in `igpt.evaluation.masks.mask_ensemble`.

    Raises:
        ConfigError: An autoregressive network, no probe of that layer in `probe.json`, or a `layer`
            for a class head.
        DataError: No labels.
    """
    path, data = Path(path), Path(data)

    def measure(pretrained: Pretrained, store: RecordStore) -> MasksResult:
        pretrained.model.config.require_bert()
        if pretrained.class_names is None:
            row = kept_row(path, store, layer)
            if row is None:
                raise not_probed(path, store, layer)
            return mask_ensemble(
                pretrained, store, unmasked=row.test_accuracy,
                layers=None if layer is None else [layer], masks=masks, seed=seed,
            )  # fmt: skip
        if layer is not None:
            raise ConfigError(f"{path} has a class head, which reads one layer; leave out --layer")
        return class_mask_ensemble(pretrained, store.split("test"), masks=masks, seed=seed)

    def settings(store: RecordStore) -> dict[str, Any]:
        row = kept_row(path, store, layer)
        unmasked = None if row is None else row.test_accuracy
        return {"seed": seed, "masks": masks, "layer": layer, "unmasked": unmasked}

    return measured(
        path, "masks.json", MasksResult, measure, data=data, device=device, settings=settings,
        reuse=reuse,
    )  # fmt: skip


def few_labels_run(
    path: AnyPath,
    *,
    data: AnyPath,
    labels_per_class: Sequence[int] | None = None,
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

    Arguments as in `igpt.evaluation.few_labels.few_labels`; the default of `labels_per_class` is
    what fits (`fitting_labels`), and the default `layer` is the run's best
    in `probe.json`, which was chosen on validation images with all training labels.

    Raises:
        ConfigError: No such layer, or none is given where the run has not been probed.
        DataError: No labels, or a class with too few images.
    """
    path, data = Path(path), Path(data)
    tuning = (config or config_for(path)) if finetune_steps else None

    def counts(store: RecordStore) -> tuple[int, ...]:
        return tuple(labels_per_class or fitting_labels(drawn_from(store)))

    def layer_of(store: RecordStore) -> int | None:
        row = kept_row(path, store, None) if layer is None else None
        return layer if row is None else row.layer

    def measure(pretrained: Pretrained, store: RecordStore) -> FewLabelsResult:
        learned: list[float] = []  # by row and subset

        def fine_tuned(subset: Records) -> float:
            assert tuning is not None
            tuned = _fine_tuned(pretrained, subset, tuning, steps=finetune_steps, seed=seed)
            learned.append(accuracy(tuned, subset))
            return accuracy(tuned, store.split("test"))

        read = layer_of(store)
        if read is None:
            raise not_probed(path, store, None, ", or give --layer")
        how = "best on validation with all labels (probe.json)" if layer is None else "given"
        result = few_labels(
            pretrained, store, layer=read, labels_per_class=counts(store), subsets=subsets,
            seed=seed, fine_tuned=fine_tuned if finetune_steps else None,
        )  # fmt: skip
        rows = result.rows
        if learned:
            by_row = np.reshape(learned, (len(rows), subsets)).mean(axis=1).tolist()
            rows = tuple(
                dataclasses.replace(row, memorized=share)
                for row, share in zip(rows, by_row, strict=True)
            )
        return dataclasses.replace(
            result, rows=rows, layer_chosen=how, finetune_steps=finetune_steps
        )

    def settings(store: RecordStore) -> dict[str, Any]:
        return {
            "seed": seed, "labels_per_class": counts(store), "subsets": subsets,
            "layer": layer, "read": layer_of(store), "finetune_steps": finetune_steps,
            "config": tuning,
        }  # fmt: skip

    return measured(
        path, "few-labels.json", FewLabelsResult, measure, data=data, device=device,
        settings=settings, reuse=reuse,
    )  # fmt: skip


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
    optimizer = build_optimizer(model, training)
    for _ in train(
        model, optimizer, objective=begun.objective, batch_at=begun.batches.at, config=training
    ):
        pass
    exchange_averages(optimizer)
    return begun.classifier


def outliers_run(
    path: AnyPath,
    *,
    data: AnyPath,
    others: AnyPath | Sequence[AnyPath] = (),
    images: int = 1000,
    seed: int = 0,
    device: str = "auto",
    reuse: bool = False,
) -> OutliersResult:
    """Return how well a run's losses tell foreign images from its test images.

    A run also keeps `outliers.png`, how the losses of each set are spread, and `extremes.png`, its
    likeliest and unlikeliest test images. `others` are foreign images: record stores, of which all
    splits are drawn from, or folders of image files. Arguments as in
    `igpt.evaluation.outliers.compare_losses`.

    Raises:
        ConfigError: The network is not autoregressive.
        DataError: No test or validation split, or images smaller than the network's.
    """
    path, data = Path(path), Path(data)
    others = as_paths(others)

    def measure(pretrained: Pretrained, store: RecordStore) -> OutliersResult:
        foreign = {
            str(other): foreign_records(other, pretrained, count=images, seed=seed)
            for other in others
        }
        compared = compare_losses(pretrained, store, others=foreign, images=images, seed=seed)
        if run := run_at(path):
            with kept_if_possible():
                extremes_picture(compared, pretrained, run.path / "extremes.png")
                losses_picture(compared.result, run.path / "outliers.png")
        return compared.result

    def settings(_: RecordStore) -> dict[str, Any]:
        foreign = {str(other): foreign_identity(other) for other in others}
        return {"seed": seed, "images": images, "others": foreign}

    return measured(
        path, "outliers.json", OutliersResult, measure, data=data, device=device,
        settings=settings, reuse=reuse,
    )  # fmt: skip
