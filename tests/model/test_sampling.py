import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.errors import ConfigError
from igpt.model.sampling import SamplingConfig, _project, continue_tokens, draw


@torch.inference_mode()
def sample_without_cache(model, given, config, generator):
    """Every pixel from a full forward pass over all before it."""
    tokens = given
    while tokens.shape[1] < model.config.positions:
        padded = torch.nn.functional.pad(tokens, (0, 1))  # row i sees only what is before i
        color = draw(model(padded)[:, -1], config, generator)
        tokens = torch.cat([tokens, color[:, None]], dim=1)
    return tokens


@pytest.mark.parametrize("given", [0, 1, 7, 15])
@pytest.mark.parametrize(
    "config",
    [SamplingConfig(), SamplingConfig(temperature=0.0), SamplingConfig(top_k=3, top_p=0.8)],
)
def test_the_cache_changes_no_pixel(given, config):
    model, start = random_model(), random_tokens(3)[:, :given]
    ours = continue_tokens(model, start, config, generator=torch.Generator().manual_seed(5))
    plain = sample_without_cache(model, start, config, torch.Generator().manual_seed(5))
    assert torch.equal(ours, plain)
    assert torch.equal(ours[:, :given], start)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("window", [1, 5, 16])  # as on a CPU; as on a GPU, several and one
@pytest.mark.parametrize("at_a_time", [1, 12, 2048])  # one image, two, and all five
def test_the_cache_gives_the_logits_of_a_full_pass(monkeypatch, bias, window, at_a_time):
    config = dataclasses.replace(TINY, bias=bias)
    model, tokens = random_model(config), random_tokens(5)
    seen = []

    def follow(logits, config, generator):
        seen.append(logits)
        return tokens[:, 5 + len(seen) - 1]

    monkeypatch.setattr("igpt.model.sampling.draw", follow)
    monkeypatch.setattr("igpt.model.sampling._WINDOWS", {"cpu": window})
    monkeypatch.setattr("igpt.model.sampling._TOKENS_AT_A_TIME", at_a_time)
    continue_tokens(model, tokens[:, :5])
    torch.testing.assert_close(torch.stack(seen, dim=1), model(tokens)[:, 5:])


@pytest.mark.parametrize("at_a_time", [1, 12, 2048])  # one image, two, and all three
def test_samples_are_those_of_images_given_several_times(monkeypatch, at_a_time):
    monkeypatch.setattr("igpt.model.sampling._TOKENS_AT_A_TIME", at_a_time)
    model, given = random_model(), random_tokens(3)[:, :5]
    drawn = continue_tokens(model, given, samples=4, generator=torch.Generator().manual_seed(1))
    again = continue_tokens(
        model, given.repeat_interleave(4, dim=0), generator=torch.Generator().manual_seed(1)
    )
    assert torch.equal(drawn, again)
    assert len(drawn.unique(dim=0)) > 3


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("outputs", [24, 21])  # in parts, and what does not go into parts
def test_a_projection_in_parts_is_the_layers_own(bias, outputs):
    layer, x = torch.nn.Linear(12, outputs, bias=bias), torch.randn(5, 12)
    torch.testing.assert_close(_project(layer, x), layer(x))


@pytest.mark.slow
def test_compiled_drawing_gives_the_same_pixels():
    """In a process of its own: the compiler cannot see through the shape checks of the tests."""
    code = """
import torch
from igpt.model.sampling import SamplingConfig, continue_tokens
from tests.conftest import random_model, random_tokens
greedy = dict(temperature=0.0)
for batch in (1, 3):
    model, given = random_model(), random_tokens(batch)[:, :3]
    plain = continue_tokens(model, given, SamplingConfig(**greedy), samples=2)
    compiled = continue_tokens(model, given, SamplingConfig(**greedy, compile=True), samples=2)
    assert torch.equal(plain, compiled), (plain, compiled)
graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
assert graphs <= 2, graphs  # one for each batch, not for each position
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr


def test_compiling_without_a_compiler_is_one_line(monkeypatch):
    monkeypatch.setattr("igpt.model.compiler.shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match=r"compiling needs a compiler .*g\+\+.* install one"):
        continue_tokens(random_model(), random_tokens()[:, :4], SamplingConfig(compile=True))


def test_with_a_limit_only_so_many_tokens_are_drawn():
    model, given, greedy = random_model(), random_tokens()[:, :4], SamplingConfig(temperature=0.0)
    part = continue_tokens(model, given, greedy, limit=9)
    assert torch.equal(part, continue_tokens(model, given, greedy)[:, :9])
    with pytest.raises(ConfigError, match="between the 4 pixels given and the 16 of an image"):
        continue_tokens(model, given, limit=3)


def test_a_whole_image_is_left_as_it_is():
    tokens = random_tokens()
    assert torch.equal(continue_tokens(random_model(), tokens), tokens)


def test_no_images_stay_none():
    assert continue_tokens(random_model(), random_tokens()[:0, :4]).shape == (0, 16)


def test_no_temperature_means_the_likeliest():
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0]])
    assert draw(logits, SamplingConfig(temperature=0.0), None).tolist() == [1, 0]


def draws(logits, **settings):
    generator = torch.Generator().manual_seed(0)
    rows = torch.tensor(logits).log().expand(4000, -1)
    colors = draw(rows, SamplingConfig(**settings), generator)
    return torch.bincount(colors, minlength=len(logits)) / 4000


def test_draws_are_those_of_multinomial():
    logits = torch.randn(200, 16, generator=torch.Generator().manual_seed(0))
    found = draw(logits, SamplingConfig(), torch.Generator().manual_seed(1))
    reference = torch.Generator().manual_seed(1)
    wanted = torch.multinomial(logits.softmax(dim=-1), 1, generator=reference).squeeze(1)
    assert torch.equal(found, wanted)


def test_draws_follow_the_distribution():
    torch.testing.assert_close(
        draws([0.5, 0.3, 0.2]), torch.tensor([0.5, 0.3, 0.2]), atol=0.03, rtol=0
    )


def test_temperature_sharpens():
    # Probabilities are squared at temperature 1/2: 25 : 9 : 4.
    wanted = torch.tensor([25, 9, 4]) / 38
    torch.testing.assert_close(draws([0.5, 0.3, 0.2], temperature=0.5), wanted, atol=0.03, rtol=0)


def test_top_k_keeps_the_likeliest():
    wanted = torch.tensor([0.3, 0.0, 0.5]) / 0.8
    torch.testing.assert_close(draws([0.3, 0.2, 0.5], top_k=2), wanted, atol=0.03, rtol=0)


def test_top_p_keeps_the_color_that_crosses_it():
    # 0.5 alone is less than 0.6, so the second likeliest belongs, and the third does not.
    wanted = torch.tensor([0.3, 0.0, 0.5]) / 0.8
    torch.testing.assert_close(draws([0.3, 0.2, 0.5], top_p=0.6), wanted, atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature must not be negative"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 1.5}, r"top_p must lie in \(0, 1\]"),
    ],
)
def test_settings_that_leave_nothing_to_draw_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        SamplingConfig(**settings)


def test_a_bert_network_cannot_draw():
    model = random_model(dataclasses.replace(TINY, causal=False))
    with pytest.raises(ConfigError, match="only an autoregressive network predicts"):
        continue_tokens(model, random_tokens())
