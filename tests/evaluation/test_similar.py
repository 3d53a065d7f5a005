"""The nearest neighbors of an image."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage
from tests.conftest import blobs

from igpt.errors import ConfigError
from igpt.evaluation.similar import nearest


def test_neighbors_are_those_of_a_loop_over_cosines_of_whitened_features():
    features, _ = blobs(60)
    features = (features * [1, 10, 100, 1, 1, 1] + 1000).astype(np.float32)
    queries = features[:5] + np.float32(0.1)
    near = nearest(features, queries, count=4)
    exact = features.astype(np.float64)
    mean, covariance = exact.mean(axis=0), np.cov(exact.T, bias=True)
    shrinkage = ledoit_wolf_shrinkage(exact)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 6 * np.eye(6)

    def product(one, other):  # as of whitened features, whichever way they are whitened
        return (one - mean) @ np.linalg.solve(shrunk, other - mean)

    for query, numbers, distances in zip(queries, near.numbers, near.distances, strict=True):
        asked = query.astype(np.float64)
        found = []
        for number, other in enumerate(exact):
            length = np.sqrt(product(asked, asked) * product(other, other))
            found.append((1 - product(asked, other) / length, number))
        wanted = sorted(found)[:4]
        assert numbers.tolist() == [number for _, number in wanted]
        np.testing.assert_allclose(distances, [distance for distance, _ in wanted], atol=1e-9)


@pytest.mark.parametrize("images", [2, 3])
def test_a_few_images_have_neighbors_too(images):
    features = np.random.default_rng(0).normal(size=(images, 8)).astype(np.float32)
    near = nearest(features, features, count=images)
    assert near.numbers[:, 0].tolist() == list(range(images))
    np.testing.assert_allclose(near.distances[:, 0], 0, atol=1e-6)


def test_of_equal_images_each_is_as_near():
    features = np.ones((5, 8), np.float32)
    near = nearest(features, features[:1] + 1, count=5)
    assert len(set(near.distances[0].tolist())) == 1


def test_more_neighbors_than_images_are_refused():
    features, _ = blobs(5)
    with pytest.raises(ConfigError, match="from 1 to the 5 images there are, got 6"):
        nearest(features, features, count=6)
