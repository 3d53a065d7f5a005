import math

import pytest

from igpt.errors import ConfigError
from igpt.training.config import TrainingConfig
from igpt.training.schedule import learning_rate_at


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
