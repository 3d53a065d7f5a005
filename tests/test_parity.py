"""igpt beside `transformers` and the released formulas: the rows of benchmarks/parity.py."""

import dataclasses

import pytest
from benchmarks import parity

from igpt.model.config import SIZES


def require_all(rows):
    rows = list(rows)
    assert len(rows) >= 2
    over = [row for row in rows if not row.holds]
    assert not over, over


def test_the_released_variables_give_the_formulas_numbers():
    require_all(parity.beside_the_formulas())


@pytest.mark.parametrize("bias", [False, True])
def test_a_small_network_gives_transformers_numbers(bias):
    config = dataclasses.replace(parity.SMALL, bias=bias)
    require_all(parity.beside_transformers(config, name="small"))


@pytest.mark.parametrize("layers", [2, pytest.param(24, marks=pytest.mark.slow)])
def test_igpt_s_gives_transformers_numbers(layers):
    config = dataclasses.replace(SIZES["igpt-s"], layers=layers)
    require_all(parity.beside_transformers(config, name="S", images=1, completed=8))


def test_another_network_is_found_out(monkeypatch):
    """The comparison can fail: a norm that divides by the standard deviation is seen."""
    from igpt.model.block import RMSNorm

    def standardized(norm, x):
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5) * norm.gain

    monkeypatch.setattr(RMSNorm, "forward", standardized)
    rows = {row.quantity: row for row in parity.beside_transformers(parity.SMALL, name="wrong")}
    assert not rows["logits"].holds
    assert not rows["gradients of every weight, relative to the largest entry"].holds
