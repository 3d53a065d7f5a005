"""Choices that the paper does not make: each by its formula, alike in every way of computing."""

from dataclasses import replace

import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens
from tests.model.test_cached import followed

from igpt.errors import ConfigError
from igpt.formats.huggingface import write_huggingface
from igpt.model.block import MLP, SelfAttention
from igpt.model.config import ModelConfig
from igpt.model.pretrained import Pretrained, load_folder
from igpt.model.transformer import ImageGPT

CHOICES = {
    "squared-relu": {"activation": "squared-relu"},
    "query-key-norm": {"query_key_norm": True},
    "rows-and-columns": {"rows_and_columns": True, "order": "hilbert"},
    "value-embedding": {"value_embedding": True},
    "logit-cap": {"logit_cap": 1.5},
    "all": {
        "activation": "squared-relu", "query_key_norm": True, "rows_and_columns": True,
        "value_embedding": True, "logit_cap": 1.5, "initialization": "zero-outputs",
    },
}  # fmt: skip
each = pytest.mark.parametrize("choice", CHOICES)


def chosen(choice, **more) -> ModelConfig:
    return replace(TINY, **CHOICES[choice], **more)


@each
@pytest.mark.parametrize("steps", [[1] * 19, [3, 1, 7, 8]])
def test_the_cache_gives_the_logits_of_a_full_pass(choice, steps):
    config = chosen(choice, image_size=5)
    model, tokens = random_model(config), random_tokens(3, config=config)
    found, wanted = followed(model, tokens, steps)
    torch.testing.assert_close(found, wanted)


@each
def test_no_pixel_sees_a_later_one(choice):
    config = chosen(choice)
    model, tokens = random_model(config), random_tokens(config=config)
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 16
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(after[:, :10], before[:, :10], rtol=0, atol=0)
    assert not torch.allclose(after[:, 10], before[:, 10])


@each
def test_a_hidden_color_changes_nothing(choice):
    config = chosen(choice, causal=False)
    model, tokens = random_model(config), random_tokens(config=config)
    hidden = torch.zeros_like(tokens, dtype=torch.bool)
    hidden[:, 5] = True
    changed = tokens.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 16
    assert torch.equal(model(tokens, hidden), model(changed, hidden))
    assert not torch.allclose(model(tokens), model(changed))


@each
def test_the_config_counts_and_the_folder_keeps_what_the_network_has(
    choice, tmp_path, tiny_palette
):
    model = random_model(chosen(choice))
    assert sum(p.numel() for p in model.parameters()) == model.config.parameters
    pretrained = Pretrained.build(model.config, tiny_palette)
    pretrained.save(tmp_path / "model", weights=model.state_dict())
    tokens = random_tokens()
    assert torch.equal(load_folder(tmp_path / "model").model(tokens), model(tokens))


@each
def test_blocks_computed_again_have_the_same_gradients(choice):
    gradients = []
    for recompute in (False, True):
        model = random_model(chosen(choice)).train()
        model.recompute = recompute
        model(random_tokens()).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    for kept, again in zip(*gradients, strict=True):
        torch.testing.assert_close(again, kept)


@pytest.mark.parametrize("choice", [name for name in CHOICES if name != "squared-relu"])
def test_what_is_not_the_papers_network_is_not_exported_as_it(choice, tmp_path, tiny_palette):
    config = replace(chosen(choice), order="raster")
    pretrained = Pretrained.build(config, tiny_palette)
    with pytest.raises(ConfigError, match=r"cannot say what this network has: .*igpt model folder"):
        write_huggingface(pretrained, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def rms(x):
    return x / (x.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()


@torch.inference_mode()
def test_queries_and_keys_are_normalized_and_values_added_by_the_formula():
    model = random_model(chosen("all")).double()
    tokens = random_tokens()
    attention = model.blocks[1].attention
    assert isinstance(attention, SelfAttention)
    x = torch.randn(2, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    shifted = model.value_embedding[tokens[:, :-1]]
    values = torch.cat([torch.zeros(2, 1, 24), shifted], dim=1)
    q, k, v = (x @ attention.query_key_value.weight.T).chunk(3, dim=-1)
    rows = []
    for head in range(4):
        part = slice(6 * head, 6 * head + 6)
        query = rms(q[..., part]) * attention.query_norm.gain
        key = rms(k[..., part]) * attention.key_norm.gain
        value = v[..., part] + attention.value_gain[head] * values[..., part]
        logits = query @ key.mT / 6**0.5
        logits = logits.masked_fill(torch.ones(16, 16).triu(1).bool(), float("-inf"))
        rows.append(logits.softmax(dim=-1) @ value)
    wanted = torch.cat(rows, dim=-1) @ attention.output.weight.T
    torch.testing.assert_close(attention(x, None, model.values(tokens)), wanted)


@torch.inference_mode()
def test_activations_caps_and_positions_are_by_their_formulas():
    model = random_model(replace(chosen("all"), order="columns"))
    mlp, head = model.blocks[0].mlp, model.color_head
    assert isinstance(mlp, MLP)
    x = torch.randn(1, 5, 24)
    inner = (x @ mlp.input.weight.T).clamp(min=0) ** 2
    torch.testing.assert_close(mlp(x), inner @ mlp.output.weight.T)
    torch.testing.assert_close(head(x), 1.5 * torch.tanh(x @ head.weight.T / 1.5))
    place = 4 * 2 + 1  # the third column's second pixel
    wanted = model.position_embedding[place] + model.row_embedding[1] + model.column_embedding[2]
    torch.testing.assert_close(model.positions()[place], wanted)


def test_a_network_with_outputs_from_zero_begins_as_its_embeddings():
    torch.manual_seed(0)
    model, tokens = ImageGPT(chosen("all")), random_tokens()
    torch.testing.assert_close(model.final_state(tokens), model.final_norm(model.embed(tokens)))
