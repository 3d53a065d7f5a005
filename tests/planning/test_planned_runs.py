"""What is planned follows from shapes and figures of devices."""

from dataclasses import replace

import pytest

from igpt.errors import ConfigError
from igpt.hardware import KINDS
from igpt.model.config import SIZES, ModelConfig
from igpt.planning.plan import fitted, make_plan
from igpt.planning.tables import overview, paper_parameters, plan_text
from igpt.training.config import TrainingConfig

SMALL = ModelConfig(image_size=8, colors=16, layers=3, width=32, heads=4)
TRAINING = TrainingConfig(steps=1000, batch_size=16, precision="bfloat16")
H100, T4 = KINDS["H100"], KINDS["T4"]


def test_time_is_the_work_over_the_peak():
    plan = make_plan("a", SMALL, TRAINING, kind=H100, mfu=0.5)
    flops = 16 * 64 * SMALL.flops_per_token
    assert plan.step_flops == flops
    assert plan.step_seconds == pytest.approx([flops / (0.5 * 989e12)] * 2)
    assert plan.tokens_per_second[0] == pytest.approx(16 * 64 / plan.step_seconds[0])
    assert plan.days[0] == pytest.approx(1000 * plan.step_seconds[0] / 86_400)


def test_activations_computed_again_cost_the_blocks_forward_pass():
    again = replace(TRAINING, checkpoint_activations=True)
    seconds = [
        make_plan("a", SMALL, training, kind=H100).compute_seconds for training in (TRAINING, again)
    ]
    head = 6 * SMALL.colors * SMALL.width
    blocks = SMALL.flops_per_token - head
    assert seconds[1] / seconds[0] == pytest.approx((head + blocks * 4 / 3) / (head + blocks))


def test_ddp_sends_each_gradient_twice_but_for_its_own_share():
    plan = make_plan("a", SMALL, replace(TRAINING, microbatch_size=1), kind=H100, devices=4)
    assert plan.strategy == "ddp"
    assert plan.communication.reduced_bytes == pytest.approx(2 * 4 * SMALL.parameters * 3 / 4)
    assert plan.communication.gathered_bytes == 0


@pytest.mark.parametrize(("precision", "sent"), [("float32", 4), ("bfloat16", 2)])
def test_fsdp_sends_weights_and_gradients_for_each_microbatch(precision, sent):
    training = replace(TRAINING, parallel="fsdp", microbatch_size=2, precision=precision)
    plan = make_plan("a", SMALL, training, kind=H100, devices=4)
    blocks = SMALL.layers * (12 * 32**2 + 2 * 32)
    share = 2 * 3 / 4  # two microbatches, from three of four
    assert plan.communication.reduced_bytes == pytest.approx(share * 4 * SMALL.parameters)
    gathered = 4 * (SMALL.parameters - blocks) + 2 * sent * blocks
    assert plan.communication.gathered_bytes == pytest.approx(share * gathered)
    assert plan.communication.seconds == pytest.approx(
        (plan.communication.reduced_bytes + plan.communication.gathered_bytes) / H100.link
    )


def test_fsdp_on_several_machines_sends_gradients_alone_between_them():
    training = replace(TRAINING, parallel="fsdp", batch_size=16, precision="float32")
    plan = make_plan("a", SMALL, training, kind=H100, devices=16)
    sent, weights = plan.communication, 4 * SMALL.parameters
    assert sent.reduced_bytes == pytest.approx(weights * 7 / 8)
    assert sent.between_bytes == pytest.approx(2 * weights / 8 / 2)
    within = (sent.reduced_bytes + sent.gathered_bytes) / H100.link
    assert sent.seconds == pytest.approx(within + sent.between_bytes / H100.network)
    crowded = replace(H100, memory=16 * SMALL.parameters // 8)
    everywhere = make_plan("a", SMALL, training, kind=crowded, devices=16).communication
    assert everywhere.between_bytes == 0
    assert everywhere.bandwidth == H100.network


def test_auto_is_what_the_device_can():
    auto = replace(TRAINING, precision="auto")
    assert make_plan("a", SMALL, auto, kind=T4).precision == "float16"
    assert make_plan("a", SMALL, auto, kind=H100).precision == "bfloat16"
    assert "training.precision=auto" in plan_text(make_plan("a", SMALL, TRAINING, kind=T4))


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="does not divide among 3 devices"):
        make_plan("a", SMALL, TRAINING, kind=H100, devices=3)
    with pytest.raises(ConfigError, match=r"batch_size=16 does not divide among 256 devices"):
        fitted(SMALL, TRAINING, kind=H100, devices=256)


def test_every_remedy_helps():
    training = replace(TRAINING, batch_size=128, precision="float16")
    plan = make_plan("igpt-s", SIZES["igpt-s"], training, kind=T4)
    assert not plan.fits
    microbatch, checkpointing, processes = plan.remedies
    name, images = microbatch.split("=")
    assert name == "training.microbatch_size"
    smaller = replace(training, microbatch_size=int(images))
    assert make_plan("igpt-s", plan.model, smaller, kind=T4).fits
    larger = replace(training, microbatch_size=2 * int(images))
    assert not make_plan("igpt-s", plan.model, larger, kind=T4).fits
    assert checkpointing == "training.checkpoint_activations=true"
    again = replace(training, checkpoint_activations=True)
    assert make_plan("igpt-s", plan.model, again, kind=T4).fits
    count = int(processes.split()[0])
    assert make_plan("igpt-s", plan.model, training, kind=T4, devices=count).fits
    assert not make_plan("igpt-s", plan.model, training, kind=T4, devices=count // 2).fits


def test_a_training_is_changed_as_little_as_makes_it_fit():
    paper = replace(TRAINING, batch_size=128)
    small = fitted(SIZES["igpt-s"], paper, kind=T4, devices=1)
    assert small == replace(paper, microbatch_size=small.microbatch_size)
    extra = replace(paper, batch_size=64)
    assert fitted(SIZES["igpt-xl"], extra, kind=T4, devices=1) is None
    shared = fitted(SIZES["igpt-xl"], extra, kind=H100, devices=8)
    assert make_plan("igpt-xl", SIZES["igpt-xl"], shared, kind=H100, devices=8).fits


def test_a_microbatch_that_was_asked_for_and_fits_stays():
    asked = replace(TRAINING, batch_size=128, microbatch_size=3)
    assert fitted(SIZES["igpt-s"], asked, kind=H100, devices=1) == asked
    large = replace(asked, microbatch_size=96)
    assert fitted(SIZES["igpt-s"], large, kind=T4, devices=1).microbatch_size in (48, 24, 12, 6, 3)


def test_what_muon_trains_is_never_shared_out():
    muon = replace(TRAINING, batch_size=64, optimizer="muon")
    assert fitted(SIZES["igpt-xl"], muon, kind=H100, devices=8) is None
    assert fitted(SIZES["igpt-s"], muon, kind=H100, devices=8).parallel == "auto"
    plan = make_plan("igpt-xl", SIZES["igpt-xl"], muon, kind=H100)
    assert not plan.fits
    assert not any("fsdp" in remedy for remedy in plan.remedies)
    adam = make_plan("igpt-xl", SIZES["igpt-xl"], replace(muon, optimizer="adam"), kind=H100)
    assert "fsdp" in adam.remedies[-1]


def test_the_published_networks_stand_beside_the_papers_figures():
    rows = []
    for name in ("igpt-s", "igpt-m", "igpt-l", "igpt-xl"):
        model = SIZES[name]
        training = fitted(model, replace(TRAINING, batch_size=64), kind=H100, devices=64)
        plan = make_plan(name, model, training, kind=H100, devices=64)
        rows.append((name, model, plan))
    assert [paper_parameters(model) for _, model, _ in rows] == ["76M", "455M", "1.4B", "6.8B"]
    lines = overview(rows, H100, 64).splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["igpt-s", "igpt-m", "igpt-l", "igpt-xl"]
    assert "6,810.9M" in lines[5]


def test_a_plan_shows_formula_memory_by_part_and_verdict():
    text = plan_text(make_plan("igpt-l", SIZES["igpt-l"], TRAINING, kind=H100, devices=8))
    for words in (
        "9.064e+09 = 6 N + 12 L d n", "Adam's moments", "activations kept", "computed again",
        "it fits", "GB/s", "days",
    ):  # fmt: skip
        assert words in text
