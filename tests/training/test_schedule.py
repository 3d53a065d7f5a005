import dataclasses
import math

import pytest

from igpt.errors import ConfigError
from igpt.training.config import TrainingConfig
from igpt.training.schedule import Longer, learning_rate_at


def config(**settings):
    return TrainingConfig(**{"steps": 100, "warmup_steps": 10, "learning_rate": 0.2, **settings})


def test_the_rate_rises_in_a_line_to_its_peak():
    rates = [learning_rate_at(step, config()) for step in range(11)]
    assert rates == pytest.approx([0.02 * (step + 1) for step in range(10)] + [0.2])


def test_the_rate_then_follows_half_a_cosine_to_zero():
    assert learning_rate_at(55, config()) == pytest.approx(0.1)  # half-way between 10 and 100
    assert learning_rate_at(40, config()) == pytest.approx(0.1 * (1 + math.cos(math.pi / 3)))
    assert learning_rate_at(99, config()) < 0.001
    assert learning_rate_at(100, config()) == pytest.approx(0)


def test_or_a_straight_line():
    linear = config(schedule="linear")
    assert [learning_rate_at(step, linear) for step in (9, 10, 55, 100)] == pytest.approx(
        [0.2, 0.2, 0.1, 0.0]
    )


def test_a_warm_up_may_be_given_in_epochs():
    in_epochs = config(warmup_steps=0, warmup_epochs=1.5, batch_size=8)
    assert in_epochs.for_records(47) == config(warmup_steps=8, batch_size=8)  # 5 batches each
    assert config().for_records(47) == config()
    with pytest.raises(ConfigError, match=r"1\.5 epochs is 900 steps of 8 images"):
        in_epochs.for_records(4807)


def test_a_constant_rate_stays():
    assert learning_rate_at(70, config(schedule="constant", warmup_steps=0)) == 0.2


def test_a_run_on_its_way_is_stretched_from_where_it_is():
    change = Longer.of(config(), after=55, steps=200)
    longer = [learning_rate_at(step, config(steps=200), [change]) for step in range(201)]
    assert longer[:55] == [learning_rate_at(step, config()) for step in range(55)]
    assert longer[55:] == [learning_rate_at(step, config(steps=200)) for step in range(55, 201)]
    assert "stretched from here on, to zero at step 200" in change.described(config())


def test_a_run_at_its_end_is_warmed_up_again_to_half_and_goes_down_anew():
    change = Longer.of(config(), after=100, steps=300)
    rates = [learning_rate_at(step, config(steps=300), [change]) for step in range(301)]
    assert rates[:100] == [learning_rate_at(step, config()) for step in range(100)]
    assert rates[100:110] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert max(rates[100:]) == rates[109] == rates[110] == pytest.approx(0.1)
    assert rates[205] == pytest.approx(0.05)  # half-way between 110 and 300
    assert rates[300] == pytest.approx(0)
    assert "warmed up again, to 0.1 (half" in change.described(config())


def test_few_more_steps_are_warmed_up_for_a_tenth_of_them():
    change = Longer.of(config(), after=100, steps=120)
    rates = [learning_rate_at(step, config(steps=120), [change]) for step in (100, 101, 102, 119)]
    assert rates[:3] == pytest.approx([0.05, 0.1, 0.1])
    assert rates[3] < 0.002


def test_more_steps_may_be_given_again_and_again():
    first = Longer.of(config(), after=100, steps=300)
    second = Longer.of(config(steps=300), after=200, steps=400)  # on the way down once more
    third = Longer.of(config(steps=400), after=400, steps=500)
    rates = [learning_rate_at(step, config(steps=500), [first, second, third])
             for step in (50, 150, 255, 399, 410)]  # fmt: skip
    assert rates[0] == learning_rate_at(50, config())
    assert rates[1] == learning_rate_at(150, config(steps=300), [first])
    assert rates[2] == pytest.approx(0.05)  # half-way between 110 and 400
    assert rates[3] < 0.0001
    assert rates[4] == pytest.approx(0.1)


def test_a_short_warm_up_does_not_shorten_those_after_it():
    few = Longer.of(config(), after=100, steps=110)  # warmed up over a tenth of 10 steps
    many = Longer.of(config(steps=110), after=110, steps=1110)
    rates = [learning_rate_at(step, config(steps=1110), [few, many]) for step in range(100, 121)]
    assert rates[:2] == pytest.approx([0.1, 0.1])
    assert rates[10:20] == pytest.approx([0.01 * (step + 1) for step in range(10)])


def test_a_constant_rate_stays_however_long():
    constant = config(schedule="constant", warmup_steps=0)
    change = Longer.of(constant, after=100, steps=200)
    assert learning_rate_at(150, dataclasses.replace(constant, steps=200), [change]) == 0.2
    assert change.described(constant) == "the rate stays constant"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be more than 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be more than 0, got nan"),
        ({"beta2": 1.0}, r"beta2 must lie in \[0, 1\)"),
        ({"warmup_steps": -1}, "warmup_steps must not be negative"),
        ({"warmup_steps": 101}, "of 101 steps takes longer than the run of 100; set training.warm"),
        ({"warmup_epochs": 1.0}, "given twice, warmup_steps=10 and warmup_epochs=1; set one of"),
        ({"warmup_epochs": float("nan")}, "warmup_epochs must not be negative, got nan"),
        ({"head_learning_rate": 0.0}, "head_learning_rate must be over 0"),
        ({"microbatch_size": 0}, "microbatch_size must be at least 1"),
        ({"max_gradient_norm": 0.0}, "max_gradient_norm must be over 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)


def test_the_rate_may_stay_before_it_goes_down():
    stable = config(schedule="linear", stable=0.5)  # from 10 on for 45 steps, then 45 down
    assert [learning_rate_at(step, stable) for step in (10, 54, 55, 73, 100)] == pytest.approx(
        [0.2, 0.2, 0.2, 0.12, 0.0]
    )
