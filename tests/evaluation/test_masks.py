import dataclasses

import numpy as np
import pytest
from tests.conftest import TINY, random_model

from igpt.data.batches import images_at_size
from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features
from igpt.evaluation.logistic import LinearProbe
from igpt.evaluation.masks import mask_ensemble, modal_class
from igpt.model.pretrained import Pretrained
from igpt.objectives.masked import image_masks
from igpt.pixels.tokenizer import ImageTokenizer

BERT = dataclasses.replace(TINY, causal=False)


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(
        model=random_model(BERT), tokenizer=ImageTokenizer(tiny_palette, 4), mask_probability=0.3
    )


def test_the_modal_class_by_hand():
    votes = np.array([[1, 1, 2, 2, 1], [0, 3, 3, 0, 3], [5, 5, 5, 5, 5], [7, 7, 2, 2, 7]])
    assert modal_class(votes).tolist() == [1, 3, 5, 7]


def test_ties_are_broken_at_random_and_by_the_seed():
    votes = np.tile([4, 9, 9, 4], (3000, 1))
    first = modal_class(votes, seed=1)
    assert np.array_equal(first, modal_class(votes, seed=1))
    assert not np.array_equal(first, modal_class(votes, seed=2))
    assert abs((first == 4).mean() - 0.5) < 5 * 0.5 / 3000**0.5
    assert set(first.tolist()) == {4, 9}


def test_features_under_a_mask_are_those_of_images_hidden_so(pretrained, shapes_store):
    records = shapes_store.split("test")
    features = extract_features(pretrained, records, mask_seed=(7,), batch_size=3)
    assert np.array_equal(
        features, extract_features(pretrained, records, mask_seed=(7,), batch_size=3)
    )
    tokens = pretrained.tokenizer.encode(images_at_size(records, 4))
    shares = []
    for number in range(len(records)):
        hidden = image_masks(tokens[:1], (7,), [number], pretrained.mask_probability)
        shares.append(hidden.float().mean().item())
        states = pretrained.model.states(tokens[number : number + 1], hidden)
        wanted = np.stack([state.mean(dim=1)[0].detach().numpy() for state in states])
        np.testing.assert_allclose(features[number], wanted, atol=1e-5)
    assert 0.1 < np.mean(shares) < 0.5
    assert not np.allclose(features, extract_features(pretrained, records))


def test_the_ensemble_is_the_modal_class_of_probes_under_each_mask(pretrained, shapes_store):
    train, test = shapes_store.split("train"), shapes_store.split("test")
    result = mask_ensemble(pretrained, train, test, layer=2, l2=1e-3, masks=3, seed=5)
    labels, truth = train.labels, test.labels

    def features(records, seed):
        return extract_features(pretrained, records, layers=[2], mask_seed=seed)[:, 0]

    probe = LinearProbe(1e-3).fit(features(train, (5, 0)), labels)
    votes = np.stack([probe.predict(features(test, (5, 1, m))) for m in range(3)], axis=1)
    assert result.single == tuple((votes == truth[:, None]).mean(axis=0))
    assert result.modal == (modal_class(votes, seed=5) == truth).mean()
    whole = LinearProbe(1e-3).fit(features(train, None), labels)
    assert result.unmasked == whole.score(features(test, None), truth)
    one = mask_ensemble(pretrained, train, test, layer=2, l2=1e-3, masks=1, seed=5)
    assert one.modal == one.single[0] == result.single[0]


def test_an_autoregressive_network_has_no_masks(tiny_palette, shapes_store):
    pretrained = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    test = shapes_store.split("test")
    with pytest.raises(ConfigError, match=r"trained with hidden pixels \(BERT\), and this one is"):
        mask_ensemble(pretrained, test, test, layer=0, l2=1.0)
    with pytest.raises(ConfigError, match="this one is autoregressive"):
        extract_features(pretrained, test, mask_seed=(0,))


def test_no_mask_at_all_is_refused(pretrained, shapes_store):
    test = shapes_store.split("test")
    with pytest.raises(ConfigError, match="masks must be at least 1, got 0"):
        mask_ensemble(pretrained, test, test, layer=0, l2=1.0, masks=0)
