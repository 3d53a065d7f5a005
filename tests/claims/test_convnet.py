"""The supervised baseline learns, and its features are what its head reads."""

import numpy as np
import pytest
import torch

from igpt.claims.convnet import convnet_accuracy, pooled_features, train_convnet
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store


@pytest.fixture(scope="module")
def trained(shapes_store):
    return train_convnet(shapes_store.split("train"), image_size=8, seed=0, epochs=8)


def test_it_learns_labels(tmp_path):
    store = prepare_store("digits", tmp_path / "digits", StoreConfig(image_size=8, placements=1))
    train, test = store.split("train").sample(500), store.split("test").sample(200)
    network = train_convnet(train, image_size=8, seed=0, epochs=6)
    assert convnet_accuracy(network, test, image_size=8) > 0.7


def test_its_features_are_what_its_head_reads(trained, shapes_store):
    test = shapes_store.split("test")
    features = torch.from_numpy(pooled_features(trained, test, image_size=8))
    answers = trained.head(features).argmax(dim=1).numpy()
    accuracy = np.mean(answers == test.require_labels())
    assert convnet_accuracy(trained, test, image_size=8) == pytest.approx(accuracy)


def test_it_is_a_function_of_the_seed(trained, shapes_store):
    again, other = (
        train_convnet(shapes_store.split("train"), image_size=8, seed=seed, epochs=8)
        for seed in (0, 1)
    )
    weights = trained.head.weight
    assert torch.equal(weights, again.head.weight)
    assert not torch.equal(weights, other.head.weight)
