import math

import numpy as np
import pytest
import torch
from tests.conftest import blobs

from igpt.data.order import records_at_step
from igpt.errors import ConfigError
from igpt.evaluation.logistic import LinearProbe
from igpt.evaluation.sgd import score_heads, train_heads


def layered(records=120, layers=3, seed=0, spread=1.0):
    """Features whose layers tell more and more about the class."""
    features, labels = blobs(records=records, seed=seed, spread=spread)
    noise = np.random.default_rng(seed + 50).normal(size=(records, layers, features.shape[1]))
    shares = np.linspace(0.1, 1, layers)[None, :, None]
    return (shares * features[:, None] + (1 - shares) * noise).astype(np.float32), labels


def test_heads_trained_side_by_side_are_those_trained_one_by_one():
    features, labels = layered()
    rates = np.array([[3.0, 0.1], [1.0, 0.3], [10.0, 0.03]])
    heads = train_heads(features, labels, rates, steps=45, batch_size=20, seed=7, whiten=False)
    for layer, number in np.ndindex(3, 2):
        head = torch.nn.Linear(6, 4)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        optimizer = torch.optim.SGD(head.parameters(), lr=1.0, momentum=0.9)
        for step in range(45):
            part = records_at_step(step, records=120, batch_size=20, seed=7)
            decay = 0.5 * (1 + math.cos(math.pi * step / 45))
            optimizer.param_groups[0]["lr"] = rates[layer, number] * decay
            loss = torch.nn.functional.cross_entropy(
                head(torch.from_numpy(features[part, layer])), torch.from_numpy(labels[part])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ours, theirs = heads[layer][number], head.double()
        torch.testing.assert_close(ours.weight, theirs.weight.data, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.bias, theirs.bias.data, rtol=1e-4, atol=1e-4)


def hidden_classes(seed=0):
    """Features as pooled ones are: far from zero, and the classes where they vary little."""
    features, labels = blobs(records=400, seed=seed)
    generator = np.random.default_rng(seed + 50)
    wide = generator.normal(size=(400, 6)) * np.logspace(1, 0, 6)
    rotation = np.linalg.qr(np.random.default_rng(98).normal(size=(12, 12)))[0]
    return (np.concatenate([wide, 0.1 * features], axis=1) @ rotation + 30)[:, None], labels


def test_whitening_lets_a_head_find_classes_where_features_vary_little():
    (features, labels), (other, truth) = hidden_classes(), hidden_classes(1)
    given = {"rates": np.array([[0.3, 0.03, 3e-4, 3e-6]]), "steps": 300}
    whitened = train_heads(features, labels, **given)
    raw = train_heads(features, labels, **given, whiten=False)
    wanted = LinearProbe(1e-5).fit(features[:, 0], labels).score(other[:, 0], truth)
    assert score_heads(whitened, other, truth).max() > wanted - 0.02
    assert score_heads(raw, other, truth).max() < wanted - 0.1


def test_whitened_heads_are_those_trained_on_features_whitened_by_hand():
    features, labels = hidden_classes()
    mean = features[:, 0].mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(features[:, 0].T, bias=True))
    stretch = axes / np.sqrt(variances + 1e-5 * variances.sum())
    by_hand = ((features[:, 0] - mean) @ stretch)[:, None].astype(np.float32)
    rates = np.array([[0.3, 0.03]])
    given = {"rates": rates, "steps": 50, "seed": 3}
    ours = train_heads(features, labels, **given)
    theirs = train_heads(by_hand, labels, **given, whiten=False)
    for one, other in zip(ours[0], theirs[0], strict=True):
        logits = features[:, 0] @ one.weight.numpy().T + one.bias.numpy()
        wanted = by_hand[:, 0] @ other.weight.numpy().T + other.bias.numpy()
        np.testing.assert_allclose(logits, wanted, atol=2e-3)


def test_all_heads_are_scored_in_one_pass_as_each_alone():
    features, labels = layered(3000)
    heads = train_heads(features, labels, np.array([[0.3, 1e-3]] * 3), steps=5)
    wanted = [[head.score(features[:, n], labels) for head in row] for n, row in enumerate(heads)]
    assert score_heads(heads, features, labels).tolist() == wanted


def test_features_may_lie_on_disk(tmp_path):
    features, labels = layered()
    np.save(tmp_path / "f.npy", features)
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    rates = np.full((3, 1), 0.3)
    for (one,), (other,) in zip(
        train_heads(features, labels, rates, steps=20),
        train_heads(mapped, labels, rates, steps=20),
        strict=True,
    ):
        assert torch.equal(one.weight, other.weight)


def test_long_enough_they_reach_what_l_bfgs_reaches():
    (features, labels), (other, truth) = layered(400), layered(400, seed=1)
    rates = np.full((3, 1), 0.03)
    heads = train_heads(features, labels, rates, steps=600, batch_size=100)
    ours = [head.score(other[:, layer], truth) for layer, (head,) in enumerate(heads)]
    theirs = [
        LinearProbe(1e-5).fit(features[:, layer], labels).score(other[:, layer], truth)
        for layer in range(3)
    ]
    assert ours == pytest.approx(theirs, abs=0.02)
    assert ours == sorted(ours)


def test_labels_may_be_any_integers():
    features, labels = layered()
    rates = np.full((3, 1), 0.3)
    plain = train_heads(features, labels, rates, steps=30, batch_size=20)
    moved = train_heads(features, 10 * labels - 7, rates, steps=30, batch_size=20)
    for (one,), (other,) in zip(plain, moved, strict=True):
        assert torch.equal(one.weight, other.weight)
        assert one.score(features[:, 0], labels) == other.score(features[:, 0], 10 * labels - 7)


def test_a_batch_is_no_larger_than_the_records_there_are():
    features, labels = layered(30)
    rates = np.full((3, 1), 0.3)
    large = train_heads(features, labels, rates, steps=5, batch_size=500)
    whole = train_heads(features, labels, rates, steps=5, batch_size=30)
    assert torch.equal(large[0][0].weight, whole[0][0].weight)


def test_what_cannot_be_is_refused():
    features, labels = layered()
    for rate in (0.0, -1.0, float("inf")):
        with pytest.raises(ConfigError, match="learning rates are positive and finite"):
            train_heads(features, labels, np.full((3, 1), rate))
    with pytest.raises(ConfigError, match="at least 1, got 0 and 20"):
        train_heads(features, labels, np.ones((3, 1)), steps=0, batch_size=20)
