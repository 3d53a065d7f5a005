import dataclasses
import math

import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.errors import ConfigError
from igpt.model.classes import class_logits
from igpt.objectives.autoregressive import autoregressive, color_losses
from igpt.objectives.classification import Classification
from igpt.objectives.masked import hidden_color_loss, masked, random_mask

BERT = dataclasses.replace(TINY, causal=False)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def log_probability(logits, token):
    """log softmax by its definition, in Python floats."""
    values = [math.exp(value) for value in logits.tolist()]
    return math.log(values[token] / sum(values))


def test_the_autoregressive_loss_is_the_mean_over_all_pixels():
    model, tokens = random_model(), random_tokens()
    logits = model(tokens)
    by_hand = [
        -log_probability(logits[image, i], tokens[image, i])
        for image in range(2)
        for i in range(16)
    ]
    assert autoregressive(model, tokens)["loss"].item() == pytest.approx(sum(by_hand) / 32)
    assert color_losses(logits, tokens).flatten().tolist() == pytest.approx(by_hand)


def test_a_model_that_knows_nothing_costs_the_log_of_the_palette():
    losses = color_losses(torch.zeros(2, 16, 512), torch.zeros(2, 16, dtype=torch.long))
    torch.testing.assert_close(losses.mean(), torch.tensor(512.0).log())


def test_fifteen_percent_of_the_pixels_are_hidden():
    hidden = random_mask(torch.zeros(100, 1024, dtype=torch.long), generator())
    assert hidden.float().mean().item() == pytest.approx(0.15, abs=0.005)
    assert torch.equal(hidden, random_mask(torch.zeros(100, 1024).long(), generator()))


def test_the_masked_loss_is_averaged_by_image_and_then_over_images():
    model, tokens = random_model(BERT), random_tokens()
    hidden = torch.zeros_like(tokens, dtype=torch.bool)
    hidden[0, [1, 2, 3]] = True
    hidden[1, 7] = True  # one pixel here weighs as much as three there
    logits = model(tokens, hidden)
    first = sum(-log_probability(logits[0, i], tokens[0, i]) for i in (1, 2, 3)) / 3
    second = -log_probability(logits[1, 7], tokens[1, 7])
    loss = hidden_color_loss(model, model.final_state(tokens, hidden), tokens, hidden)
    assert loss.item() == pytest.approx((first + second) / 2)


def test_an_image_without_hidden_pixels_costs_nothing():
    model, tokens = random_model(BERT), random_tokens()
    hidden = torch.zeros_like(tokens, dtype=torch.bool)
    assert hidden_color_loss(model, model.final_state(tokens, hidden), tokens, hidden).item() == 0


def test_the_masked_objective_hides_what_its_generator_says():
    model, tokens = random_model(BERT), random_tokens()
    hidden = random_mask(tokens, generator(3), 0.4)
    wanted = hidden_color_loss(model, model.final_state(tokens, hidden), tokens, hidden)
    loss = masked(model, tokens, None, generator(3), probability=0.4)["loss"]
    torch.testing.assert_close(loss, wanted)


@pytest.mark.parametrize("layer", [0, 1, 3, None])
def test_class_logits_are_the_mean_state_through_the_head(layer):
    model, tokens = random_model(classes=5), random_tokens()
    states = list(model.states(tokens))
    state = states[-1 if layer is None else layer]
    wanted = state.mean(dim=1) @ model.class_head.weight.T
    torch.testing.assert_close(class_logits(model, tokens, layer=layer), wanted)


@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("coefficient", [0.0, 0.5, 1.0])
def test_the_joint_loss_is_class_loss_plus_coefficient_times_pixel_loss(layer, coefficient):
    model, tokens = random_model(classes=5), random_tokens()
    labels = torch.tensor([1, 4])
    found = Classification(pixel_coefficient=coefficient, layer=layer)(
        model, tokens, labels, generator()
    )
    class_loss = torch.nn.functional.cross_entropy(class_logits(model, tokens, layer=layer), labels)
    pixel_loss = autoregressive(model, tokens)["loss"]
    torch.testing.assert_close(found["loss"], class_loss + coefficient * pixel_loss)
    torch.testing.assert_close(found["class_loss"], class_loss)
    assert ("pixel_loss" in found) == (coefficient > 0)


def test_bert_fine_tunes_on_hidden_pixels_jointly_and_alone():
    model, tokens = random_model(BERT, classes=5), random_tokens()
    labels = torch.tensor([1, 4])
    hidden = random_mask(tokens, generator(7), 0.5)
    joint = Classification(mask_probability=0.5)(model, tokens, labels, generator(7))
    final = model.final_state(tokens, hidden)
    torch.testing.assert_close(joint["pixel_loss"], hidden_color_loss(model, final, tokens, hidden))
    alone = Classification(mask_probability=0.5, pixel_coefficient=0.0)(
        model, tokens, labels, generator(7)
    )
    logits = class_logits(model, tokens, hidden=hidden)
    wanted = torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(alone["loss"], wanted)
    torch.testing.assert_close(joint["class_loss"], wanted)


def test_the_class_head_reads_in_float32_whatever_the_network_computes_in():
    model, tokens = random_model(classes=5), random_tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        state = list(model.states(tokens))[-1]
        found = class_logits(model, tokens)
    assert found.dtype == torch.float32
    wanted = state.double().mean(dim=1) @ model.class_head.weight.double().T
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="between 0 and 3 for this network, got 4"):
        class_logits(random_model(classes=2), random_tokens(), layer=4)
