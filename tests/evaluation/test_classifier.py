import numpy as np
import pytest
from tests.conftest import random_model

from igpt.data.batches import images_at_size
from igpt.evaluation.classifier import accuracy, predict
from igpt.model.classes import class_logits
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.mark.parametrize("layer", [None, 1])
def test_a_class_is_that_of_the_largest_logit_at_the_heads_layer(shapes_store, tiny_palette, layer):
    pretrained = Pretrained(
        model=random_model(classes=2),
        tokenizer=ImageTokenizer(tiny_palette, 4),
        class_names=("left", "top"),
        class_layer=layer,
    )
    records = shapes_store.split("test")
    tokens = pretrained.tokenizer.encode(images_at_size(records, 4))
    wanted = class_logits(pretrained.model, tokens, layer=layer).argmax(dim=1).numpy()
    assert np.array_equal(predict(pretrained, records, batch_size=3), wanted)
    assert accuracy(pretrained, records) == (wanted == records.require_labels()).mean()
