"""What is said of a training's length, by a clock of the test's own."""

import dataclasses

import torch
from tests.conftest import TINY

from igpt.model.config import ModelConfig
from igpt.training.config import TrainingConfig
from igpt.training.estimate import Estimate, passes_text, slow_step, time_step, too_many_passes

TRAINING = TrainingConfig(steps=2700, batch_size=32, warmup_steps=100)


def told(times, *, training=TRAINING, start=0, records=486):
    """Return what is said after each step, if they are done at these seconds."""
    estimate = Estimate(title="runs/a", training=training, records=records, start=start, began=0.0)
    return [estimate.after(start + index, now) for index, now in enumerate(times)]


def test_after_a_few_timed_steps_one_line_says_how_long_it_takes():
    # the first step, which makes things ready, is not counted: 0.5 s a step from there on
    lines = told([9.0, 9.5, 10.0, 10.5, 11.0])
    (line,) = filter(None, lines)
    assert lines.index(line) == 2
    assert line.startswith("runs/a: 2,700 steps, 178 passes over 486 images; about 22 minutes, ")


def test_steps_too_fast_to_be_timed_at_once_are_waited_for():
    lines = told([0.01 * index for index in range(1, 300)])
    assert [index for index, line in enumerate(lines) if line] == [199]  # after two seconds


def test_a_slow_step_is_told_of_alone():
    line = told([200.0])[0]
    assert "about 6.2 days" in line


def test_a_resumed_run_tells_of_what_is_left():
    line = told([1.0, 2.0, 3.0], start=2000)[2]
    assert line.startswith("runs/a: 700 of 2,700 steps, ")
    assert "about 12 minutes" in line


def test_nothing_is_said_of_a_training_of_seconds_or_at_its_end():
    short = dataclasses.replace(TRAINING, steps=8, warmup_steps=0)
    assert not any(told([1.0, 2.0, 3.0, 4.0], training=short))
    assert not any(told([30.0], start=2699))
    assert not any(told([], start=2700))


def test_passes_are_counted_and_too_many_of_them_told_with_a_remedy():
    assert passes_text(TRAINING, 45_000) == "1.9 passes over 45,000 images"
    assert passes_text(dataclasses.replace(TRAINING, batch_size=1), 2700).startswith("1 pass over")
    assert too_many_passes(TRAINING, 45_000) is None
    assert "178 passes over 486 images are so many" in too_many_passes(TRAINING, 486)
    assert "--steps 455 or fewer" in too_many_passes(TRAINING, 486)


def test_a_step_that_takes_minutes_is_announced_before_it_is_done():
    large = ModelConfig(image_size=32, colors=512, layers=48, width=1536, heads=16)
    assert "a step is" in slow_step(large, TRAINING, torch.device("cpu"))
    assert slow_step(TINY, TRAINING, torch.device("cpu")) is None
    assert slow_step(large, TRAINING, torch.device("meta")) is None  # as a GPU, soon done


def test_a_step_is_timed_for_each_image():
    assert 0 < time_step(TINY, TRAINING, torch.device("cpu"), images=2, steps=1, seconds=0.0) < 10
