"""What a step is reckoned to take is what its allocations come to."""

from dataclasses import replace

import pytest
from benchmarks.memory import Shape, make_step, measured_peak

from igpt.planning.memory import Step

WIDE_LOGITS = Shape(layers=3, width=64, heads=4, side=12, colors=512, images=4, at_a_time=2)
MANY_BLOCKS = Shape(layers=8, width=48, heads=4, side=12, colors=16, images=4, at_a_time=4)
MOSTLY_WEIGHTS = Shape(layers=2, width=192, heads=2, side=6, colors=16, images=1, at_a_time=1)
CASES = {
    "many blocks": (MANY_BLOCKS, {}),
    "many blocks, computed again": (MANY_BLOCKS, {"checkpointed": True}),
    "many blocks, hidden pixels": (MANY_BLOCKS, {"causal": False}),
    "many blocks, bfloat16": (MANY_BLOCKS, {"precision": "bfloat16"}),
    "wide logits": (WIDE_LOGITS, {}),
    "wide logits, computed again": (WIDE_LOGITS, {"checkpointed": True, "precision": "bfloat16"}),
    "wide logits, hidden pixels": (WIDE_LOGITS, {"causal": False, "checkpointed": True}),
    "mostly weights": (MOSTLY_WEIGHTS, {}),
    "mostly weights, bfloat16": (MOSTLY_WEIGHTS, {"precision": "bfloat16"}),
}


@pytest.mark.parametrize(("shape", "how"), CASES.values(), ids=CASES.keys())
def test_a_step_takes_what_was_reckoned(shape, how):
    step = make_step(shape, **how)
    assert step.peak().total == pytest.approx(measured_peak(step), rel=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_step_on_a_gpu_takes_what_was_reckoned(precision, checkpointed):
    shape = Shape(layers=8, width=256, heads=8, side=32, colors=512, images=8, at_a_time=4)
    step = make_step(shape, precision=precision, checkpointed=checkpointed, fused_norms=True)
    assert step.peak().total == pytest.approx(measured_peak(step, "cuda"), rel=0.05)


def test_parts_add_up_to_the_whole():
    peak = make_step(MANY_BLOCKS).peak()
    assert sum(peak.parts().values()) == peak.total
    assert peak.parts()["activations"] == peak.activations


def test_every_process_has_all_with_ddp_and_a_share_with_fsdp():
    alone, ddp, fsdp = (
        make_step(MOSTLY_WEIGHTS, devices=devices, strategy=strategy)
        for devices, strategy in ((1, "alone"), (4, "ddp"), (4, "fsdp"))
    )
    weights = alone.model.parameters
    assert alone.peak().weights == ddp.peak().weights == 4 * weights
    assert alone.peak().moments == 2 * 4 * weights
    assert fsdp.peak().weights == weights
    assert fsdp.peak().moments == 2 * weights
    assert ddp.peak().fetched == 0
    assert fsdp.peak().fetched > 0


def test_a_network_whose_blocks_are_alike_grows_by_as_much_with_each():
    totals = [make_step(replace(MANY_BLOCKS, layers=layers)).peak().total for layers in (6, 8, 10)]
    assert totals[1] - totals[0] == totals[2] - totals[1] > 0


def test_weights_inside_and_outside_blocks_are_all_weights():
    step: Step = make_step(MANY_BLOCKS)
    blocks = step.model.layers * step.block_weights
    assert blocks + step.other_weights == step.model.parameters
