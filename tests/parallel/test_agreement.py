"""Any number of processes, by either strategy, learns what one learns."""

from dataclasses import replace

import pytest
from tests.conftest import SHAPES_RECIPE, losses, with_training
from tests.parallel.group import run_in_group

from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.pretrain import pretrain
from igpt.runs.recipes import FinetuneConfig
from igpt.runs.run import RunFolder
from igpt.training.config import TrainingConfig

STEPS = 50
TRAINING = TrainingConfig(
    steps=STEPS, batch_size=8, learning_rate=0.003, warmup_steps=5, validate_every=20,
    validation_images=14, checkpoint_every=25, max_gradient_norm=1.0,
)  # fmt: skip
RECIPE = replace(SHAPES_RECIPE, training=TRAINING)
BERT = replace(RECIPE, model=replace(RECIPE.model, causal=False))
JOINT = FinetuneConfig(training=TRAINING, augmentation="flip", dropout=0.1, patience=9, head="zero")
"""A head that begins as a probe, of whitened features, magnifies every rounding."""


def learn(folder, source, given, strategy):
    """Train all three kinds, each from the same beginning, in this group or alone."""
    for name, recipe in (("ar", RECIPE), ("bert", BERT)):
        pretrain(with_training(recipe, parallel=strategy), out=folder / name, **given)
    config = replace(JOINT, training=replace(TRAINING, parallel=strategy))
    finetune(source, out=folder / "joint", data=given["data"], config=config, device="cpu")


@pytest.fixture(scope="module")
def alone(tmp_path_factory, shapes_store, module_palette):
    """A folder of runs of one process, and what they were given."""
    folder = tmp_path_factory.mktemp("alone")
    given = {"data": shapes_store.path, "palette": module_palette, "device": "cpu"}
    pretrain(with_training(RECIPE, steps=5, warmup_steps=1), out=folder / "source", **given)
    learn(folder, folder / "source", given, "auto")
    return folder, given


@pytest.fixture(scope="module")
def module_palette(tmp_path_factory):
    import numpy as np

    from igpt.pixels.palette import Palette

    path = tmp_path_factory.mktemp("palette") / "palette.npy"
    Palette(np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)).save(path)
    return path


def assert_same_learning(found, wanted):
    """Every figure is the same but for rounding, which grows as training goes on."""
    for ours, theirs in zip(losses(found), losses(wanted), strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-5), f"{found} at step {ours['step']}"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_several_processes_learn_what_one_does(alone, tmp_path, ranks, strategy):
    wanted, given = alone
    run_in_group(ranks, learn, tmp_path, wanted / "source", given, strategy)
    for name in ("ar", "bert", "joint"):
        assert len(losses(tmp_path / name)) == STEPS
        assert_same_learning(tmp_path / name, wanted / name)
    found, known = (
        RunFolder(folder / "joint").require("finetune.json", FinetuneResult)
        for folder in (tmp_path, wanted)
    )
    assert replace(found, seconds=0.0) == replace(known, seconds=0.0)
