"""What is kept of earlier pixels changes nothing: logits are those of a full pass."""

import dataclasses

import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.model.cached import CachedNetwork

SHAPE = dataclasses.replace(TINY, image_size=5)


@torch.inference_mode()
def followed(model, tokens, steps, *, read=5, **settings):
    """Return the logits of all pixels but the first `read` ones, some at a time."""
    network = CachedNetwork(model, sequences=len(tokens), room=25, **settings)
    seen = [network.read(tokens[:, :read])[:, None]]
    place = read + 1
    for window in steps:
        places = torch.arange(place, place + window).expand(len(tokens), -1)
        sight = network.sight(place + window)
        seen.append(network.logits(tokens.gather(1, places - 1), places, sight))
        place += window
    return torch.cat(seen, dim=1), model(tokens)[:, read:]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("width", [24, 21])  # of which all projections go into parts, or not
@pytest.mark.parametrize("sight", [1, 4, 32])  # as on a CPU; as on a GPU, several and one
@pytest.mark.parametrize("steps", [[1] * 19, [3, 1, 7, 8]])
def test_the_cache_gives_the_logits_of_a_full_pass(bias, width, sight, steps):
    model = random_model(dataclasses.replace(SHAPE, bias=bias, width=width, heads=3))
    tokens = random_tokens(5, config=SHAPE)
    found, wanted = followed(model, tokens, steps, sight=sight)
    torch.testing.assert_close(found, wanted)


@torch.inference_mode()
def test_images_may_be_read_at_places_of_their_own():
    model, tokens = random_model(SHAPE), random_tokens(3, config=SHAPE)
    network = CachedNetwork(model, sequences=3, room=25 + 4, level=False)
    network.read(tokens[:, :4])
    places = torch.tensor([[5], [5], [5]]) + torch.arange(9)
    network.logits(tokens.gather(1, places - 1), places, 14)
    wrong = tokens.clone()
    wrong[:, 8:] = 0  # forgotten again by what is read next
    places = torch.tensor([[9], [7], [13]]) + torch.arange(4)
    network.logits(wrong.gather(1, places - 1), places, 17)
    places = torch.tensor([[9], [7], [13]]) + torch.arange(4)
    found = network.logits(tokens.gather(1, places - 1), places, 17)
    wanted = model(tokens)[torch.arange(3)[:, None], places]
    torch.testing.assert_close(found, wanted)


@torch.inference_mode()
def test_places_beyond_the_last_pixel_disturb_none():
    model, tokens = random_model(SHAPE), random_tokens(2, config=SHAPE)
    network = CachedNetwork(model, sequences=2, room=25 + 6, level=False)
    network.read(tokens[:, :20])
    places = torch.arange(21, 24).expand(2, -1)
    network.logits(tokens.gather(1, places - 1), places, 24)
    places = torch.tensor([[21], [24]]) + torch.arange(6)
    found = network.logits(tokens.gather(1, (places - 1).clamp(max=24)), places, 30)
    wanted = model(tokens)
    torch.testing.assert_close(found[0, :4], wanted[0, 21:])
    torch.testing.assert_close(found[1, :1], wanted[1, 24:])


@torch.inference_mode()
@pytest.mark.parametrize("at_a_time", [1, 12, 2048])  # one image, two, and all three
def test_given_pixels_are_read_once_for_all_samples(at_a_time):
    model, given = random_model(), random_tokens(3)[:, :5]
    network = CachedNetwork(model, sequences=12, room=16)
    found = network.read(given, samples=4, at_a_time=at_a_time)
    wanted = model(torch.nn.functional.pad(given, (0, 1)))[:, -1].repeat_interleave(4, dim=0)
    torch.testing.assert_close(found, wanted)
