"""Fine-tuning: a pretrained run and labelled images become a classifier, in a run of its own.

The class head starts at zero on the pretrained network, or, as a baseline, on one with fresh
weights; all weights learn, at a constant rate, from the class loss and, by a coefficient, the pixel
loss. The weights of the best validation accuracy are kept, training stops when it no longer rises,
and the test split is measured once, at the end.

With the validation images folded in, there is nothing to stop by: training takes all of its steps.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from igpt.data.batches import TokenBatches, check_fits
from igpt.data.records import RecordStore
from igpt.errors import CheckpointError, ConfigError
from igpt.evaluation.classifier import accuracy
from igpt.formats.load import load
from igpt.model.compiler import require_compiler
from igpt.model.config import ModelConfig
from igpt.model.pretrained import Pretrained
from igpt.objectives.classification import Classification
from igpt.runs.fitting import FOLDED, fit
from igpt.runs.pretrain import recipe_of
from igpt.runs.recipes import FinetuneConfig, Recipe
from igpt.runs.run import (
    RunFolder,
    choose_device,
    describe_data,
    refuse_existing,
    reopen_data,
    seed_weights,
)
from igpt.values import from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class FinetuneResult:
    """What `finetune.json` holds of a finished run."""

    test_accuracy: float | None
    """None where it was not to be measured yet."""
    validation_accuracy: float | None
    """The best; None where validation images were learned from."""
    best_step: int
    """Updates after which the weights were kept."""
    steps: int
    """Updates done."""
    pixel_coefficient: float
    layer: int
    """That the class head reads."""
    seconds: float


def finetune(
    source: Path,
    *,
    data: Path,
    out: Path,
    config: FinetuneConfig,
    device: str = "auto",
    seconds: float | None = None,
    fold_validation: bool = False,
    measure_test: bool = True,
) -> RunFolder:
    """Fine-tune a pretrained network on the labels of `data` and return the new run.

    `finetune.json` in it then tells the test accuracy.

    Args:
        source: Run or model folder.
        data: Record store with labels and a validation split.
        out: Folder of the new run; must not hold one.
        config: Losses, rates, patience.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.
        fold_validation: Learn from train and validation images together, for all of the steps.
        measure_test: Measure the test split at the end; or else `test_accuracy` is null, and
            `report_test` may fill it in.

    Raises:
        ConfigError: The settings do not go together, or `out` holds something.
        DataError: No labels, or images smaller than the network's.
        CheckpointError: No model at `source`.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    refuse_existing(out)
    chosen = choose_device(device)
    pretrained = load(source)
    store = RecordStore.open(data)
    split = FOLDED if fold_validation else "train"
    check(pretrained, config, store, chosen, split=split)
    run = RunFolder.create(
        out,
        settings={
            "kind": "finetune",
            "from": str(source),
            "finetune": dataclasses.asdict(config),
            "model": to_dict(pretrained.model.config),
            "mask_probability": pretrained.mask_probability,
            "data": describe_data(store, data),
            "split": split,
            "measure_test": measure_test,
        },
        palette=pretrained.palette,
        device=chosen,
        # so that the run can go on when the source is gone
        pretrained=None if config.from_scratch else pretrained,
    )
    return _fit(run, config, store, chosen, seconds)


def recipe_for(source: Path) -> Recipe:
    """Return the recipe whose fine-tuning settings fit a run: its own, or else the default.

    Raises:
        CheckpointError: The run's recipe is damaged.
    """
    if not (source / "recipe.json").is_file():
        return Recipe()
    settings = RunFolder.open(source).settings
    return recipe_of(settings) if settings["kind"] == "pretrain" else Recipe()


def resume(
    path: Path, *, data: Path | None = None, device: str = "auto", seconds: float | None = None
) -> RunFolder:
    """Go on with a fine-tuning run from its newest state; arguments as in `finetune`.

    Raises:
        CheckpointError: No such run there, or its newest state is damaged.
    """
    run = RunFolder.open(path)
    settings = run.settings
    if settings["kind"] != "finetune":
        raise CheckpointError(f"{path} is a pretraining run; use igpt pretrain --resume {path}")
    try:
        config = Recipe.from_dict({"finetune": settings["finetune"]}).finetune
    except (KeyError, ConfigError, TypeError) as error:
        raise CheckpointError(f"{path}/recipe.json has no fine-tuning recipe: {error}") from error
    return _fit(run, config, reopen_data(settings["data"], data), choose_device(device), seconds)


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
        ConfigError: No such layer, a batch larger than the split, or no compiler where one is
            wanted.
        DataError: No labels, no such split, or images too small for the network.
    """
    pretrained.model.config.check_layer(config.layer)
    if config.training.compile:
        require_compiler(device, "training.compile=true")
    store.check_augmentation(config.augmentation, "finetune.augmentation")
    for name in ("train", "validation", "test"):
        store.split(name).require_labels()
    check_fits(store.split(split), pretrained.tokenizer, batch_size=config.training.batch_size)


def _fit(
    run: RunFolder,
    config: FinetuneConfig,
    store: RecordStore,
    device: torch.device,
    seconds: float | None,
) -> RunFolder:
    training = config.training
    seed_weights(training.seed)
    assert store.class_names is not None
    if config.from_scratch:
        pretrained = Pretrained.build(
            from_dict(ModelConfig, run.settings["model"], name="a model"),
            run.palette,
            mask_probability=run.settings["mask_probability"],
        )
    else:
        pretrained = load(run.path / "pretrained")
    pretrained = pretrained.with_class_head(store.class_names, config.layer)
    pretrained.model.to(device)
    pretrained.model.set_dropout(config.dropout)
    settings = run.settings
    split = settings.get("split", "train")  # runs of before there was a choice have none
    batches = TokenBatches(
        store.split(split),
        pretrained.tokenizer,
        batch_size=training.batch_size,
        seed=training.seed,
        augmentation=config.augmentation,
    )
    validation = store.split("validation")

    def validate(updates: int, memory: dict[str, Any]) -> tuple[dict[str, float], bool]:
        if split == FOLDED:  # nothing is held out
            return {}, False
        found = accuracy(pretrained, validation, limit=training.validation_images)
        if found > memory.get("validation_accuracy", -1.0):
            memory.update(validation_accuracy=found, best_updates=updates, without_gain=0)
            pretrained.save(run.model)
        else:
            memory["without_gain"] += 1
        return {"validation_accuracy": found}, memory["without_gain"] >= config.patience

    memory = fit(
        run,
        pretrained,
        training=training,
        objective=Classification(
            pixel_coefficient=config.pixel_coefficient,
            layer=config.layer,
            mask_probability=pretrained.mask_probability,
        ),
        batch_at=batches.at,
        validate=validate,
        publish=split == FOLDED,  # then there is no best model to keep, only the newest
        seconds=seconds,
    )
    if not memory["finished"]:
        run.say(
            f"{run.path}: {memory['updates']:,} of {training.steps:,} steps; go on with igpt "
            f"finetune --resume {run.path}"
        )
        return run
    if run.read("finetune.json", FinetuneResult) is None:
        result = FinetuneResult(
            test_accuracy=None,
            validation_accuracy=memory.get("validation_accuracy"),
            best_step=memory.get("best_updates", memory["updates"]),
            steps=memory["updates"],
            pixel_coefficient=config.pixel_coefficient,
            layer=pretrained.model.config.check_layer(config.layer),
            seconds=memory["seconds"],
        )
        run.write("finetune.json", result)
    if settings.get("measure_test", True):
        report_test(run, store, device)
    return run


def report_test(run: RunFolder, store: RecordStore, device: torch.device) -> FinetuneResult:
    """Return the `finetune.json` of a finished run, with the test accuracy measured by now."""
    result = run.read("finetune.json", FinetuneResult)
    assert result is not None
    if result.test_accuracy is None:
        best = load(run.path, device=device)
        tested = accuracy(best, store.split("test"), title="test")
        result = dataclasses.replace(result, test_accuracy=tested)
        run.write("finetune.json", result)
        validation = result.validation_accuracy
        told = "" if validation is None else f" (validation {validation:.1%})"
        run.say(
            f"{run.path}: test accuracy {tested:.1%} with the weights of step "
            f"{result.best_step}{told}"
        )
    return result
