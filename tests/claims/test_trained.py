import dataclasses
import shutil

import pytest

from igpt.claims.laboratory import Laboratory
from igpt.errors import ConfigError
from igpt.runs.measure import evaluate_run
from igpt.runs.pretrain import pretrain
from igpt.runs.recipes import RECIPES


@pytest.fixture
def laboratory(toy, four_corners, tmp_path):
    return Laboratory.open(tmp_path / "toy", toy, data=four_corners.path, device="cpu")


def test_a_run_that_was_measured_before_its_end_is_gone_on_with(laboratory, toy, tmp_path):
    data, out = laboratory.learned_from("base", 0), laboratory.path / "runs" / "base-seed0"
    part = pretrain(
        toy.recipe_of("base"), name="base", data=data, palette=laboratory.palette(toy.palette, 0),
        out=out, device="cpu", seconds=0.0,
    )  # fmt: skip
    evaluate_run(out, data=data, device="cpu")
    assert not part.ended
    assert laboratory.pretrained("base", 0).ended


def test_of_a_run_that_was_measured_and_sent_home_results_are_enough(laboratory):
    run = laboratory.pretrained("base", 0)
    loss = laboratory.loss("base", 0)
    run.metrics.unlink()
    shutil.rmtree(run.path / "state")
    assert laboratory.pretrained("base", 0) == run
    assert laboratory.loss("base", 0) == loss


def test_a_network_of_another_recipe_is_refused(laboratory, monkeypatch):
    laboratory.pretrained("base", 0)
    monkeypatch.setitem(RECIPES, "toy", dataclasses.replace(RECIPES["toy"], augmentation="flip"))
    with pytest.raises(ConfigError, match="base-seed0 was made by another recipe"):
        laboratory.pretrained("base", 0)


def test_a_fine_tuning_by_other_settings_is_refused(laboratory, toy):
    config = toy.recipe_of("base").finetune
    training = dataclasses.replace(config.training, precision="auto")
    config = dataclasses.replace(config, training=training, layer=0)
    first = laboratory.finetuned("base", 0, "inner-layer", config)
    assert laboratory.finetuned("base", 0, "inner-layer", config) == first
    for other, folded in ((dataclasses.replace(config, layer=1), False), (config, True)):
        with pytest.raises(ConfigError, match="base-seed0-inner-layer was made by another recipe"):
            laboratory.finetuned("base", 0, "inner-layer", other, fold_validation=folded)
