import dataclasses

import pytest
import torch
from tests.conftest import TINY, random_model, random_records

from igpt.errors import ConfigError
from igpt.evaluation.batches import measured_batches
from igpt.model.pretrained import Pretrained
from igpt.objectives.masked import image_masks
from igpt.pixels.tokenizer import ImageTokenizer


def pretrained(palette, *, causal=True):
    model = random_model(dataclasses.replace(TINY, causal=causal))
    return Pretrained(model=model, tokenizer=ImageTokenizer(palette, 4))


def test_all_images_come_once_and_in_order(tiny_palette):
    ours, records = pretrained(tiny_palette), random_records(7)
    batches = list(measured_batches(ours, records, batch_size=3))
    numbers = [number for part, _, _ in batches for number in range(part.start, part.stop)]
    assert numbers == list(range(7))
    tokens = torch.cat([tokens for _, tokens, _ in batches])
    assert torch.equal(tokens, ours.tokenizer.encode(records.images))
    assert all(hidden is None for _, _, hidden in batches)


def test_what_is_hidden_of_an_image_does_not_depend_on_the_batch(tiny_palette):
    ours, records = pretrained(tiny_palette, causal=False), random_records(7)
    tokens = ours.tokenizer.encode(records.images)
    wanted = image_masks(tokens, (3, 1), range(7), ours.mask_probability)
    for batch_size in (1, 4, 7):
        batches = measured_batches(ours, records, batch_size=batch_size, mask_seed=(3, 1))
        assert torch.equal(torch.cat([hidden for _, _, hidden in batches]), wanted)


def test_nothing_can_be_hidden_from_an_autoregressive_network(tiny_palette):
    with pytest.raises(ConfigError, match=r"\(BERT or diffusion\), and this one is"):
        next(measured_batches(pretrained(tiny_palette), random_records(), batch_size=1,
                              mask_seed=(0,)))  # fmt: skip
