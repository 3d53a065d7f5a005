"""Means of weights: by the closed formula, over stops, and in what is measured and kept."""

import dataclasses
import shutil

import pytest
import torch
from tests.conftest import random_tokens
from tests.training.test_fit import CONFIG, Training

import igpt
from igpt.objectives.autoregressive import autoregressive
from igpt.training.averaging import averaged, update_averages

MEANS = dataclasses.replace(CONFIG, averaging=0.3)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_mean_counts_steps_by_the_closed_formula(share):
    values = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], momentum=0.9)
    for updates, value in enumerate(values, start=1):
        weight.data.fill_(value)
        optimizer.state[weight]["momentum_buffer"] = torch.zeros(1)  # as a step would
        update_averages(optimizer, updates, share)
    counts = torch.arange(10, dtype=torch.float64) ** (1 / share)
    wanted = (counts.diff() * values).sum() / counts[-1]
    with averaged(optimizer):
        torch.testing.assert_close(weight.data[0], wanted)
    assert weight.item() == values[-1]


def test_a_run_with_means_goes_on_as_if_nothing_had_been(tmp_path, tiny_palette):
    whole = Training(tmp_path / "whole", tiny_palette)
    whole.go_on(config=MEANS)
    parts = Training(tmp_path / "parts", tiny_palette)
    while not parts.go_on(config=MEANS, seconds=0.0).finished:
        shutil.rmtree(tmp_path / "parts" / "model")  # and is made again, of means
    (lines, weights), (wanted_lines, wanted) = parts.outcome(), whole.outcome()
    assert lines == wanted_lines
    (model,) = (name for name in wanted if name.parts[0] == "model")
    assert weights[model] == wanted[model]


def test_means_are_measured_and_kept_while_training_is_as_without(tmp_path, tiny_palette):
    outcomes = []
    for name, config in (("newest", CONFIG), ("means", MEANS)):
        training = Training(tmp_path / name, tiny_palette)
        training.go_on(config=config)
        outcomes.append(training.outcome()[0])
    newest, means = outcomes
    assert [line["loss"] for line in newest] == [line["loss"] for line in means]
    assert newest[-1]["score"] != means[-1]["score"]
    kept = igpt.load(tmp_path / "means" / "model").model
    with torch.no_grad():
        loss = autoregressive(kept, random_tokens(4, seed=99))["loss"]
    assert -loss.item() == means[-1]["score"]
