import dataclasses

import pytest
from tests.conftest import TINY

from igpt.errors import ConfigError
from igpt.model.config import ModelConfig

BERT = dataclasses.replace(TINY, causal=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"width": 511}, "try width=504"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"colors": 1}, "between 2 and 65536"),
        ({"order": "diagonal"}, "there is no reading order 'diagonal'"),
    ],
)
def test_a_shape_that_no_network_can_have_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)


def test_a_layer_lies_between_the_embeddings_and_the_final_norm():
    assert [TINY.check_layer(layer) for layer in (0, 2, 3, None)] == [0, 2, 3, 3]
    for layer in (-1, 4):
        with pytest.raises(ConfigError, match=f"between 0 and 3 for this network, got {layer}"):
            TINY.check_layer(layer)


def test_likelihoods_are_a_causal_networks_and_masks_are_berts():
    TINY.require_causal()
    BERT.require_bert()
    with pytest.raises(ConfigError, match="only an autoregressive network predicts each pixel"):
        BERT.require_causal()
    with pytest.raises(ConfigError, match="masks are for networks that were trained with hidden"):
        TINY.require_bert()
