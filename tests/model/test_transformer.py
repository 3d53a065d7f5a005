import dataclasses
import math

import numpy as np
import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.errors import DataError
from igpt.model.block import RMSNorm
from igpt.model.config import SIZES, ModelConfig
from igpt.model.transformer import ImageGPT

BERT = dataclasses.replace(TINY, causal=False)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # method.md section 3 and the released shapes: wte, wtet (512 d), wpe (n d), sos (d),
        # 12 d^2 + 2 d a layer, d of the last norm.
        ("igpt-s", 76_571_648),
        ("igpt-m", 455_157_760),
        ("igpt-l", 1_362_250_752),
    ],
)
def test_the_published_sizes_have_the_published_weights(name, parameters):
    with torch.device("meta"):
        model = ImageGPT(SIZES[name])
    assert sum(p.numel() for p in model.parameters()) == parameters == SIZES[name].parameters


def test_xl_has_6801_million_weights_with_1024_positions():
    config = dataclasses.replace(SIZES["igpt-xl"], image_size=32)
    with torch.device("meta"):
        model = ImageGPT(config)
    count = sum(p.numel() for p in model.parameters())
    assert count == config.parameters
    assert round(count / 1e6) == 6801
    assert round(SIZES["igpt-xl"].parameters / 1e6) == 6811


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_config_counts_what_the_network_has(causal, bias):
    config = dataclasses.replace(TINY, causal=causal, bias=bias)
    assert sum(p.numel() for p in ImageGPT(config).parameters()) == config.parameters


def test_no_pixel_sees_a_later_one():
    model, tokens = random_model(), random_tokens()
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % 16
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(after[:, :10], before[:, :10], rtol=0, atol=0)
    assert not torch.allclose(after[:, 10], before[:, 10])


def test_a_hidden_color_changes_nothing_and_a_shown_one_everything():
    model, tokens = random_model(BERT), random_tokens()
    hidden = torch.zeros_like(tokens, dtype=torch.bool)
    hidden[:, [3, 9]] = True
    changed = tokens.clone()
    changed[:, [3, 9]] = (changed[:, [3, 9]] + 5) % 16
    before = model(tokens, hidden)
    torch.testing.assert_close(model(changed, hidden), before, rtol=0, atol=0)
    changed[:, 0] = (changed[:, 0] + 1) % 16
    assert (model(changed, hidden) - before).abs().amin(dim=-1).max() > 0


def test_a_new_network_gives_every_color_the_same_chance():
    config = dataclasses.replace(TINY, colors=512)
    logits = ImageGPT(config)(random_tokens(config=config))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.zeros(32).long())
    torch.testing.assert_close(loss.item(), math.log(512), rtol=1e-6, atol=0)


@pytest.mark.parametrize("initialization", ["sparse-transformer", "released"])
def test_fresh_weights_have_the_authors_standard_deviations(initialization):
    torch.manual_seed(0)
    d, layers = 128, 6
    config = ModelConfig(
        image_size=16, width=d, layers=layers, heads=4, initialization=initialization
    )
    model = ImageGPT(config, classes=10)
    if initialization == "sparse-transformer":
        # openai/distribution_augmentation: variance 0.125 / inputs; residual projections halved
        # and divided by the number of layers.
        projections = {
            "query_key_value": math.sqrt(0.125 / d),
            "attention.output": math.sqrt(0.125 * 0.5 / (d * layers)),
            "mlp.input": math.sqrt(0.125 / d),
            "mlp.output": math.sqrt(0.125 * 0.5 / (4 * d * layers)),
        }
    else:
        # openai/image-gpt, src/model.py
        projections = {
            "query_key_value": 1 / math.sqrt(d),
            "attention.output": 1 / math.sqrt(d * layers),
            "mlp.input": 0.02,
            "mlp.output": 0.02,
        }
    wanted = {
        "token_embedding": 0.02,
        "position_embedding": 0.01,
        "start_embedding": 0.02,
        **projections,
    }
    for name, parameter in model.named_parameters():
        if "gain" in name:
            assert (parameter == 1).all()
        elif "head" in name:
            assert (parameter == 0).all()
        else:
            (std,) = (std for part, std in wanted.items() if part in name)
            # A sample of n has a standard deviation within a few std / sqrt(2 n) of the true one.
            assert parameter.std().item() == pytest.approx(
                std, rel=5 / math.sqrt(2 * parameter.numel())
            )
            assert abs(parameter.mean().item()) < 5 * std / math.sqrt(parameter.numel())


def test_the_norm_is_the_root_mean_square_with_a_gain():
    norm = RMSNorm(3)
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = torch.tensor([[1.0, 2.0, 2.0]])  # mean square 3
    wanted = x / math.sqrt(3 + 1e-5) * torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(norm(x), wanted)


def reference_states(model, tokens, hidden=None):
    """The formulas of the released code, one image at a time, in float64 NumPy."""
    config = model.config
    weight = {name: p.detach().double().numpy() for name, p in model.named_parameters()}

    def norm(x, gain):
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * gain

    states = []
    for image in tokens.numpy():
        n = len(image)
        content = weight["token_embedding"][image]
        if hidden is not None:
            content = content * ~hidden[len(states)].numpy()[:, None]
        if config.causal:
            content = np.concatenate([weight["start_embedding"][None], content[:-1]])
        h = content + weight["position_embedding"][:n]
        of_image = []
        for layer in range(config.layers):
            w = {
                name.removeprefix(f"blocks.{layer}."): value
                for name, value in weight.items()
                if name.startswith(f"blocks.{layer}.")
            }
            x = norm(h, w["attention_norm.gain"])
            of_image.append(x)
            q, k, v = np.split(x @ w["attention.query_key_value.weight"].T, 3, axis=1)
            mixed = np.zeros_like(x)
            features = config.width // config.heads
            for head in range(config.heads):
                part = slice(head * features, (head + 1) * features)
                for i in range(n):
                    seen = i + 1 if config.causal else n
                    scores = k[:seen, part] @ q[i, part] / math.sqrt(features)
                    p = np.exp(scores - scores.max())
                    mixed[i, part] = p / p.sum() @ v[:seen, part]
            h = h + mixed @ w["attention.output.weight"].T
            x = norm(h, w["mlp_norm.gain"]) @ w["mlp.input.weight"].T
            h = h + (x / (1 + np.exp(-1.702 * x))) @ w["mlp.output.weight"].T
        of_image.append(norm(h, weight["final_norm.gain"]))
        states.append(of_image)
    states = np.array(states).transpose(1, 0, 2, 3)  # (layer, image, position, width)
    return states, states[-1] @ weight["color_head.weight"].T


@pytest.mark.parametrize("config", [TINY, BERT], ids=["causal", "bert"])
def test_the_network_is_the_released_one(config):
    model, tokens = random_model(config).double(), random_tokens(3)
    hidden = None if config.causal else torch.rand(tokens.shape) < 0.3
    states, logits = reference_states(model, tokens, hidden)
    ours, our_states = model(tokens, hidden), list(model.states(tokens, hidden))
    np.testing.assert_allclose(ours.detach().numpy(), logits, atol=1e-12)
    assert len(our_states) == config.layers + 1
    for mine, wanted in zip(our_states, states, strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), wanted, atol=1e-12)
    torch.testing.assert_close(model.color_head(our_states[-1]), ours, rtol=0, atol=0)


def test_the_first_rows_alone_give_the_logits_they_have_in_the_whole():
    model, tokens = random_model(), random_tokens()
    torch.testing.assert_close(model(tokens[:, :8]), model(tokens)[:, :8])


@pytest.mark.parametrize("causal", [True, False])
def test_training_keeps_nothing_that_grows_with_the_square_of_the_pixels(causal):
    largest = {}
    for size in (16, 32):
        config = dataclasses.replace(TINY, image_size=size, causal=causal)
        model, kept = random_model(config), []

        def keep(tensor, kept=kept):
            kept.append(tensor.untyped_storage().nbytes() // tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model(random_tokens(1, config=config)).sum().backward()
        largest[size] = max(kept)
    assert largest[16] < 256**2  # entries of one head's scores
    assert largest[32] <= 4 * largest[16]  # four times the pixels


def test_more_pixels_than_positions_are_refused():
    with pytest.raises(DataError, match=r"16 positions \(4x4 pixels\), but each image has 25"):
        random_model()(torch.zeros(1, 25, dtype=torch.long))


def test_dropout_zeroes_its_share_of_what_a_block_adds():
    torch.manual_seed(0)
    model = ImageGPT(ModelConfig(image_size=4, colors=4, layers=1, width=64, heads=2))
    model.set_dropout(0.25)
    dropped = model.blocks[0].dropout.train()(torch.ones(10_000))
    assert abs((dropped == 0).float().mean().item() - 0.25) < 0.03
    assert dropped.max().item() == pytest.approx(1 / 0.75)
    tokens = torch.zeros((1, 16), dtype=torch.int64)
    assert torch.equal(model.eval()(tokens), model(tokens))
    assert not torch.equal(model.train().final_state(tokens), model.final_state(tokens))


@pytest.mark.parametrize("tied", [False, True])
def test_heads_that_do_not_start_at_zero_start_like_the_embedding(tied):
    torch.manual_seed(0)
    config = ModelConfig(
        image_size=4, colors=64, layers=1, width=64, heads=2, zero_heads=False, tied=tied
    )
    model = ImageGPT(config, classes=64)
    assert model.color_head.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.class_head.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert (model.color_head.weight is model.token_embedding) == tied
    assert sum(p.numel() for p in model.parameters()) == config.parameters + 64 * 64
    zero = ImageGPT(dataclasses.replace(config, zero_heads=True), classes=64)
    assert not zero.class_head.weight.any()
    assert bool(zero.color_head.weight.any()) == tied
