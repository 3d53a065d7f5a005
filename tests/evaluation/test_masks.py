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


def test_layer_and_penalty_are_chosen_by_the_modal_class_of_validation_images(
    pretrained, shapes_store
):
    given = {"unmasked": 0.5, "layers": [1, 3], "penalties": (1e-1, 1e-4), "masks": 3, "seed": 5}
    result = mask_ensemble(pretrained, shapes_store, **given)
    both, validation, test = map(shapes_store.split, ("train+validation", "validation", "test"))

    def features(records, layer, *mask):
        return extract_features(pretrained, records, layers=[layer], mask_seed=(5, *mask))[:, 0]

    def votes(probe, records, layer, name):
        parts = [features(records, layer, name, mask) for mask in range(3)]
        return np.stack([probe.predict(part) for part in parts], axis=1)

    tried = {}
    for layer in (1, 3):
        rows = features(both, layer, 0)[:51]
        for part in (1e-1, 1e-4):
            l2 = part * float(rows.var(axis=0, dtype=np.float64).sum())
            voted = votes(LinearProbe(l2).fit(rows, both.labels[:51]), validation, layer, 2)
            tried[layer, l2] = (modal_class(voted, seed=5) == validation.labels).mean()
    layer, l2 = max(tried, key=tried.__getitem__)
    assert result.layer == layer
    assert result.penalty == pytest.approx(l2)
    assert result.validation == tried[layer, l2]
    voted = votes(LinearProbe(l2).fit(features(both, layer, 0), both.labels), test, layer, 1)
    assert result.single == tuple((voted == test.labels[:, None]).mean(axis=0))
    assert result.modal == (modal_class(voted, seed=5) == test.labels).mean()
    assert (result.unmasked, result.converged) == (0.5, True)


def test_an_autoregressive_network_has_no_masks(tiny_palette, shapes_store):
    pretrained = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    test = shapes_store.split("test")
    with pytest.raises(ConfigError, match=r"\(BERT or diffusion\), and this one is"):
        mask_ensemble(pretrained, shapes_store, unmasked=0.0)
    with pytest.raises(ConfigError, match="this one is autoregressive"):
        extract_features(pretrained, test, mask_seed=(0,))


def test_no_mask_at_all_is_refused(pretrained, shapes_store):
    with pytest.raises(ConfigError, match="masks must be at least 1, got 0"):
        mask_ensemble(pretrained, shapes_store, unmasked=0.0, masks=0)
