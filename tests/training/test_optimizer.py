"""Muon's step by its definition, and which weights it has."""

from dataclasses import replace

import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.data.batches import Batch
from igpt.errors import ConfigError
from igpt.objectives.autoregressive import autoregressive
from igpt.training.config import TrainingConfig
from igpt.training.loop import train
from igpt.training.optimizer import build_optimizer

MUON = TrainingConfig(steps=3, learning_rate=0.01, schedule="constant", optimizer="muon")
NORMUON = replace(MUON, optimizer="normuon")
A, B, C = 3.4445, -4.7750, 2.0315  # of the polynomial, Jordan et al. 2024


def step(model, config, *, steps=1):
    """Take some steps, and return the matrices' gradients of each."""
    optimizer, gradients = build_optimizer(model, config), []

    def objective(model, tokens, labels, generator):
        before = {name: p for name, p in model.named_parameters()}
        losses = autoregressive(model, tokens)
        names = [name for name in before if name.startswith("blocks.") and before[name].ndim == 2]
        found = torch.autograd.grad(losses["loss"], [before[n] for n in names], retain_graph=True)
        gradients.append({n: g.double() for n, g in zip(names, found, strict=True)})
        return losses

    batches = train(
        model, optimizer, objective=objective, config=config,
        batch_at=lambda step: Batch(tokens=random_tokens(6, seed=step), labels=None),
    )  # fmt: skip
    for _ in range(steps):
        next(batches)
    return gradients


def orthogonal(matrix):
    """Return what five steps of the polynomial make of the singular values, which are computed."""
    left, values, right = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(5):
        values = A * values + B * values**3 + C * values**5
    return left @ values.diag() @ right


def test_a_step_of_muon_is_that_of_its_singular_values():
    model = random_model()
    before = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    first, second = step(model, MUON, steps=2)
    for name, gradient in first.items():
        momentum = 0.05 * gradient  # Nesterov's, of 0.95
        update = orthogonal(gradient + 0.95 * (momentum - gradient))
        length = 0.2 * max(gradient.shape) ** 0.5
        wanted = before[name] - 0.01 * length * update
        momentum = 0.95 * momentum + 0.05 * second[name]
        update = orthogonal(second[name] + 0.95 * (momentum - second[name]))
        wanted = wanted - 0.01 * length * update
        moved = (model.get_parameter(name).double() - before[name]) / (0.01 * length)
        error = moved - (wanted - before[name]) / (0.01 * length)
        assert error.norm() < 0.05 * moved.norm(), name  # it is computed in bfloat16


def test_a_step_of_normuon_has_muons_length_and_rows_divided_by_their_running_root_mean_square():
    model, config = random_model(), replace(NORMUON, weight_decay=0.1)
    before = {name: p.detach().double().clone() for name, p in model.named_parameters()}
    first, second = step(model, config, steps=2)
    for name, gradient in first.items():
        wanted, momentum, squares = before[name], torch.zeros_like(gradient), 0.0
        for found in (gradient, second[name]):
            momentum = 0.95 * momentum + 0.05 * found
            update = orthogonal(found + 0.95 * (momentum - found))
            squares = 0.95 * squares + 0.05 * update.square().mean(1, keepdim=True)
            update = update / squares.sqrt()
            length = 0.01 * 0.2 * update.numel() ** 0.5
            wanted = wanted * (1 - 0.01 * 0.1) - length * update / update.norm()
        moved = model.get_parameter(name).double() - before[name]
        assert (moved - (wanted - before[name])).norm() < 0.05 * moved.norm(), name  # bfloat16


@pytest.mark.parametrize("config", [MUON, NORMUON], ids=["muon", "normuon"])
def test_muon_has_the_blocks_matrices_and_adam_all_else(config):
    model = random_model(classes=2)
    optimizer = build_optimizer(model, config)
    names = {id(p): name for name, p in model.named_parameters()}
    muon, *adam = ([names[id(p)] for p in group["params"]] for group in optimizer.param_groups)
    assert sorted(muon) == sorted(
        f"blocks.{layer}.{matrix}.weight"
        for layer in range(TINY.layers)
        for matrix in ("attention.query_key_value", "attention.output", "mlp.input", "mlp.output")
    )
    assert {name for group in adam for name in group} == set(names.values()) - set(muon)


def test_what_adam_has_beside_muon_moves_as_it_does_alone():
    alone, beside = random_model(), random_model()
    step(alone, TrainingConfig(steps=3, learning_rate=0.01, schedule="constant"))
    step(beside, MUON)
    for name in ("token_embedding", "color_head.weight", "blocks.1.mlp_norm.gain"):
        assert torch.equal(alone.get_parameter(name), beside.get_parameter(name))


def test_muon_in_shares_is_refused():
    with pytest.raises(ConfigError, match=r"whole matrices.*training\.parallel=ddp"):
        TrainingConfig(optimizer="muon", parallel="fsdp")
