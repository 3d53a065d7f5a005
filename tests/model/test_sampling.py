import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.errors import ConfigError
from igpt.model.sampling import Pace, SamplingConfig, continue_in_passes, continue_tokens, draw


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


@pytest.mark.parametrize("samples", [1, 3])  # in windows, and without
def test_what_is_drawn_can_be_watched_and_stays_as_it_is(samples):
    model, start = random_model(), random_tokens(1)[:, :5]
    before, known = start.repeat_interleave(samples, dim=0), torch.full((samples,), 5)
    passes = continue_in_passes(
        model, start, samples=samples, generator=torch.Generator().manual_seed(5)
    )
    for tokens, drawn in passes:
        assert (drawn >= known).all()
        for image, earlier, count in zip(tokens, before, known, strict=True):
            assert torch.equal(image[:count], earlier[:count])
        before, known = tokens.clone(), drawn.clone()
    assert (known == 16).all()
    generator = torch.Generator().manual_seed(5)
    assert torch.equal(before, continue_tokens(model, start, samples=samples, generator=generator))


def test_a_whole_image_cannot_be_watched_while_it_is_drawn():
    with pytest.raises(ConfigError, match="16 pixels are given of an image that has 16"):
        next(continue_in_passes(random_model(), random_tokens(1)))


WINDOWED = [
    pytest.param(TINY, {}, id="all"),
    pytest.param(TINY, {"temperature": 0.0}, id="greedy"),
    pytest.param(
        dataclasses.replace(TINY, image_size=6, bias=True), {"temperature": 0.7}, id="cooler"
    ),
    pytest.param(dataclasses.replace(TINY, image_size=6, colors=300), {"top_k": 20}, id="top-k"),
    pytest.param(dataclasses.replace(TINY, layers=1, image_size=6), {"top_p": 0.8}, id="top-p"),
    pytest.param(dataclasses.replace(TINY, colors=3), {"top_k": 2, "top_p": 0.9}, id="both"),
]


def drawn(model, given, config, seed=3, **settings):
    """Return images, and what the generator gives next."""
    generator = torch.Generator().manual_seed(seed)
    images = continue_tokens(model, given, config, generator=generator, **settings)
    return images, torch.rand(3, generator=generator)


@pytest.mark.parametrize(("shape", "settings"), WINDOWED)
@pytest.mark.parametrize("batch", [1, 5])  # of which each image goes on as far as its guesses hold
@pytest.mark.parametrize("rows", [0, 1.4])
def test_windows_draw_the_pixels_of_one_at_a_time(shape, settings, batch, rows):
    model, config = random_model(shape), SamplingConfig(**settings)
    given = random_tokens(batch, config=shape)[:, : int(rows * shape.image_size)]
    wanted, state = drawn(model, given, config, pace=Pace(window=1))
    for window in (2, 7, shape.positions + 3):
        images, after = drawn(model, given, config, pace=Pace(window=window))
        assert torch.equal(images, wanted)
        assert torch.equal(after, state)  # as much is left to chance, for the next batch too


@pytest.mark.parametrize("sight", [5, 64])
def test_windows_see_no_pixel_that_is_yet_to_be_drawn(sight):
    """As on a GPU, which looks at places of the cache that are not filled."""
    shape = dataclasses.replace(TINY, image_size=8)
    model, given = random_model(shape), random_tokens(3, config=shape)[:, :10]
    wanted, _ = drawn(model, given, SamplingConfig(), pace=Pace(window=1))
    for window in (1, 6):
        images, _ = drawn(model, given, SamplingConfig(), pace=Pace(window=window, sight=sight))
        assert torch.equal(images, wanted)


def test_what_is_chosen_as_it_goes_draws_the_same_pixels():
    shape = dataclasses.replace(TINY, layers=1, image_size=9)
    model = random_model(shape)
    for batch in (1, 7, 12):
        given = random_tokens(batch, config=shape)[:, :40]
        wanted, _ = drawn(model, given, SamplingConfig(one_at_a_time=True))
        assert torch.equal(drawn(model, given, SamplingConfig())[0], wanted)


def test_images_side_by_side_are_drawn_a_pixel_at_a_time():
    """Where all would wait for the one whose passes gain the least."""
    shape = dataclasses.replace(TINY, image_size=8)
    model, given = random_model(shape), random_tokens(2, config=shape)[:, :8]
    assert passes(model, given, SamplingConfig()) == 56
    assert passes(model, given[:1], SamplingConfig(), samples=2) == 56


def passes(model, *arguments, **settings):
    """Return how often the network was asked."""
    count = 0

    def follow(*_):
        nonlocal count
        count += 1

    with model.color_head.register_forward_hook(follow):
        drawn(model, *arguments, **settings)
    return count


def test_where_guesses_hold_a_pass_gains_a_window():
    """A network that repeats the color above, as images on end of one column would have it."""
    shape = dataclasses.replace(TINY, image_size=8)
    model, greedy = random_model(shape), SamplingConfig(temperature=0.0)
    torch.nn.init.zeros_(model.color_head.weight)  # always the first color
    given = torch.zeros(2, 8, dtype=torch.long)
    assert passes(model, given, greedy, pace=Pace(window=11)) == 1 + 55 / 11
    assert passes(model, given, greedy, pace=Pace(window=1)) == 56


def test_one_at_a_time_reads_a_pixel_a_pass_and_many_at_a_time_fewer_passes():
    shape = dataclasses.replace(TINY, image_size=8)
    model, given = random_model(shape), random_tokens(1, config=shape)[:, :8]
    assert passes(model, given, SamplingConfig(one_at_a_time=True)) == 56
    assert passes(model, given, SamplingConfig()) < 56


def test_a_pace_that_would_not_go_on_is_refused():
    with pytest.raises(ConfigError, match="window must be at least 1, got 0"):
        Pace(window=0)


def test_samples_are_those_of_images_given_several_times():
    model, given = random_model(), random_tokens(3)[:, :5]
    drawn = continue_tokens(model, given, samples=4, generator=torch.Generator().manual_seed(1))
    again = continue_tokens(
        model, given.repeat_interleave(4, dim=0), generator=torch.Generator().manual_seed(1)
    )
    assert torch.equal(drawn, again)
    assert len(drawn.unique(dim=0)) > 3


@pytest.mark.slow
def test_compiled_drawing_gives_the_same_pixels():
    """In a process of its own: the compiler cannot see through the shape checks of the tests."""
    code = """
import torch
from igpt.model.sampling import Pace, SamplingConfig, continue_tokens
from tests.conftest import random_model, random_tokens
greedy = dict(temperature=0.0)
for batch, window in ((1, 1), (3, 6)):
    model, given, pace = random_model(), random_tokens(batch)[:, :3], Pace(window=window)
    plain, compiled = (
        continue_tokens(model, given, SamplingConfig(**greedy, compile=c), samples=2, pace=pace)
        for c in (False, True)
    )
    assert torch.equal(plain, compiled), (plain, compiled)
graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
assert graphs <= 2, graphs  # one for each, not for each position
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


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 9e-7])
def test_next_to_no_temperature_means_the_likeliest(temperature):
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0]])
    assert draw(logits, SamplingConfig(temperature=temperature), None).tolist() == [1, 0]


def test_the_lowest_temperature_still_draws():
    logits = torch.tensor([[0.0, 30.0, 30.0], [-1e4, 1e4, 0.0]]).repeat(50, 1)
    found = draw(logits, SamplingConfig(temperature=1e-6), torch.Generator().manual_seed(0))
    assert set(found[::2].tolist()) == {1, 2}
    assert set(found[1::2].tolist()) == {1}


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


@pytest.mark.parametrize("top_p", [1e-9, 1e-300])
def test_the_smallest_top_p_keeps_the_likeliest(top_p):
    assert draws([0.3, 0.2, 0.5], top_p=top_p).tolist() == [0, 0, 1]


def test_of_equally_likely_colors_exactly_so_many_are_kept():
    assert (draws([0.1, 0.2, 0.2, 0.2, 0.2, 0.1], top_k=3) > 0).tolist() == [0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(("top_p", "kept"), [(0.1, 1), (0.3, 3), (0.7, 7), (0.8, 8), (1.0, 10)])
def test_of_equally_likely_colors_the_fewest_reach_top_p(top_p, kept):
    """Sums of a tenth are rounded, 0.7999999 for eight of them."""
    assert (draws([0.1] * 10, top_p=top_p) > 0).tolist() == [True] * kept + [False] * (10 - kept)


def test_what_leaves_every_color_draws_as_without_it():
    logits = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    every = [{}, {"top_k": 16}, {"top_k": 99}, {"top_p": 1.0}]
    found = [
        draw(logits, SamplingConfig(**some), torch.Generator().manual_seed(1)) for some in every
    ]
    assert all(torch.equal(found[0], other) for other in found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 or a number above, got -1"),
        ({"temperature": float("nan")}, "temperature must be 0 or a number above, got nan"),
        ({"temperature": float("inf")}, "temperature must be 0 or a number above, got inf"),
        ({"top_p": float("nan")}, r"top_p must lie in \(0, 1\], got nan"),
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
