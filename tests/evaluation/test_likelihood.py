import dataclasses
import math

import numpy as np
import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens
from tests.conftest import random_records as records

from igpt.errors import ConfigError, DataError
from igpt.evaluation.likelihood import (
    evaluate,
    image_losses,
    next_pixel_distribution,
    pixel_losses,
    surprise_maps,
)
from igpt.model.pretrained import Pretrained
from igpt.objectives.masked import image_masks
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


def pixel_by_pixel(pretrained, images):
    """Every pixel's cost from a pass over what is before it, in float64."""
    model = pretrained.model.double()
    costs = []
    for tokens in pretrained.tokenizer.encode(images):
        of_image = []
        for i, token in enumerate(tokens):
            with torch.no_grad():
                row = model(tokens[None, : i + 1])[0, i].numpy()
            of_image.append(-math.log(np.exp(row[token]) / np.exp(row).sum()))
        costs.append(of_image)
    model.float()
    return np.array(costs)


def test_likelihood_is_the_mean_over_all_pixels_or_all_but_the_first(pretrained):
    wanted = pixel_by_pixel(pretrained, records().images)
    for batch_size in (1, 3, 64):
        result = evaluate(pretrained, records(), batch_size=batch_size)
        assert result.objective == "autoregressive"
        assert result.images == 7
        assert result.nats_per_pixel == pytest.approx(wanted.mean(), rel=1e-5)
        assert result.bits_per_pixel == pytest.approx(wanted.mean() / math.log(2), rel=1e-5)
        assert result.nats_per_pixel_from_second == pytest.approx(wanted[:, 1:].mean(), rel=1e-5)
    drawn = pixel_by_pixel(pretrained, records().sample(2).images)
    few = evaluate(pretrained, records(), images=2)
    assert (few.images, few.nats_per_pixel) == (2, pytest.approx(drawn.mean(), rel=1e-5))


def test_each_pixel_s_loss_can_be_had(pretrained):
    tokens = pretrained.tokenizer.encode(records().images)
    np.testing.assert_allclose(
        pixel_losses(pretrained.model, tokens).numpy(),
        pixel_by_pixel(pretrained, records().images),
        rtol=1e-4,
    )


def test_each_images_loss_is_the_mean_over_its_pixels_one_by_one(pretrained):
    wanted = pixel_by_pixel(pretrained, records().images).mean(axis=1)
    for batch_size in (1, 3, 64):
        losses = image_losses(pretrained, records(), batch_size=batch_size)
        assert losses.dtype == np.float64
        np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    of_larger = image_losses(pretrained, records(size=8))  # resampled to the network's size
    assert of_larger.shape == (7,)
    with pytest.raises(DataError, match="images of 2x2 pixels, and 4x4 are wanted"):
        image_losses(pretrained, records(size=2))


def test_a_bert_network_is_measured_on_hidden_pixels(tiny_palette):
    bert = Pretrained(
        model=random_model(dataclasses.replace(TINY, causal=False)),
        tokenizer=ImageTokenizer(tiny_palette, 4),
    )
    result = evaluate(bert, records(), seed=3)
    tokens = bert.tokenizer.encode(records().images)
    hidden = image_masks(tokens, (3,), range(len(tokens)))
    with torch.no_grad():
        chances = bert.model(tokens, hidden).double().log_softmax(dim=-1)
    wanted = []
    for image in range(7):
        positions = hidden[image].nonzero().flatten()
        costs = [-chances[image, i, tokens[image, i]].item() for i in positions]
        wanted.append(sum(costs) / max(1, len(costs)))
    assert result.nats_per_pixel == pytest.approx(np.mean(wanted), rel=1e-5)
    assert result.nats_per_pixel_from_second is None
    assert result == evaluate(bert, records(), seed=3)
    with pytest.raises(ConfigError, match="of a diffusion network is estimated, and this one is B"):
        evaluate(bert, records(), draws=2)


def test_the_next_pixels_distribution_is_that_of_the_whole_images_logits():
    model, tokens = random_model(), random_tokens(3)
    whole = model(tokens).softmax(dim=-1)
    for given in (0, 1, 9, 15):
        chances = next_pixel_distribution(model, tokens[:, :given])
        torch.testing.assert_close(chances, whole[:, given])
        torch.testing.assert_close(chances.sum(dim=1), torch.ones(3))
    with pytest.raises(ConfigError, match="16 pixels and 16 are given; give one less"):
        next_pixel_distribution(model, tokens)


def test_a_surprise_map_is_minus_the_log_of_each_pixels_probability_one_by_one(tiny_palette):
    model = random_model().double()
    pretrained = Pretrained(model=model, tokenizer=ImageTokenizer(tiny_palette, 4))
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    maps = surprise_maps(pretrained, images)
    for number, image in enumerate(pretrained.tokenizer.encode(images)):
        for position, color in enumerate(image):
            logits = model(image[None])[0, position].detach().numpy()
            probability = np.exp(logits[color]) / np.exp(logits).sum()
            surprise = maps[number, position // 4, position % 4]
            assert surprise == pytest.approx(-math.log(probability), rel=1e-5)


def test_a_network_that_hides_pixels_has_no_surprise(tiny_palette):
    bert = random_model(dataclasses.replace(TINY, causal=False))
    pretrained = Pretrained(model=bert, tokenizer=ImageTokenizer(tiny_palette, 4))
    with pytest.raises(ConfigError, match=r"trained with hidden pixels \(BERT or diffusion\)"):
        surprise_maps(pretrained, np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(ConfigError, match="trained with hidden pixels"):
        image_losses(pretrained, records())
    with pytest.raises(ConfigError, match="only an autoregressive network predicts each pixel"):
        next_pixel_distribution(bert, random_tokens())
