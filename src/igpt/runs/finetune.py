"""Fine-tuning: a pretrained run and labelled images become a classifier, in a run of its own.

A class head is put on the pretrained network, or, as a baseline, on one with fresh weights: that of
a linear probe, or, as in the paper, one of zeros. All weights learn from the class loss and, by a
coefficient, the pixel loss. The weights of the best validation accuracy are kept, those before the
first step among them, training stops when it no longer rises, and the test split is measured once,
at the end.

With the validation images folded in, there is nothing to stop by: training takes all of its steps.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from igpt import processes
from igpt.data.batches import TokenBatches, check_fits
from igpt.data.store import FOLDED, Records, RecordStore
from igpt.evaluation.classifier import score
from igpt.evaluation.confusion import Confusion
from igpt.evaluation.features import extract_features
from igpt.evaluation.probed_head import probed_head
from igpt.formats.load import load
from igpt.model.class_head import MappedHead
from igpt.model.compiler import require_compiler
from igpt.model.pretrained import Pretrained
from igpt.model.transformer import seed_weights
from igpt.model.weights import read_sealed, write_sealed
from igpt.objectives.classification import Classification
from igpt.paths import AnyPath
from igpt.places import run_of
from igpt.planning.here import hardware_of, memory_watched, require_fits
from igpt.processes import choose_device
from igpt.runs.begun import require_room_or_begun, run_begun
from igpt.runs.recipes import FinetuneConfig, Recipe
from igpt.runs.run import (
    DataIdentity,
    FinetuneSettings,
    PretrainSettings,
    RunFolder,
)
from igpt.training.fit import EarlyStop, fit
from igpt.training.precision import settled
from igpt.training.tracking import Tracker, begin_tracking, require_tracker

_LEARNED_FROM, _CHOSEN_BY, _TESTED = range(3)  # whose images masks hide

HEAD = "head.safetensors"
"""The class head that a run began with, so that it goes on with the very same map."""


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What `finetune.json` holds of a finished run."""

    test_accuracy: float | None
    """None where it was not to be measured yet. Like the next, of a BERT network under one mask an
    image, as in training."""
    validation_accuracy: float | None
    """The best; None where validation images were learned from."""
    best_step: int
    """Updates after which the weights were kept; 0 if none made them better."""
    steps: int
    """Updates done."""
    pixel_coefficient: float
    layer: int
    """That the class head reads."""
    seconds: float
    confusion: Confusion | None = None
    """What test images are taken for, beside `test_accuracy`; None of over 100 classes, and in
    results older than the question. Like the next two, there once the test split is measured."""
    class_names: tuple[str, ...] | None = None
    """Of its rows and columns."""
    test_images: int | None = None
    """That `test_accuracy` was measured on."""


def finetune(
    source: AnyPath,
    *,
    data: AnyPath,
    out: AnyPath,
    config: FinetuneConfig,
    device: str = "auto",
    seconds: float | None = None,
    fold_validation: bool = False,
    measure_test: bool = True,
    track: Tracker | None = None,
) -> RunFolder:
    """Fine-tune a pretrained network on the labels of `data` and return the new run.

    Args:
        source: Run or model folder.
        data: Record store with labels and a validation split.
        out: Folder of the new run; must not hold one.
        config: Losses, rates, patience.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.
        fold_validation: Learn from train and validation images together, for all of the steps.
        measure_test: Measure the test split at the end; or else `test_accuracy` is None, and
            `report_test` may fill it in.
        track: Draw the curves there too, now and when it is resumed; see `igpt.training.tracking`.

    Returns:
        The run; once it is finished its `finetune.json` holds a `FinetuneResult`.

    Raises:
        ConfigError: The settings do not go together, `out` holds something, or the extra of `track`
            is missing.
        DataError: No labels, or images smaller than the network's.
        CheckpointError: No model at `source`.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    source, data, out = Path(source), Path(data), Path(out)
    require_room_or_begun(out)
    require_tracker(track)
    store, pretrained, chosen = RecordStore.open(data), load(source), choose_device(device)
    config = dataclasses.replace(
        config, training=settled(config.training, chosen, pretrained.model.config)
    )
    split = FOLDED if fold_validation else "train"
    check(pretrained, config, store, chosen, split=split)
    settings = FinetuneSettings(
        source=str(source),
        config=config,
        model=pretrained.model.config,
        mask_probability=pretrained.mask_probability,
        data=DataIdentity.of(store, data),
        split=split,
        measure_test=measure_test,
        palette=pretrained.palette.fingerprint,
    )
    run = run_begun(out, settings)
    if run is None:
        run = RunFolder.create(
            out,
            settings=settings,
            palette=pretrained.palette,
            device=chosen,
            # so that the run can go on when the source is gone
            pretrained=None if config.from_scratch else pretrained,
        )
    with run.held():
        begin_tracking(run.path, track)
        return go_on(run, settings, store, chosen, seconds)


def config_for(source: Path, *, from_scratch: bool = False) -> FinetuneConfig:
    """Return the fine-tuning settings that fit a run: its recipe's, or else the defaults.

    Args:
        source: Run or model folder.
        from_scratch: Return those of the baseline from scratch.

    Raises:
        CheckpointError: The run's recipe is damaged.
    """
    recipe = Recipe()
    if RunFolder.is_at(run_of(source)):
        settings = RunFolder.open(source).settings
        if isinstance(settings, PretrainSettings):
            recipe = settings.recipe
    return recipe.baseline if from_scratch else recipe.finetune


def check(
    pretrained: Pretrained,
    config: FinetuneConfig,
    store: RecordStore,
    device: torch.device,
    *,
    split: str = "train",
) -> None:
    """See that network, settings, images and device go together, before anything is written.

    Raises:
        ConfigError: No such layer, a batch larger than the split or not for so many processes, a
            warm-up longer than the run, no compiler where one is wanted, or not enough memory.
        DataError: No labels, no such split, or images too small for the network.
    """
    pretrained.model.config.check_layer(config.layer)
    if config.training.compile:
        require_compiler(device, "training.compile=true")
    for name in ("train", "validation", "test"):
        store.split(name).require_labels()
    records = store.split(split)
    check_fits(
        records,
        pretrained.tokenizer,
        batch_size=config.training.batch_size,
        augmentation=config.augmentation,
    )
    processes.require_divisible(config.training.batch_size)
    config.training.for_records(len(records))
    require_fits(
        pretrained.model.config, config.training, hardware_of(device),
        workload=config.workload(pretrained.mask_probability),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClassifierTraining:
    """A network with a class head, and what it is to learn from."""

    classifier: Pretrained
    objective: Classification
    batches: TokenBatches

    @classmethod
    def begin(
        cls,
        pretrained: Pretrained,
        records: Records,
        config: FinetuneConfig,
        device: torch.device,
        *,
        head_file: Path | None = None,
    ) -> "ClassifierTraining":
        """Return a network as `config` begins it, from these weights or from fresh ones.

        Args:
            pretrained: Network to begin from; it may be moved to the device, and is not changed.
            records: Labelled images to learn from.
            config: Head, losses, batches, seed.
            device: Where to train.
            head_file: Where the head that it begins with is kept: read from there, or else made and
                written. By default it is made and not kept.

        Raises:
            DataError: A probe is to be fitted to images of one class.
        """
        assert records.class_names is not None
        if config.from_scratch:
            seed_weights(config.training.seed)
            pretrained = Pretrained.build(
                pretrained.model.config,
                pretrained.palette,
                mask_probability=pretrained.mask_probability,
                preparation=pretrained.tokenizer.preparation,
            )
        pretrained.model.to(device)
        if processes.by_first(lambda: head_file is not None and head_file.is_file()):
            assert head_file is not None
            head = MappedHead(**read_sealed(head_file))
        else:
            head = first_head(pretrained, records, config)
            if processes.first() and head is not None and head_file is not None:
                write_sealed(head_file, head.state_dict())
        classifier = pretrained.with_class_head(records.class_names, config.layer, head)
        classifier.model.set_dropout(config.dropout)
        return cls(
            classifier=classifier,
            objective=Classification(
                pixel_coefficient=config.pixel_coefficient,
                layer=config.layer,
                mask_probability=classifier.mask_probability,
            ),
            batches=TokenBatches(
                records,
                classifier.tokenizer,
                batch_size=config.training.batch_size,
                seed=config.training.seed,
                augmentation=config.augmentation,
                rank=processes.rank(),
                ranks=processes.count(),
            ),
        )


def first_head(
    pretrained: Pretrained, records: Records, config: FinetuneConfig
) -> MappedHead | None:
    """Return the class head that a network begins with: a probe of its features; None for zeros.

    The probe is fitted to `config.head_images` of the records, of a BERT network under a mask each.
    """
    if config.head == "zero":
        return None
    records, seed = records.sample(config.head_images), config.training.seed
    features = extract_features(
        pretrained,
        records,
        layers=[pretrained.model.config.check_layer(config.layer)],
        mask_seed=_mask_seed(pretrained, seed, _LEARNED_FROM),
        title="features for the class head",
    )
    labels, classes = records.require_labels(), len(records.class_names or ())
    return processes.by_first(lambda: probed_head(features[:, 0], labels, classes=classes))


def _mask_seed(pretrained: Pretrained, seed: int, images: int) -> tuple[int, ...] | None:
    """Return what draws the masks of some images; None for a network that is shown all of them."""
    return None if pretrained.model.config.causal else (seed, images)


def go_on(
    run: RunFolder,
    settings: FinetuneSettings,
    store: RecordStore,
    device: torch.device,
    seconds: float | None,
) -> RunFolder:
    """Train a run from its newest state, or its start, to its end; arguments as in `finetune`."""
    config, training = settings.config, settings.config.training
    if config.from_scratch:
        pretrained = Pretrained.build(
            settings.model, run.palette, mask_probability=settings.mask_probability
        )
    else:
        pretrained = load(run.path / "pretrained")
    pretrained = pretrained.prepared(store.preparation)
    records, validation = store.split(settings.split), store.split("validation")
    begun = ClassifierTraining.begin(pretrained, records, config, device, head_file=run.path / HEAD)
    folded = settings.split == FOLDED  # then nothing is held out, and nothing to stop by

    def validate(updates: int) -> dict[str, float]:
        if folded:
            return {}
        sample = validation.sample(training.validation_images)
        masks = _mask_seed(begun.classifier, training.seed, _CHOSEN_BY)
        found = score(begun.classifier, sample, mask_seed=masks)
        return {"validation_accuracy": found.accuracy}

    stop = EarlyStop(measure="validation_accuracy", patience=config.patience)
    with memory_watched(
        settings.model, training, device, workload=config.workload(settings.mask_probability)
    ):
        memory = fit(
            run.path,
            begun.classifier,
            training=training.for_records(len(records)),
            objective=begun.objective,
            batch_at=begun.batches.at,
            validate=validate,
            fingerprint=run.fingerprint,
            records=len(records),
            longer=run.longer,
            early_stop=None if folded else stop,
            seconds=seconds,
        )
    if not memory.finished:
        run.say(
            f"{run.path}: {memory.updates:,} of {training.steps:,} steps; go on with {run.resuming}"
        )
        return run
    if processes.first() and run.read("finetune.json", FinetuneResult) is None:
        result = FinetuneResult(
            test_accuracy=None,
            validation_accuracy=memory.best_score,
            best_step=memory.updates if memory.best_updates is None else memory.best_updates,
            steps=memory.updates,
            pixel_coefficient=config.pixel_coefficient,
            layer=begun.classifier.model.config.check_layer(config.layer),
            seconds=memory.seconds,
        )
        run.write("finetune.json", result)
    if settings.measure_test:
        report_test(run, store, device)
    return run


def report_test(run: RunFolder, store: RecordStore, device: torch.device) -> FinetuneResult:
    """Return the `finetune.json` of a finished run, with the test accuracy measured by now."""
    result = processes.by_first(lambda: run.require("finetune.json", FinetuneResult))
    if result.test_accuracy is None:
        best, settings = load(run.path, device=device), run.settings
        assert isinstance(settings, FinetuneSettings)
        masks = _mask_seed(best, settings.config.training.seed, _TESTED)
        test = store.split("test")
        tested = score(best, test, mask_seed=masks, title="test")
        result = dataclasses.replace(
            result, test_accuracy=tested.accuracy, confusion=tested.confusion,
            class_names=store.class_names, test_images=len(test),
        )  # fmt: skip
        if processes.first():
            run.require_in_place()
            run.write("finetune.json", result)
        validation = result.validation_accuracy
        beside = "" if validation is None else f" (validation {validation:.1%})"
        run.note(
            f"{run.path}: test accuracy {tested.accuracy:.1%} with the weights of step "
            f"{result.best_step}{beside}"
        )
    return result
