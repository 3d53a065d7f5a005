import math

import numpy as np
import pytest
import torch
from tests.evaluation.test_few_labels import blobs

from igpt.errors import ConfigError, DataError
from igpt.evaluation.logistic import LinearProbe
from igpt.evaluation.sgd import sgd_probes, train_heads
from igpt.randomness import Stream, stream


def layered(records=120, layers=3, seed=0, spread=1.0):
    """Features whose layers tell more and more about the class."""
    features, labels = blobs(records=records, seed=seed, spread=spread)
    noise = np.random.default_rng(seed + 50).normal(size=(records, layers, features.shape[1]))
    shares = np.linspace(0.1, 1, layers)[None, :, None]
    return (shares * features[:, None] + (1 - shares) * noise).astype(np.float32), labels


def test_heads_trained_side_by_side_are_those_trained_one_by_one():
    features, labels = layered()
    rates = np.array([[3.0, 0.1], [1.0, 0.3], [10.0, 0.03]])
    heads = train_heads(
        features, labels, rates=rates, classes=np.arange(4), steps=45, batch_size=20, seed=7
    )
    for layer in range(3):
        for number in range(2):
            head = torch.nn.Linear(6, 4)
            torch.nn.init.zeros_(head.weight)
            torch.nn.init.zeros_(head.bias)
            optimizer = torch.optim.SGD(head.parameters(), lr=rates[layer, number], momentum=0.9)
            for step in range(45):
                epoch, batch = divmod(step, 6)
                order = stream(Stream.SGD_ORDER, 7, epoch).permutation(120)
                part = order[batch * 20 : (batch + 1) * 20]
                decay = 0.5 * (1 + math.cos(math.pi * step / 45))
                optimizer.param_groups[0]["lr"] = rates[layer, number] * decay
                loss = torch.nn.functional.cross_entropy(
                    head(torch.from_numpy(features[part, layer])), torch.from_numpy(labels[part])
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            found = heads[layer, number]
            torch.testing.assert_close(found[:, :-1], head.weight.data, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(found[:, -1], head.bias.data, rtol=1e-4, atol=1e-4)


def test_long_enough_it_reaches_what_l_bfgs_reaches():
    train, validation, test = (layered(records=400, seed=seed) for seed in range(3))
    results = sgd_probes(
        train, validation, test, learning_rates=[0.3, 0.03], steps=600, batch_size=100
    )
    accuracies = [result.test_accuracy for result in results]
    assert accuracies == sorted(accuracies)
    features = np.concatenate([train[0], validation[0]])[:, 2]
    labels = np.concatenate([train[1], validation[1]])
    wanted = LinearProbe(1e-5).fit(features, labels).score(test[0][:, 2], test[1])
    assert results[2].test_accuracy == pytest.approx(wanted, abs=0.02)


def test_the_rate_is_chosen_on_validation():
    train, validation, test = (layered(seed=seed) for seed in range(3))
    results = sgd_probes(train, validation, test, learning_rates=[1e4, 0.3], steps=50,
                         batch_size=20)  # fmt: skip
    for result in results:
        best = max(result.validation_accuracies.values())
        assert result.validation_accuracy == best
        assert result.validation_accuracies[result.learning_rate] == best
    assert any(len(set(result.validation_accuracies.values())) > 1 for result in results)


def test_labels_may_be_any_numbers():
    train, validation, test = (layered(seed=seed) for seed in range(3))
    wanted = sgd_probes(train, validation, test, learning_rates=[0.3], steps=30, batch_size=20)
    moved = [(features, 10 * labels - 7) for features, labels in (train, validation, test)]
    assert sgd_probes(*moved, learning_rates=[0.3], steps=30, batch_size=20) == wanted


def test_what_cannot_be_is_refused():
    train, validation, test = (layered(seed=seed) for seed in range(3))
    for rates in ([], [0.0], [float("inf")]):
        with pytest.raises(ConfigError, match="learning rates are positive and finite"):
            sgd_probes(train, validation, test, learning_rates=rates, batch_size=20)
    with pytest.raises(ConfigError, match="got 5 and 500"):
        sgd_probes(train, validation, test, steps=5, batch_size=500)
    with pytest.raises(DataError, match="do not fit each other or the training features"):
        sgd_probes(train, (validation[0][:, :2], validation[1]), test, batch_size=20)
