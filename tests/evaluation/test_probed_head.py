import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from igpt.errors import DataError
from igpt.evaluation.probed_head import probed_head, whitening_map


def pooled(records=600, width=12, classes=4, seed=0):
    """Features as networks give them: long, all alike, classes in directions that hardly vary."""
    generator = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(width, width)))
    labels = generator.integers(0, classes, records)
    centers = np.random.default_rng(99).normal(size=(classes, width))
    scale = np.logspace(0, -3, width)
    rows = (2 * centers[labels] + generator.normal(size=(records, width))) * scale
    rows[:, -1] += 6  # shared by all
    return (rows @ turn).astype(np.float32), labels


def logits(head, features):
    with torch.no_grad():
        return head(torch.from_numpy(features)).double().numpy()


def test_mapped_features_are_white_and_the_last_is_one():
    features, _ = pooled()
    mapped = features.astype(np.float64) @ whitening_map(features, floor=1e-9).T
    np.testing.assert_allclose(mapped[:, :-1].mean(axis=0), 0, atol=1e-9)
    # 12 features less the one that reads 1
    variances = np.linalg.eigvalsh(np.cov(mapped[:, :-1].T, bias=True))
    np.testing.assert_allclose(variances, [0, *[1] * 11], atol=1e-2)
    np.testing.assert_allclose(mapped[:, -1], 1, atol=1e-2)


def test_directions_below_the_floor_are_not_blown_up():
    features, _ = pooled()
    covariance = np.cov(features.astype(np.float64).T, bias=True)
    mapped = features.astype(np.float64) @ whitening_map(features, floor=0.1).T
    variances = np.linalg.eigvalsh(np.cov(mapped[:, :-1].T, bias=True))
    before = np.linalg.eigvalsh(covariance)
    wanted = before / (before + 0.1 * before.mean())
    np.testing.assert_allclose(variances[1:], wanted[1:], atol=0.02)


def test_the_head_begins_as_a_probe_of_the_mapped_features():
    features, labels = pooled()
    head = probed_head(features, labels, classes=4, l2=1e-3)
    mapped = features.astype(np.float64) @ head.map.double().numpy().T
    reference = LogisticRegression(C=1 / (1e-3 * len(labels)), tol=1e-9, max_iter=10_000)
    wanted = reference.fit(mapped, labels).decision_function(mapped)
    found = logits(head, features)
    found -= found.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted - wanted.mean(axis=1, keepdims=True), atol=0.05)


def test_a_class_without_images_has_weights_of_zero():
    features, labels = pooled()
    head = probed_head(features, labels * 2, classes=8)
    assert head.weight.shape[0] == 8
    assert not head.weight[1::2].any()
    assert (head.weight[::2] != 0).any(dim=1).all()


def test_features_of_one_class_are_refused():
    features, labels = pooled()
    with pytest.raises(DataError, match="needs records of 2 classes or more"):
        probed_head(features, labels * 0, classes=4)
