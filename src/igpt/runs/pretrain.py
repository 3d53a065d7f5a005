"""Pretraining: a recipe, images and a palette become a run.

    run = pretrain("cifar10-tiny", data=..., palette=..., out="runs/a")

Top to bottom: see that all of it goes together, make the run's folder, build network, batches and
objective, and hand them to `igpt.training.fit`. `igpt.runs.resume` enters halfway.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifier

from igpt import processes
from igpt.amounts import counted, spoken
from igpt.data.batches import TokenBatches, check_fits, images_at_size
from igpt.data.store import FOLDED, Records, RecordStore
from igpt.evaluation.completion import complete_images, completion_rows
from igpt.evaluation.features import extract_features
from igpt.evaluation.likelihood import evaluate
from igpt.evaluation.logistic import total_variance
from igpt.model.compiler import require_compiler
from igpt.model.config import ObjectiveName, SamplingConfig
from igpt.model.pretrained import Pretrained
from igpt.model.transformer import seed_weights
from igpt.objectives.autoregressive import Objective, autoregressive
from igpt.objectives.diffusion import diffusion
from igpt.objectives.masked import masked
from igpt.paths import AnyPath
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.planning.here import hardware_of, memory_watched, require_fits
from igpt.processes import choose_device
from igpt.runs.begun import require_room_or_begun, run_begun
from igpt.runs.palette import size_fitted_at
from igpt.runs.recipes import Recipe, with_its_name
from igpt.runs.run import (
    DataIdentity,
    PretrainSettings,
    RunFolder,
)
from igpt.runs.sheets import Legend, write_quantized, write_sheet
from igpt.training.estimate import too_many_passes
from igpt.training.fit import fit
from igpt.training.precision import settled
from igpt.training.tracking import Tracker, begin_tracking, require_tracker

_PICTURED = 4  # images completed at each validation ...
_PICTURED_SAMPLES = 3  # ... and how often each ...
_PICTURED_PASSES = 16  # ... in so many passes of a diffusion network
_ONLINE_PENALTY = 1e-6  # of the online probe, as a part of the features' total variance


def pretrain(
    recipe: Recipe | str,
    *,
    data: AnyPath,
    palette: AnyPath,
    out: AnyPath,
    name: str = "",
    device: str = "auto",
    seconds: float | None = None,
    fold_validation: bool = False,
    track: Tracker | None = None,
) -> RunFolder:
    """Pretrain a network from fresh weights and return its run.

    Args:
        recipe: Network and training, or the name of a recipe; the network gets as many colors as
            the palette has.
        data: Record store that `igpt data prepare` wrote; its train split is learned from, and its
            validation split, if it has one, measured on the way.
        palette: Palette file.
        out: Folder of the run; must not hold one.
        name: What the recipe is called, for the record; by default the name that was given.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.
        seconds: Stop, resumable, after so long.
        fold_validation: Learn from train and validation images together; nothing is then held out
            to measure on the way.
        track: Draw the curves there too, now and when it is resumed; see `igpt.training.tracking`.

    Raises:
        ConfigError: The settings do not go together, `out` holds something, or the extra of `track`
            is missing.
        DataError: Images or palette are missing, broken or too small for the network.
        Interrupted: SIGINT or SIGTERM came; everything is saved.
    """
    recipe, name = with_its_name(recipe, name)
    data, palette, out = Path(data), Path(palette), Path(out)
    require_room_or_begun(out)
    require_tracker(track)
    store, colors, chosen = RecordStore.open(data), Palette.load(palette), choose_device(device)
    fitted = size_fitted_at(palette)
    wanted, recipe = recipe, for_palette(recipe, colors)
    recipe = dataclasses.replace(recipe, training=settled(recipe.training, chosen, recipe.model))
    split = FOLDED if fold_validation else "train"
    check(recipe, store, colors, chosen, split=split)
    settings = PretrainSettings(
        name=name,
        recipe=recipe,
        data=DataIdentity.of(store, data),
        split=split,
        filter=store.config.filter,
        palette=colors.fingerprint,
    )
    run = run_begun(out, settings)
    if run is None:
        run = RunFolder.create(out, settings=settings, palette=colors, device=chosen)
    with run.held():
        begin_tracking(run.path, track)
        run.say(
            f"{run.path}: {recipe.model.parameters:,} weights on {chosen}, "
            f"{counted(recipe.training.steps, 'step')} of "
            f"{counted(recipe.training.batch_size, 'image')}, "
            f"{counted(recipe.model.positions, 'token')} each"
        )
        if wanted.model.colors != colors.size:
            run.say(
                f"{palette} has {colors.size} colors, and the recipe {wanted.model.colors}; the "
                "palette decides"
            )
        if said := too_many_passes(recipe.training, len(store.split(split))):
            run.say(f"{run.path}: {said}")
        if "validation" not in store.splits:
            run.say(f"{data} has no validation split, so nothing is measured on the way")
        side = recipe.model.image_size
        if fitted not in (None, side):
            run.say(
                f"{palette} was fitted to images of {fitted}x{fitted} pixels, and the network sees "
                f"{side}x{side}; igpt palette fit {data} --image-size {side} fits it to those"
            )
        return go_on(run, settings, store, chosen, seconds)


def for_palette(recipe: Recipe, palette: Palette) -> Recipe:
    """Return the recipe for a network of as many colors as the palette has."""
    return dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, colors=palette.size))


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
        ConfigError: A batch larger than the split or not for so many processes, a warm-up longer
            than the run, no compiler where one is wanted, or not enough memory.
        DataError: There is no such split, or the images are too small for the network or tokens of
            another palette.
    """
    tokenizer = ImageTokenizer(palette, recipe.model.image_size)
    records = store.split(split)
    check_fits(
        records,
        tokenizer,
        batch_size=recipe.training.batch_size,
        augmentation=recipe.augmentation,
    )
    processes.require_divisible(recipe.training.batch_size)
    recipe.training.for_records(len(records))
    if recipe.online_probe_images:
        for name in ("train", "validation"):
            store.split(name).require_labels()
    if recipe.training.compile:
        require_compiler(device, "training.compile=true")
    require_fits(recipe.model, recipe.training, hardware_of(device), workload=recipe.workload)


def go_on(
    run: RunFolder,
    settings: PretrainSettings,
    store: RecordStore,
    device: torch.device,
    seconds: float | None,
) -> RunFolder:
    """Train a run from its newest state, or its start, to its end; arguments as in `pretrain`."""
    recipe, training = settings.recipe, settings.recipe.training
    seed_weights(training.seed)
    pretrained = Pretrained.build(
        recipe.model,
        run.palette,
        mask_probability=recipe.mask_probability,
        objective=recipe.objective,
        preparation=store.preparation,
    )
    pretrained.model.set_dropout(recipe.dropout)
    pretrained.model.to(device)
    batches = TokenBatches(
        store.split(settings.split),
        pretrained.tokenizer,
        batch_size=training.batch_size,
        seed=training.seed,
        augmentation=recipe.augmentation,
        rank=processes.rank(),
        ranks=processes.count(),
    )
    held_out = _held_out(store)
    picture = run.path / "palette.png"
    if processes.first() and not picture.exists():
        write_quantized(picture, pretrained.palette, held_out, size=recipe.model.image_size)

    def validate(updates: int) -> dict[str, float]:
        if settings.split == FOLDED or "validation" not in store.splits:  # nothing is held out
            return {}
        draws = 1 if recipe.learned_by == "diffusion" else None
        found = evaluate(pretrained, held_out, images=training.validation_images, draws=draws)
        measured = {"validation_nats_per_pixel": found.nats_per_pixel}
        if recipe.online_probe_images:
            measured |= _online_probe(pretrained, store, recipe)
        if recipe.learned_by != "masked" and processes.first():
            _draw_samples(run, pretrained, held_out, updates, seed=training.seed)
        return measured

    with memory_watched(recipe.model, training, device, workload=recipe.workload):
        memory = fit(
            run.path,
            pretrained,
            training=training.for_records(len(batches.records)),
            objective=_objective(recipe),
            batch_at=batches.at,
            validate=validate,
            fingerprint=run.fingerprint,
            records=len(batches.records),
            longer=run.longer,
            snapshot_steps=recipe.snapshot_steps,
            seconds=seconds,
        )
    run.say(
        f"{run.path}: {memory.updates:,} of {training.steps:,} steps in {spoken(memory.seconds)}"
        + ("" if memory.finished else f"; go on with {run.resuming}")
    )
    return run


def _objective(recipe: Recipe) -> Objective:
    objectives: dict[ObjectiveName, Objective] = {
        "autoregressive": autoregressive,
        "masked": functools.partial(masked, probability=recipe.mask_probability),
        "diffusion": diffusion,
    }
    return objectives[recipe.learned_by]


def _online_probe(pretrained: Pretrained, store: RecordStore, recipe: Recipe) -> dict[str, float]:
    """Return which layer's features a ridge probe reads best just now, and how well."""
    train = store.split("train").sample(recipe.online_probe_images)
    held_out = store.split("validation").sample(recipe.training.validation_images)
    features = [
        extract_features(pretrained, records).astype(np.float64) for records in (train, held_out)
    ]
    labels = [records.require_labels() for records in (train, held_out)]
    alphas = _ONLINE_PENALTY * len(train) * total_variance(features[0])
    accuracies = []
    for layer in range(pretrained.model.config.layers + 1):
        parts = [(part[:, layer], label) for part, label in zip(features, labels, strict=True)]
        ridge = RidgeClassifier(alpha=alphas[layer], solver="cholesky").fit(*parts[0])
        accuracies.append(float(ridge.score(*parts[1])))
    best = int(np.argmax(accuracies))
    return {"online_probe_accuracy": accuracies[best], "online_probe_layer": float(best)}


def _draw_samples(
    run: RunFolder, pretrained: Pretrained, records: Records, updates: int, *, seed: int
) -> None:
    """Complete a few held-out images, as a picture of how far the network has come."""
    size = pretrained.tokenizer.image_size
    shown = records.varied(_PICTURED)
    images = images_at_size(records.chosen(shown), size)
    sampling = SamplingConfig(
        passes=_PICTURED_PASSES if pretrained.learned_by == "diffusion" else None
    )
    drawn = complete_images(
        pretrained, images, samples=_PICTURED_SAMPLES, sampling=sampling, seed=seed
    )
    cells = completion_rows(pretrained, images, drawn)
    legend = Legend.of_completions(records.titles(shown), _PICTURED_SAMPLES)
    run.require_in_place()
    write_sheet(run.path / "samples" / f"step-{updates:06d}.png", cells, legend, shown=96)


def _held_out(store: RecordStore) -> Records:
    return store.split("validation" if "validation" in store.splits else "train")
