import dataclasses

import numpy as np
import pytest
import torch
from tests.conftest import TINY, random_model
from tests.conftest import random_records as records

from igpt.errors import ConfigError, DataError
from igpt.evaluation.features import extract_features
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture(params=["causal", "bert"])
def pretrained(request, tiny_palette):
    config = dataclasses.replace(TINY, causal=request.param == "causal")
    return Pretrained(model=random_model(config), tokenizer=ImageTokenizer(tiny_palette, 4))


def test_features_are_the_mean_normalized_states_of_every_layer(pretrained):
    features = extract_features(pretrained, records(), batch_size=3)
    tokens = pretrained.tokenizer.encode(records().images)
    with torch.no_grad():
        states = list(pretrained.model.states(tokens))
    wanted = np.stack([state.mean(dim=1).numpy() for state in states], axis=1)
    assert features.shape == (7, 4, 24)
    np.testing.assert_allclose(features, wanted, atol=1e-6)
    # A normalized state has a mean square of gain²: the first layer's, before its gain, of one.
    gain = pretrained.model.blocks[0].attention_norm.gain.detach()
    square = (states[0].detach() / gain).pow(2).mean(dim=-1)
    torch.testing.assert_close(square, torch.ones_like(square), atol=1e-3, rtol=0)


def test_some_layers_are_those_layers_of_all(pretrained):
    every = extract_features(pretrained, records())
    some = extract_features(pretrained, records(), layers=[3, 1])
    assert np.array_equal(some, every[:, [3, 1]])
    twice = extract_features(pretrained, records(), layers=[2, 2])
    assert np.array_equal(twice, every[:, [2, 2]])


def test_features_can_be_written_to_a_file_as_they_come(pretrained, tmp_path):
    out = np.lib.format.open_memmap(
        tmp_path / "features.npy", mode="w+", dtype=np.float32, shape=(7, 2, 24)
    )
    assert extract_features(pretrained, records(), layers=[0, 3], out=out) is out
    out.flush()
    wanted = extract_features(pretrained, records(), layers=[0, 3])
    assert np.array_equal(np.load(tmp_path / "features.npy"), wanted)


def test_an_array_of_another_shape_or_type_is_not_written_to(pretrained):
    for out in (np.empty((7, 4, 23), np.float32), np.empty((7, 4, 24))):
        with pytest.raises(ConfigError, match=r"float32 of shape \(7, 4, 24\)"):
            extract_features(pretrained, records(), out=out)


def test_larger_images_are_made_smaller(pretrained):
    small = records()
    large = dataclasses.replace(small, images=small.images.repeat(2, axis=1).repeat(2, axis=2))
    assert np.array_equal(extract_features(pretrained, large), extract_features(pretrained, small))


def test_a_layer_that_is_not_there_and_images_too_small_are_refused(pretrained):
    with pytest.raises(ConfigError, match="between 0 and 3 for this network, got 4"):
        extract_features(pretrained, records(), layers=[4])
    with pytest.raises(DataError):
        extract_features(pretrained, records(size=2))
