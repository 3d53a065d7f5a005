"""Fine-tuning: a pretrained run and labelled images become a classifier, in a run of its own.

The class head starts at zero on the pretrained network; all weights learn, at a constant rate, from
the class loss and, by a coefficient, the pixel loss. The weights of the best validation accuracy
are kept, training stops when it no longer rises, and the test split is measured once, at the end.
"""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from igpt.data.batches import TokenBatches
from igpt.data.records import RecordStore
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.evaluation.classifier import accuracy
from igpt.experiments.fitting import fit
from igpt.experiments.pretrain import recipe_of
from igpt.experiments.recipes import FinetuneConfig, Recipe
from igpt.experiments.run import (
    RunFolder,
    choose_device,
    describe_data,
    refuse_existing,
    reopen_data,
    seed_everything,
)
from igpt.model.loading import load
from igpt.model.pretrained import Pretrained
from igpt.objectives.classification import Classification, check_layer
from igpt.training.loop import check_compiler


def finetune(
    source: Path,
    *,
    data: Path,
    out: Path,
    config: FinetuneConfig,
    device: str = "auto",
    seconds: float | None = None,
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
    check_layer(pretrained.model, config.layer)
    check_compiler(config.training, chosen)
    _check(store, pretrained)
    store.check_augmentation(config.augmentation, "finetune.augmentation")
    if config.training.batch_size > len(store.split("train")):
        raise ConfigError(
            f"finetune.training.batch_size={config.training.batch_size} is more than the "
            f"{len(store.split('train'))} training images there are; set it lower"
        )
    run = RunFolder.create(
        out,
        settings={
            "kind": "finetune",
            "from": str(source),
            "finetune": dataclasses.asdict(config),
            "model": pretrained.model.config.to_dict(),
            "data": describe_data(store, data),
        },
        palette=pretrained.palette,
        device=chosen,
        pretrained=pretrained,  # so that the run can go on when the source is gone
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


def _check(store: RecordStore, pretrained: Pretrained) -> None:
    size = pretrained.model.config.image_size
    if store.image_size < size:
        raise DataError(
            f"the model is for {size}x{size} images, but {store.path} has {store.image_size}x"
            f"{store.image_size}; prepare it again with --image-size {size}"
        )
    for name in ("train", "validation", "test"):
        store.split(name).require_labels()


def _fit(
    run: RunFolder,
    config: FinetuneConfig,
    store: RecordStore,
    device: torch.device,
    seconds: float | None,
) -> RunFolder:
    training = config.training
    seed_everything(training.seed)
    assert store.class_names is not None
    pretrained = load(run.path / "pretrained").with_class_head(store.class_names, config.layer)
    pretrained.model.to(device)
    batches = TokenBatches(
        store.split("train"),
        pretrained.tokenizer,
        batch_size=training.batch_size,
        seed=training.seed,
        augmentation=config.augmentation,
    )
    validation = store.split("validation")

    def validate(updates: int, memory: dict[str, Any]) -> tuple[dict[str, float], bool]:
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
        publish=False,
        seconds=seconds,
    )
    if not memory["finished"]:
        run.say(
            f"{run.path}: {memory['updates']:,} of {training.steps:,} steps; go on with igpt "
            f"finetune --resume {run.path}"
        )
        return run
    if run.read("finetune.json") is None:
        best = load(run.path, device=device)
        result = {
            "test_accuracy": accuracy(best, store.split("test"), title="test"),
            "validation_accuracy": memory["validation_accuracy"],
            "best_step": memory["best_updates"],
            "steps": memory["updates"],
            "pixel_coefficient": config.pixel_coefficient,
            "layer": check_layer(best.model, config.layer),
            "seconds": memory["seconds"],
        }
        run.write("finetune.json", result)
        run.say(
            f"{run.path}: test accuracy {result['test_accuracy']:.1%} with the weights of step "
            f"{result['best_step']} (validation {result['validation_accuracy']:.1%})"
        )
    return run
