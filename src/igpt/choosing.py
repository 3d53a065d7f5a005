"""What `igpt start` chooses, and why: network, palette, steps and precision by images and machine.

    choice = choose(images, machine, minutes=20, seconds_per_image=measure)
    choice.recipe, choice.reasons

Pure functions of what they are given; `seconds_per_image` alone looks at a clock, and a test may
give its own. The rules are few, and each is a line of `Choice.reasons`:

- The network is the largest of a ladder that sees the images often enough in its share of the time.
- Of a few hundred images 20 passes are enough, of many two: further ones are learned by heart
  (`docs/log.md`). Where time is left over, it is not spent.
- Few pixels have few colors: 64 for a few hundred images, the paper's 512 for tens of thousands.
- Mirror images are further images of photographs; digits and letters, which are grey, have none.
"""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from igpt.errors import ConfigError
from igpt.model.config import ModelConfig
from igpt.runs.recipes import Recipe, find_recipe
from igpt.settings import with_settings
from igpt.training.config import Precision, TrainingConfig

RECIPE = "photos-tiny"
"""The recipe that every choice begins with."""

STORED = 32
"""Side of the stored images, where they are as large."""

FEW = 2000
"""Images below which more of them are held out, and networks stay small."""

_GREYS = 16
_COLORS = ((FEW, 64), (20_000, 128))  # images below which so many colors are enough ...
_MOST_COLORS = 512  # ... and of more, as in the paper

_LADDER = (
    ModelConfig(image_size=8, layers=3, width=48, heads=4),
    ModelConfig(image_size=12, layers=4, width=64, heads=4),
    ModelConfig(image_size=16, layers=4, width=96, heads=4),
    ModelConfig(image_size=16, layers=6, width=128, heads=4),
    ModelConfig(image_size=24, layers=8, width=192, heads=6),
    ModelConfig(image_size=32, layers=12, width=256, heads=8),
)
"""The networks there are to choose from, from small to large."""
_MOST_WITH_FEW = 2  # number on the ladder of the largest network that few images are enough for
_RATES = ((64, 4e-3), (128, 3e-3), (192, 2e-3), (256, 2e-3))  # up to a width, such a learning rate

_PASSES = 20  # over few images
_SEEN = 20_000  # images that a network should see in pretraining, at least if they are many
_PASSES_OF_MANY = 2  # over many

_TUNING_PASSES = 25
_LEAST_STEPS = 20
_SHARES = {"pretraining": 0.5, "fine-tuning": 0.2}
"""Of the time; probes, samples, completions and the rest take what is left."""
_SHARE_UNLABELLED = 0.75
_TUNING_COST = 1.25  # a step of fine-tuning, in steps of pretraining: validation comes with it


@dataclass(frozen=True, kw_only=True)
class Images:
    """What is known of a store's images."""

    train: int
    validation: int
    test: int
    size: int
    """Side of a record, in pixels."""
    grey: bool
    colors: Callable[[int], int]
    """Returns how many distinct colors a sample of them has at a side, in pixels."""
    classes: int
    """0 without labels."""
    smallest_class: int = 0
    """Training images of it."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it is to run."""

    device: str
    """`cpu`, `cuda` ..."""
    threads: int
    bfloat16: bool
    """Whether it computes with those faster."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, in full, and why."""

    recipe: Recipe
    """Its network has as many colors as the palette is to have."""
    grey: bool
    pretraining_seconds: float
    """As measured beforehand."""
    finetuning_seconds: float
    """0 without labels."""
    seconds: float
    """Of everything, roughly."""
    reasons: tuple[str, ...]
    """Lines to print before the training."""
    warnings: tuple[str, ...]


def stored_size(smallest_side: int) -> int:
    """Return at which side to store images of which the smaller are of this side."""
    return max(8, min(STORED, smallest_side))


def held_out(images: int) -> tuple[float | None, float | None]:
    """Return the shares to hold out for validation and test, None for the usual 0.1.

    Of few images a tenth is so few that an accuracy measured on them says little: of 60, plus or
    minus 13 points.
    """
    return (0.15, 0.2) if images < FEW else (None, None)


def choose(
    images: Images,
    machine: Machine,
    *,
    minutes: float,
    seconds_per_image: Callable[[ModelConfig, TrainingConfig], float],
    seed: int = 0,
) -> Choice:
    """Return what to train on these images, here, within so many minutes.

    Args:
        images: What is known of them.
        machine: What is known of it.
        minutes: For everything from the palette to the report.
        seconds_per_image: Returns what a training step takes for each image, measured; asked of
            one network after another until one is too slow.
        seed: Of both trainings.
    """
    share = _SHARES["pretraining"] if images.classes else _SHARE_UNLABELLED
    budget = 60 * minutes * share
    training = _pretraining(images, machine, seed)
    model, cost, why = _network(images, training, budget, seconds_per_image)
    batch = training.batch_size
    wanted = wanted_images(images.train)
    most = max(_PASSES * images.train, wanted)
    seen = min(most, budget / cost)
    steps = max(_LEAST_STEPS, int(seen / batch))
    rate = next((rate for width, rate in _RATES if model.width <= width), _RATES[-1][1])
    training = dataclasses.replace(
        training, steps=steps, learning_rate=rate, warmup_steps=max(1, steps // 20),
        validate_every=_every(steps, 5), checkpoint_every=_every(steps, 5),
    )  # fmt: skip
    augmentation = "none" if images.grey else "flip"
    base = find_recipe(RECIPE)
    tuning_budget = 60 * minutes * _SHARES["fine-tuning"]
    tuning, tuning_seconds = _finetuning(images, base, training, tuning_budget, cost)
    recipe = dataclasses.replace(
        base, description="chosen by igpt start", model=model, training=training,
        augmentation=augmentation,
        finetune=dataclasses.replace(base.finetune, training=tuning, augmentation=augmentation),
    )  # fmt: skip
    pretraining_seconds = steps * batch * cost
    rest = 60 * minutes * (1 - share - (_SHARES["fine-tuning"] if images.classes else 0))
    # what is read off the network passes over all images some six times, forward only
    rest = min(rest, 30 + 6 * (images.train + images.validation + images.test) * cost / 3)
    return Choice(
        recipe=recipe,
        grey=images.grey,
        pretraining_seconds=pretraining_seconds,
        finetuning_seconds=tuning_seconds,
        seconds=pretraining_seconds + tuning_seconds + rest,
        reasons=_reasons(images, machine, recipe, why, time_left=seen >= most),
        warnings=_warnings(images, steps * batch, wanted),
    )


def require_possible(settings: Sequence[str]) -> None:
    """See that one of the networks there are to choose from can have settings, before it is chosen.

    Raises:
        ConfigError: None can.
    """
    base = find_recipe(RECIPE)
    training, tuning = (
        dataclasses.replace(known, steps=sys.maxsize, warmup_steps=0)  # so that all others fit
        for known in (base.training, base.finetune.training)
    )
    finetune = dataclasses.replace(base.finetune, training=tuning)
    refusal: ConfigError | None = None
    for model in _LADDER:
        recipe = dataclasses.replace(base, model=model, training=training, finetune=finetune)
        try:
            with_settings(recipe, settings)
            return
        except ConfigError as error:
            refusal = error
    assert refusal is not None
    raise refusal


def palette_size(images: Images, side: int) -> int:
    """Return how many colors stand for the images' own at a side, in pixels."""
    if images.grey:
        size = _GREYS
    else:
        size = next((size for below, size in _COLORS if images.train < below), _MOST_COLORS)
    return max(2, min(size, 2 ** (images.colors(side).bit_length() - 1)))


def wanted_images(images: int) -> int:
    """Return how many images, with repeats, a network should see of so many."""
    return min(_PASSES * images, max(_SEEN, _PASSES_OF_MANY * images))


def _pretraining(images: Images, machine: Machine, seed: int) -> TrainingConfig:
    """Return what does not depend on the network."""
    batch = 16 if images.train < 5000 else 32
    if machine.device != "cpu" and images.train >= 5000:
        batch = 128
    precision: Precision = "bfloat16" if machine.bfloat16 else "float32"
    return dataclasses.replace(
        find_recipe(RECIPE).training, batch_size=min(batch, images.train), precision=precision,
        seed=seed,
    )  # fmt: skip


def _network(
    images: Images,
    training: TrainingConfig,
    budget: float,
    seconds_per_image: Callable[[ModelConfig, TrainingConfig], float],
) -> tuple[ModelConfig, float, str]:
    """Return the network, what a step takes for each image, and why it is this one."""
    wanted = wanted_images(images.train)
    sides = [min(rung.image_size, images.size) for rung in _LADDER]
    ladder = list(
        dict.fromkeys(
            dataclasses.replace(rung, image_size=side, colors=palette_size(images, side))
            for rung, side in zip(_LADDER, sides, strict=True)
        )
    )
    few = images.train < FEW
    if few:
        ladder = ladder[: _MOST_WITH_FEW + 1]
    model, cost = ladder[0], seconds_per_image(ladder[0], training)
    for larger in ladder[1:]:
        grown = _operations(larger) / _operations(model)
        if cost * grown / 4 * wanted > budget:  # far too slow: not even measured
            return model, cost, "the next larger one would see too few images in that time"
        measured = seconds_per_image(larger, training)
        if measured * wanted > budget:
            return model, cost, "the next larger one would see too few images in that time"
        model, cost = larger, measured
    return model, cost, "a larger one would learn so few images by heart" if few else "the largest"


def _operations(model: ModelConfig) -> int:
    return model.flops_per_token * model.positions


def _finetuning(
    images: Images, base: Recipe, training: TrainingConfig, budget: float, cost: float
) -> tuple[TrainingConfig, float]:
    """Return how to fine-tune, and the seconds it takes; the recipe's own way without labels."""
    tuning = base.finetune.training
    if not images.classes:
        return dataclasses.replace(tuning, seed=training.seed), 0.0
    batch = min(tuning.batch_size, images.train)
    seen = min(_TUNING_PASSES * images.train, budget / (cost * _TUNING_COST))
    steps = max(_LEAST_STEPS, int(seen / batch))
    tuning = dataclasses.replace(
        tuning, steps=steps, batch_size=batch, warmup_steps=max(1, steps // 10),
        validate_every=_every(steps, 8), checkpoint_every=_every(steps, 4),
        precision=training.precision, seed=training.seed,
    )  # fmt: skip
    return tuning, steps * batch * cost * _TUNING_COST


def _every(steps: int, times: int) -> int:
    return max(1, -(-steps // times))


def _reasons(
    images: Images, machine: Machine, recipe: Recipe, why: str, *, time_left: bool
) -> tuple[str, ...]:
    model, training, colors = recipe.model, recipe.training, recipe.model.colors
    labels = f"{images.classes} classes" if images.classes else "no labels"
    kind = "grey" if images.grey else "in color"
    threads = f", {machine.threads} thread{'s' * (machine.threads != 1)}"
    where = f"{machine.device}{threads if machine.device == 'cpu' else ''}, {training.precision}"
    side = f"{model.image_size}x{model.image_size}"
    lines = [
        f"images: {images.train:,} to learn from, {images.validation:,} to choose by, "
        f"{images.test:,} to test with; {labels}, {kind}",
        f"machine: {where}",
        f"network: {model.layers} layers of width {model.width} on {side} pixels, "
        f"{model.parameters / 1e6:.1f} million weights; {why}",
        f"palette: {colors} {'greys' if images.grey else 'colors'}"
        + ("; more would take more pixels than there are" if colors < _MOST_COLORS else ""),
    ]
    passes = training.steps * training.batch_size / images.train
    text = f"pretraining: {training.steps:,} steps of {training.batch_size}, {passes:.1f} passes"
    mirrored = ", with mirror images" if recipe.augmentation == "flip" else ", none mirrored"
    enough = "; more would be learned by heart, so not all of the time is used" if time_left else ""
    lines.append(text + mirrored + enough)
    if images.classes:
        tuning = recipe.finetune.training
        lines.append(
            f"fine-tuning: at most {tuning.steps:,} steps of {tuning.batch_size}; it stops when "
            "validation no longer gains"
        )
    return tuple(lines)


def _warnings(images: Images, seen: int, wanted: int) -> tuple[str, ...]:
    found = []
    if images.train < 100:
        found.append(
            f"{images.train} images are too few to learn much from; some hundreds would be better, "
            "and thousands far better"
        )
    if images.classes and images.test < 5 * images.classes:
        found.append(
            f"{images.test} test images of {images.classes} classes say little about the accuracy"
        )
    if images.classes and images.smallest_class < 5:
        found.append(
            f"the smallest class has {images.smallest_class} training "
            f"image{'s' * (images.smallest_class != 1)}"
        )
    if seen < wanted / 2:
        found.append(
            "the time is short for so many images: more --minutes, or a GPU, would give a better "
            "network"
        )
    return tuple(found)
