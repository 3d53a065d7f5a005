"""Pretraining: a recipe, images and a palette become a run."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier

from igpt.data.batches import TokenBatches, check_fits, images_at_size
from igpt.data.records import Records, RecordStore
from igpt.errors import CheckpointError, ConfigError
from igpt.evaluation.completion import complete_images, completion_rows
from igpt.evaluation.features import extract_features
from igpt.evaluation.likelihood import evaluate
from igpt.model.compiler import require_compiler
from igpt.model.pretrained import Pretrained
from igpt.objectives.autoregressive import autoregressive
from igpt.objectives.masked import masked
from igpt.pixels.images import image_grid, write_png
from igpt.pixels.palette import Palette
from igpt.pixels.palette_fitting import distortion_picture
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.fitting import FOLDED, fit
from igpt.runs.recipes import Recipe
from igpt.runs.run import (
    RunFolder,
    choose_device,
    describe_data,
    refuse_existing,
    reopen_data,
    seed_weights,
)
from igpt.training.config import TrainingConfig

_QUANTIZED = 16  # images shown before and after the palette
_PICTURED = 4  # images completed at each validation ...
_PICTURED_SAMPLES = 3  # ... and how often each


def pretrain(
    recipe: Recipe,
    *,
    data: Path,
    palette: Path,
    out: Path,
    name: str = "",
    device: str = "auto",
    seconds: float | None = None,
    fold_validation: bool = False,
) -> RunFolder:
    """Pretrain a network from fresh weights and return its run.

    Args:
        recipe: Network and training; the network gets as many colors as the palette has.
        data: Record store that `igpt data prepare` wrote; its train split is learned from.
        palette: Palette file.
        out: Folder of the run; must not hold one.
        name: What the recipe is called, for the record.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.
        fold_validation: Learn from train and validation images together; nothing is then held out
            to measure on the way.

    Raises:
        ConfigError: The settings do not go together, or `out` holds something.
        DataError: Images or palette are missing, broken or too small for the network.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    refuse_existing(out)
    store = RecordStore.open(data)
    colors = Palette.load(palette)
    recipe = dataclasses.replace(
        recipe, model=dataclasses.replace(recipe.model, colors=colors.size)
    )
    chosen = choose_device(device)
    split = FOLDED if fold_validation else "train"
    check(recipe, store, colors, chosen, split=split)
    run = RunFolder.create(
        out,
        settings={
            "kind": "pretrain",
            "name": name,
            **recipe.to_dict(),
            "data": describe_data(store, data),
            "split": split,
            "filter": store.filter,
        },
        palette=colors,
        device=chosen,
    )
    images = images_at_size(_held_out(store), recipe.model.image_size, slice(_QUANTIZED))
    write_png(run.path / "palette.png", distortion_picture(colors, images))
    parameters = recipe.model.parameters
    run.say(
        f"{run.path}: {parameters:,} weights on {chosen}, {recipe.training.steps:,} steps of "
        f"{recipe.training.batch_size} images, {recipe.model.positions} tokens each"
    )
    return _fit(run, recipe, store, colors, chosen, seconds)


def resume(
    path: Path, *, data: Path | None = None, device: str = "auto", seconds: float | None = None
) -> RunFolder:
    """Go on with a pretraining run from its newest state; a finished one is left as it is.

    Args:
        path: Folder of the run.
        data: Where its images are, if they have moved.
        device: As in `pretrain`.
        seconds: As in `pretrain`.

    Raises:
        CheckpointError: No run there, or its newest state is damaged.
    """
    run = RunFolder.open(path)
    settings = run.settings
    if settings["kind"] != "pretrain":
        raise CheckpointError(f"{path} is a fine-tuning run; use igpt finetune --resume {path}")
    store = reopen_data(settings["data"], data)
    recipe = recipe_of(settings)
    run.say(f"going on with {run.path}")
    return _fit(run, recipe, store, run.palette, choose_device(device), seconds)


def recipe_of(settings: dict[str, Any]) -> Recipe:
    """Return the recipe in a pretraining run's settings.

    Raises:
        CheckpointError: It is no recipe this igpt knows.
    """
    names = {field.name for field in dataclasses.fields(Recipe)}
    try:
        return Recipe.from_dict({key: value for key, value in settings.items() if key in names})
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"the run's recipe.json does not make a recipe: {error}") from error


def check(
    recipe: Recipe,
    store: RecordStore,
    palette: Palette,
    device: torch.device,
    *,
    split: str = "train",
) -> None:
    """See that recipe, images, palette and device go together, before anything is written.

    Raises:
        ConfigError: A batch larger than the split, or no compiler where one is wanted.
        DataError: There is no such split, or the images are too small for the network or tokens of
            another palette.
    """
    tokenizer = ImageTokenizer(palette, recipe.model.image_size)
    check_fits(store.split(split), tokenizer, batch_size=recipe.training.batch_size)
    store.check_augmentation(recipe.augmentation, "augmentation")
    if recipe.training.online_probe_images:
        for name in ("train", "validation"):
            store.split(name).require_labels()
    if recipe.training.compile:
        require_compiler(device, "training.compile=true")


def _online_probe(
    pretrained: Pretrained, store: RecordStore, training: TrainingConfig
) -> dict[str, float]:
    """Return which layer's features a ridge probe reads best just now, and how well."""
    train = store.split("train").first(training.online_probe_images)
    held_out = store.split("validation").first(training.validation_images)
    features = [extract_features(pretrained, records) for records in (train, held_out)]
    labels = [records.require_labels() for records in (train, held_out)]
    accuracies = []
    for layer in range(pretrained.model.config.layers + 1):
        parts = [(part[:, layer], label) for part, label in zip(features, labels, strict=True)]
        ridge = RidgeClassifier(alpha=1e-3 * len(train), solver="cholesky").fit(*parts[0])
        accuracies.append(float(ridge.score(*parts[1])))
    best = int(np.argmax(accuracies))
    return {"online_probe_accuracy": accuracies[best], "online_probe_layer": float(best)}


def _held_out(store: RecordStore) -> Records:
    return store.split("validation" if "validation" in store.splits else "train")


def _fit(
    run: RunFolder,
    recipe: Recipe,
    store: RecordStore,
    palette: Palette,
    device: torch.device,
    seconds: float | None,
) -> RunFolder:
    training = recipe.training
    seed_weights(training.seed)
    pretrained = Pretrained.build(recipe.model, palette, mask_probability=recipe.mask_probability)
    pretrained.model.to(device)
    tokenizer = pretrained.tokenizer
    split = run.settings.get("split", "train")  # runs of before there was a choice have none
    batches = TokenBatches(
        store.split(split),
        tokenizer,
        batch_size=training.batch_size,
        seed=training.seed,
        augmentation=recipe.augmentation,
    )
    held_out = _held_out(store)

    def validate(updates: int, memory: dict[str, Any]) -> tuple[dict[str, float], bool]:
        if split == FOLDED:  # nothing is held out
            return {}, False
        measured = evaluate(pretrained, held_out, images=training.validation_images)
        online = {}
        if training.online_probe_images:
            online = _online_probe(pretrained, store, training)
        if recipe.model.causal:
            images = images_at_size(held_out, tokenizer.image_size, slice(_PICTURED))
            rows = recipe.model.image_size // 2
            drawn = complete_images(
                pretrained, images, rows=rows, samples=_PICTURED_SAMPLES, seed=training.seed
            )
            cells = completion_rows(pretrained, images, drawn, rows=rows)
            picture = image_grid(cells, scale=max(1, 96 // recipe.model.image_size))
            write_png(run.path / "samples" / f"step-{updates:06d}.png", picture)
        return {"validation_nats_per_pixel": measured.nats_per_pixel, **online}, False

    objective = (
        autoregressive
        if recipe.model.causal
        else functools.partial(masked, probability=recipe.mask_probability)
    )
    memory = fit(
        run,
        pretrained,
        training=training,
        objective=objective,
        batch_at=batches.at,
        validate=validate,
        publish=True,
        seconds=seconds,
    )
    run.say(
        f"{run.path}: {memory['updates']:,} of {training.steps:,} steps in "
        f"{memory['seconds']:.0f} s"
        + ("" if memory["finished"] else f"; go on with igpt pretrain --resume {run.path}")
    )
    return run
