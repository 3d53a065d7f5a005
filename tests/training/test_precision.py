"""A device gets the precision it is good at, and float16's loss the scale that it needs."""

import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.data.batches import Batch
from igpt.objectives.autoregressive import autoregressive
from igpt.training.config import TrainingConfig
from igpt.training.loop import TrainingDiverged, train
from igpt.training.optimizer import build_optimizer
from igpt.training.precision import LossScale, choose_precision

CONFIG = TrainingConfig(steps=6, learning_rate=0.01, precision="float16")
CPU = torch.device("cpu")


def fit(config=CONFIG, *, objective=autoregressive, **more):
    model = random_model()
    steps = train(
        model, build_optimizer(model, config), objective=objective, config=config,
        batch_at=lambda step: Batch(random_tokens(4, seed=step), None), **more,
    )  # fmt: skip
    return model, steps


@pytest.mark.parametrize(("capability", "wanted"), [((7, 5), "float16"), ((8, 0), "bfloat16")])
def test_gpus_without_bfloat16_have_float16(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda"), TINY) == wanted


def test_processors_without_arithmetic_for_bfloat16_have_float32(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert choose_precision("auto", CPU, TINY) == "float32"


def test_choosing_leaves_random_numbers_alone(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    assert choose_precision("auto", CPU, TINY) in ("float32", "bfloat16")
    assert torch.equal(torch.rand(4), wanted)


@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float16"])
def test_what_is_asked_for_is_had(asked):
    assert choose_precision(asked, CPU, TINY) == asked


def test_float16_stays_near_float32():
    losses = []
    for precision in ("float32", "float16"):
        config = TrainingConfig(steps=12, learning_rate=0.003, precision=precision)
        losses.append([done.measures["loss"] for done in fit(config)[1]])
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert losses[0] != losses[1]


def test_a_step_whose_gradients_overflow_is_skipped_and_the_scale_halved():
    model, steps = fit(loss_scale=LossScale(scale=2.0**40, steps_since=7))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = next(steps)
    assert first.measures["skipped"] == 1
    assert "gradient_norm" not in first.measures
    assert first.measures["loss_scale"] == 2.0**40
    assert first.loss_scale == LossScale(scale=2.0**39, steps_since=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_step_under_a_scale_that_suits_is_not_and_its_gradients_are_as_without():
    _, steps = fit(loss_scale=LossScale(scale=1024.0, steps_since=3))
    done = next(steps)
    (plain,) = (done for done in fit(TrainingConfig(steps=1, learning_rate=0.01))[1])
    assert "skipped" not in done.measures
    assert done.loss_scale == LossScale(scale=1024.0, steps_since=4)
    wanted = plain.measures["gradient_norm"]
    assert done.measures["gradient_norm"] == pytest.approx(wanted, rel=0.02)


def test_gradients_that_are_no_numbers_under_any_scale_end_the_training():
    def broken(model, tokens, labels, generator):
        root = (model.position_embedding * 0).sqrt().sum()  # its gradient is no number
        return {"loss": autoregressive(model, tokens)["loss"] + root}

    _, steps = fit(objective=broken, loss_scale=LossScale(scale=4.0, steps_since=0))
    assert [next(steps).loss_scale.scale for _ in range(2)] == [2.0, 1.0]
    with pytest.raises(TrainingDiverged, match="gradient norm of step 3 is nan"):
        next(steps)


def test_other_precisions_have_no_scale():
    (done,) = fit(TrainingConfig(steps=1))[1]
    assert done.loss_scale is None
    assert "loss_scale" not in done.measures
