"""Choices by hand-made cases: the images and the machine decide, a made-up clock is asked."""

import pytest

from igpt.choosing import (
    Images,
    Machine,
    choose,
    held_out,
    palette_size,
    require_possible,
    stored_size,
    wanted_images,
)
from igpt.errors import ConfigError

CPU = Machine(device="cpu", threads=2, bfloat16=False)
GPU = Machine(device="cuda", threads=8, bfloat16=True)


def images(train=486, **changes):
    known = {"validation": train // 8, "test": train // 4, "size": 32, "grey": False,
             "colors": lambda side: 50_000, "classes": 5, "smallest_class": train // 5}  # fmt: skip
    return Images(**{"train": train, **known, **changes})


def speed(flops_per_second, asked=None):
    """Return a clock by which a step takes its operations over a speed."""

    def seconds_per_image(model, training):
        if asked is not None:
            asked.append(model)
        return model.flops_per_token * model.positions / flops_per_second

    return seconds_per_image


def chosen(known, machine=CPU, *, minutes=20.0, flops=30e9, seed=0):
    return choose(known, machine, minutes=minutes, seconds_per_image=speed(flops), seed=seed)


def test_a_few_hundred_photographs_get_a_small_network_and_twenty_passes():
    choice = chosen(images(486), seed=7)
    model, training = choice.recipe.model, choice.recipe.training
    assert (model.image_size, model.width, model.colors) == (16, 96, 64)
    assert training.steps == 20 * 486 // 16
    assert (choice.recipe.augmentation, training.precision, training.seed) == ("flip", "float32", 7)
    assert choice.recipe.finetune.training.seed == 7
    assert choice.seconds < 20 * 60
    assert any("learned by heart" in line for line in choice.reasons)
    assert choice.warnings == ()


def test_less_time_gives_a_smaller_network_then_fewer_steps():
    sizes = []
    for minutes in (15.0, 4.0, 0.2):
        choice = chosen(images(486), minutes=minutes)
        sizes.append((choice.recipe.model.width, choice.recipe.training.steps))
        assert choice.pretraining_seconds <= 0.5 * 60 * minutes + 1
        assert choice.finetuning_seconds <= 0.2 * 60 * minutes + 1
    assert [width for width, _ in sizes] == [96, 64, 48]
    assert sizes[2][1] < sizes[1][1]
    (warning,) = chosen(images(486), minutes=0.05).warnings
    assert "more --minutes" in warning


def test_many_images_on_a_gpu_get_the_largest_network_in_sixteen_bits():
    choice = chosen(images(45_000), GPU, flops=50e12)
    assert (choice.recipe.model.image_size, choice.recipe.model.width) == (32, 256)
    assert (choice.recipe.model.colors, choice.recipe.training.precision) == (512, "bfloat16")
    assert choice.recipe.training.batch_size == 128
    passes = choice.recipe.training.steps * 128 / 45_000
    assert 2 <= passes <= 20


def test_a_network_that_would_be_far_too_slow_is_not_even_timed():
    asked = []
    choose(images(45_000), CPU, minutes=5.0, seconds_per_image=speed(20e9, asked))
    assert len(asked) <= 3
    assert max(model.width for model in asked) <= 96


def test_grey_images_get_greys_and_are_not_mirrored():
    choice = chosen(images(grey=True, colors=lambda side: 200))
    assert (choice.recipe.model.colors, choice.grey) == (16, True)
    assert choice.recipe.augmentation == choice.recipe.finetune.augmentation == "none"
    assert any("16 greys" in line for line in choice.reasons)


def test_without_labels_all_of_the_training_is_pretraining():
    choice = chosen(images(classes=0, smallest_class=0), minutes=2.0)
    assert choice.finetuning_seconds == 0
    assert choice.pretraining_seconds > chosen(images(), minutes=2.0).pretraining_seconds
    assert not any(line.startswith("fine-tuning") for line in choice.reasons)


def test_small_images_are_not_enlarged():
    choice = chosen(images(size=10))
    assert choice.recipe.model.image_size == 10
    assert [stored_size(side) for side in (3, 10, 32, 4000)] == [8, 10, 32, 32]


@pytest.mark.parametrize(
    ("known", "size"),
    [
        (images(486), 64),
        (images(5000), 128),
        (images(45_000), 512),
        (images(45_000, colors=lambda side: 300), 256),
        (images(grey=True), 16),
        (images(colors=lambda side: 3), 2),
        (images(colors=lambda side: 40 if side == 12 else 50_000), 32),
    ],
)
def test_a_palette_has_the_colors_that_its_pixels_can_fill(known, size):
    assert palette_size(known, side=12) == size


def test_colors_are_counted_at_the_side_of_the_network():
    choice = chosen(images(486, colors=lambda side: 2 * side))
    model = choice.recipe.model
    assert (model.image_size, model.colors) == (16, 32)
    assert any("palette: 32 colors" in line for line in choice.reasons)


@pytest.mark.parametrize(
    "settings",
    [("training.steps=3",), ("training.warmup_steps=9999",), ("model.heads=6",), ("model.width=18",
      "model.heads=3"), ("model.causal=false", "objective=diffusion")],
)  # fmt: skip
def test_settings_that_may_fit_what_will_be_chosen_are_possible(settings):
    require_possible(settings)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.stepz=3", "no setting 'training.stepz'"),
        ("training.steps=many", "training.steps should be a whole number"),
        ("model.width=17", "width must be a multiple of heads"),
    ],
)
def test_settings_that_nothing_fits_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        require_possible([setting])


def test_few_images_are_seen_often_and_many_are_seen_twice():
    assert wanted_images(100) == 2000
    assert wanted_images(5000) == 20_000
    assert wanted_images(45_000) == 90_000


def test_of_few_images_more_are_held_out():
    assert held_out(600) == (0.15, 0.2)
    assert held_out(60_000) == (None, None)


def test_a_handful_of_images_is_warned_of_and_fits_a_batch():
    choice = chosen(images(9, validation=2, test=2, smallest_class=1))
    assert choice.recipe.training.batch_size == 9
    text = " ".join(choice.warnings)
    assert "9 images are too few" in text
    assert "2 test images of 5 classes say little" in text
    assert "the smallest class has 1 training image" in text
