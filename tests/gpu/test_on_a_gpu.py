"""What only a GPU can show: `pytest -m gpu`. Skipped where there is none."""

import dataclasses

import pytest
import torch
from tests.conftest import random_model, random_tokens

from igpt.data.ahead import prepared_ahead
from igpt.data.batches import Batch
from igpt.model.cached import CachedNetwork
from igpt.model.config import ModelConfig
from igpt.model.sampling import Pace, SamplingConfig, continue_tokens
from igpt.objectives.autoregressive import autoregressive
from igpt.objectives.masked import masked
from igpt.training.config import TrainingConfig
from igpt.training.loop import train
from igpt.training.optimizer import build_optimizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

CONFIG = ModelConfig(image_size=16, colors=64, layers=4, width=128, heads=4)


def losses(*, device="cuda", objective=autoregressive, **settings):
    config = TrainingConfig(steps=30, learning_rate=1e-3, warmup_steps=3, **settings)
    shape = dataclasses.replace(CONFIG, causal=objective is autoregressive)
    model = random_model(shape).to(device)
    steps = train(
        model,
        build_optimizer(model, config),
        objective=objective,
        batch_at=lambda step: Batch(
            tokens=random_tokens(8, config=shape, seed=step % 5), labels=None
        ),
        config=config,
    )
    return [done.measures["loss"] for done in steps]


@pytest.mark.parametrize("objective", [autoregressive, masked])
def test_a_gpu_learns_what_a_cpu_learns(objective):
    cpu = losses(device="cpu", objective=objective)
    assert losses(objective=objective) == pytest.approx(cpu, rel=0.01)


@pytest.mark.parametrize("objective", [autoregressive, masked])
def test_bfloat16_stays_near_float32(objective):
    wanted = losses(objective=objective)
    found = losses(objective=objective, precision="bfloat16")
    assert found == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_blocks_learn_the_same(precision):
    wanted = losses(precision=precision)
    assert losses(precision=precision, compile=True) == pytest.approx(wanted, rel=0.03)


def test_batches_made_ready_ahead_are_the_same_on_the_gpu():
    def batch_at(step):
        return Batch(random_tokens(512, config=CONFIG, seed=step), torch.arange(512) + step)

    device = torch.device("cuda", torch.cuda.current_device())
    with prepared_ahead(batch_at, range(20), ahead=4, device=device) as ready_at:
        for step in range(20):
            found, wanted = ready_at(step), batch_at(step)
            assert found.tokens.device == found.labels.device == device
            busy = torch.randn(2048, 2048, device=device)
            for _ in range(20):
                busy = busy @ busy / 2048
            assert torch.equal(found.tokens.cpu(), wanted.tokens)
            assert torch.equal(found.labels.cpu(), wanted.labels)


@pytest.mark.parametrize("window", [1, 12])
def test_the_cache_gives_the_logits_of_a_full_pass(window):
    model, tokens = random_model(CONFIG).cuda(), random_tokens(4, config=CONFIG).cuda()
    network = CachedNetwork(model, sequences=4, room=256, sight=64, level=window == 1)
    with torch.inference_mode():
        seen = [network.read(tokens[:, :99])[:, None]]
        for place in range(100, 256, window):
            places = torch.arange(place, place + window, device="cuda").expand(4, -1)
            sight = network.sight(place + window)
            seen.append(network.logits(tokens.gather(1, places - 1), places, sight))
        wanted = model(tokens)[:, 99:]
    torch.testing.assert_close(torch.cat(seen, dim=1), wanted, atol=1e-3, rtol=1e-3)


def test_the_likeliest_completion_is_that_of_the_cpu():
    model, given = random_model(CONFIG), random_tokens(4, config=CONFIG)[:, :128]
    config = SamplingConfig(temperature=0.0)
    wanted = continue_tokens(model, given, config)
    found = continue_tokens(model.cuda(), given.cuda(), config).cpu()
    assert (found == wanted).float().mean() > 0.95  # a near tie may fall the other way


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("window", [1, 8])
@pytest.mark.parametrize(
    "settings", [{}, {"temperature": 0.0}, {"top_k": 9, "top_p": 0.9}], ids=["all", "top", "some"]
)
def test_a_recording_draws_what_single_launches_draw(settings, window, dtype, compiled):
    """Over three stretches of the cache, token for token, with a generator and torch's own."""
    model = random_model(CONFIG).cuda().to(dtype)
    given = random_tokens(4, config=CONFIG)[:, :60].cuda()
    config = SamplingConfig(**settings, compile=compiled)

    def drawn(seed, record):
        pace = Pace(window=window, sight=96, record=record)
        own = torch.Generator("cuda").manual_seed(seed)
        torch.manual_seed(seed)
        return [continue_tokens(model, given, config, generator=g, pace=pace) for g in (own, None)]

    recorded, single = drawn(1, True), drawn(1, False)
    assert torch.equal(recorded[0], single[0])
    assert torch.equal(recorded[1], single[1])
    if not settings:
        assert not torch.equal(recorded[0], drawn(2, True)[0])


@pytest.mark.parametrize("batch", [1, 16])
def test_windows_draw_the_pixels_of_one_at_a_time(batch):
    model, given = random_model(CONFIG).cuda(), random_tokens(batch, config=CONFIG)[:, :60].cuda()

    def drawn(window):
        own = torch.Generator("cuda").manual_seed(1)
        return continue_tokens(model, given, generator=own, pace=Pace(window=window))

    wanted = drawn(1)
    for window in (4, 16):
        same = (drawn(window) == wanted).all(dim=1).float().mean()
        assert same >= (batch - 1) / batch  # a near tie may fall the other way
