import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.data.batches import Batch
from igpt.errors import ConfigError
from igpt.objectives.autoregressive import autoregressive
from igpt.objectives.classification import Classification
from igpt.objectives.masked import masked
from igpt.training.config import TrainingConfig
from igpt.training.loop import TrainingDiverged, accumulate_gradients, train
from igpt.training.optimizer import build_optimizer
from igpt.training.parallel import Spread
from igpt.training.schedule import learning_rate_at


def batch_at(step):
    return Batch(tokens=random_tokens(6, seed=step % 4), labels=torch.arange(6) % 2)


def fit(config, *, objective=autoregressive, start=0, model=None, stop_after=None):
    model = model or random_model()
    optimizer = build_optimizer(model, config)
    steps = []
    for done in train(
        model, optimizer, objective=objective, batch_at=batch_at, config=config, start=start
    ):
        steps.append(done)
        if done.step == stop_after:
            break
    return model, steps


def test_the_loss_falls():
    _, steps = fit(TrainingConfig(steps=60, warmup_steps=5, learning_rate=0.01))
    losses = [done.measures["loss"] for done in steps]
    assert len(losses) == 60
    assert sum(losses[-4:]) < 0.5 * sum(losses[:4])


def test_a_step_is_adam_by_its_formula():
    config = TrainingConfig(steps=2, warmup_steps=0, learning_rate=0.01, beta1=0.8, beta2=0.9)
    model = random_model()
    weight = model.blocks[1].mlp.input.weight
    p, m, v = weight.detach().double().clone(), 0.0, 0.0
    for step in range(2):
        reference = random_model()
        reference.load_state_dict(model.state_dict())
        autoregressive(reference, batch_at(step).tokens)["loss"].backward()
        g = reference.blocks[1].mlp.input.weight.grad.double()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        m_hat, v_hat = m / (1 - 0.8 ** (step + 1)), v / (1 - 0.9 ** (step + 1))
        p = p - learning_rate_at(step, config) * m_hat / (v_hat.sqrt() + 1e-8)
        if step == 0:  # the second step's gradient is taken at the weights after the first
            fit(config, model=model, stop_after=0)
            torch.testing.assert_close(weight.double(), p, rtol=1e-4, atol=1e-6)
    model, _ = fit(config)
    torch.testing.assert_close(model.blocks[1].mlp.input.weight.double(), p, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [1, 2, 4, 6])
def test_a_split_batch_has_the_gradients_of_the_whole(share):
    whole, split = random_model(), random_model()
    generator = torch.Generator()
    config = TrainingConfig(steps=1)
    one = accumulate_gradients(Spread(whole, autoregressive), batch_at(0), config, generator)
    config = TrainingConfig(steps=1, microbatch_size=share)
    other = accumulate_gradients(Spread(split, autoregressive), batch_at(0), config, generator)
    torch.testing.assert_close(one, other)
    for (name, a), b in zip(whole.named_parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name, rtol=1e-4, atol=1e-6)


def test_the_class_head_may_have_a_rate_of_its_own():
    config = TrainingConfig(
        steps=1, learning_rate=1e-3, head_learning_rate=4e-3, schedule="constant"
    )
    model = random_model(classes=2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    fit(config, objective=Classification(), model=model)
    moved = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    assert moved.pop("class_head.weight") == pytest.approx(4e-3, rel=1e-2)  # Adam's first step
    assert max(moved.values()) == pytest.approx(1e-3, rel=1e-2)


def test_only_the_projections_decay():
    config = TrainingConfig(steps=1, weight_decay=0.3)
    model = random_model()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, config).param_groups
    decayed, kept = ({names[id(p)] for p in group["params"]} for group in groups)
    assert decayed | kept == set(names.values())
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert "color_head.weight" in decayed
    assert "blocks.0.attention.output.weight" in decayed
    assert {"token_embedding", "position_embedding", "final_norm.gain"} <= kept


def test_gradients_are_clipped_to_the_norm_asked_for():
    config = TrainingConfig(steps=1, max_gradient_norm=1e-3)
    _, (done,) = fit(config)
    assert done.measures["gradient_norm"] > 1e-3  # the norm before clipping is what is told
    model = random_model()
    accumulate_gradients(Spread(model, autoregressive), batch_at(0), config, torch.Generator())
    norm = math.sqrt(sum(p.grad.double().pow(2).sum().item() for p in model.parameters()))
    assert done.measures["gradient_norm"] == pytest.approx(norm, rel=1e-4)


def test_a_loss_that_is_no_number_stops_before_it_harms_the_weights():
    model = random_model()

    def poisoned(model, tokens, labels, generator):
        losses = autoregressive(model, tokens)
        calls.append(0)
        return {"loss": losses["loss"] * (float("nan") if len(calls) == 3 else 1)}

    calls, kept = [], {}
    config = TrainingConfig(steps=10, learning_rate=0.01)

    steps = train(
        model, build_optimizer(model, config),
        objective=poisoned, batch_at=batch_at, config=config,
    )  # fmt: skip
    with pytest.raises(TrainingDiverged, match=r"the loss of step 3 is nan; .* below 0\.01"):
        for _ in steps:
            kept.update({name: p.clone() for name, p in model.state_dict().items()})
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, kept[name])


def test_gradients_that_are_no_numbers_stop_it_too():
    def steep(model, tokens, labels, generator):
        loss = autoregressive(model, tokens)["loss"]
        return {"loss": loss + (model.token_embedding * 0).sum().sqrt()}  # whose slope at 0 is inf

    with pytest.raises(TrainingDiverged, match=r"the gradient norm of step 1 is (nan|inf)"):
        fit(TrainingConfig(steps=2), objective=steep)


def test_hidden_pixels_are_those_of_the_step_whenever_it_is_taken():
    bert = random_model(dataclasses.replace(TINY, causal=False))
    weights = {name: p.clone() for name, p in bert.state_dict().items()}
    config = TrainingConfig(steps=6, learning_rate=1e-9, warmup_steps=0)
    _, steps = fit(config, objective=masked, model=bert)
    bert.load_state_dict(weights)
    _, later = fit(config, objective=masked, model=bert, start=4)
    assert later[0].measures["loss"] == pytest.approx(steps[4].measures["loss"], rel=1e-5)
    assert steps[0].measures["loss"] != pytest.approx(steps[4].measures["loss"], rel=1e-5)


def test_whoever_asks_for_the_steps_can_stop():
    _, steps = fit(TrainingConfig(steps=50), stop_after=7)
    assert [done.step for done in steps] == list(range(8))


def test_bfloat16_stays_near_float32():
    losses = []
    for precision in ("float32", "bfloat16"):
        config = TrainingConfig(steps=20, learning_rate=0.003, warmup_steps=2, precision=precision)
        losses.append([done.measures["loss"] for done in fit(config)[1]])
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
    assert losses[0] != losses[1]


def gradients(objective, *, causal, precision="float32"):
    model = random_model(dataclasses.replace(TINY, causal=causal))
    config = TrainingConfig(steps=1, precision=precision)
    generator = torch.Generator().manual_seed(0)
    accumulate_gradients(Spread(model, objective), batch_at(0), config, generator)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_near(found, wanted, *, share):
    """Every gradient differs by at most this share of its length."""
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        error = (found[name] - gradient).norm() / gradient.norm()
        assert error < share, (name, error)


@pytest.mark.parametrize("objective", [autoregressive, masked])
def test_bfloat16_gradients_are_those_of_float32_but_for_rounding(objective):
    causal = objective is autoregressive
    wanted = gradients(objective, causal=causal)
    found = gradients(objective, causal=causal, precision="bfloat16")
    assert all(gradient.dtype == torch.float32 for gradient in found.values())
    assert_near(found, wanted, share=0.03)  # bfloat16 rounds to 1 part in 256


@pytest.mark.slow
def test_compiled_blocks_learn_the_same():
    """In a process of its own: the compiler cannot see through the shape checks of the tests."""
    code = """
from igpt.training.config import TrainingConfig
from tests.training.test_loop import fit
for compiled in (False, True):
    config = TrainingConfig(steps=20, learning_rate=0.003, warmup_steps=2, compile=compiled)
    print(*[float(done.measures["loss"]) for done in fit(config)[1]])
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    eager, compiled = ([float(loss) for loss in line.split()] for line in done.stdout.splitlines())
    assert len(eager) == 20
    assert compiled == pytest.approx(eager, rel=1e-3)


def test_compiling_without_a_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr("igpt.model.compiler.shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs a compiler .*g\+\+.* install one"):
        fit(TrainingConfig(steps=1, compile=True))
