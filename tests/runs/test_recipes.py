import json

import pytest
import torch

from igpt.errors import ConfigError
from igpt.model.transformer import ImageGPT
from igpt.runs.recipes import RECIPES, Recipe, find_recipe
from igpt.settings import with_settings
from igpt.values import from_dict, to_dict


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_its_network_and_survives_json(name):
    recipe = RECIPES[name]
    with torch.device("meta"):
        model = ImageGPT(recipe.model)
    assert sum(p.numel() for p in model.parameters()) == recipe.model.parameters
    assert from_dict(Recipe, json.loads(json.dumps(to_dict(recipe)))) == recipe
    assert recipe.description


def test_the_paper_s_recipes_have_the_paper_s_rates():
    rates = {
        "igpt-s": 0.003, "igpt-m": 0.003, "igpt-l": 0.001, "igpt-l-48": 0.01, "igpt-xl": 0.0003,
        "igpt-s-bert": 0.01, "igpt-m-bert": 0.003, "igpt-l-bert": 0.001,
    }  # fmt: skip
    for name, rate in rates.items():
        assert RECIPES[name].training.learning_rate == rate
        assert RECIPES[name].model.causal == ("bert" not in name)
    assert RECIPES["igpt-xl"].training.steps == 2_000_000
    assert RECIPES["igpt-xl"].training.batch_size == 64


def test_a_recipe_of_any_precision_asks_for_a_run_of_each_and_for_no_other_run():
    recipe = RECIPES["cifar10-tiny"]
    auto, half = (
        with_settings(recipe, [f"training.precision={precision}"])
        for precision in ("auto", "bfloat16")
    )
    assert auto.asks_for(recipe)
    assert auto.asks_for(half)
    assert not recipe.asks_for(half)
    assert not auto.asks_for(with_settings(half, ["training.seed=9"]))


def test_snapshots_are_those_of_the_paper_s_figure_3():
    recipe = with_settings(RECIPES["igpt-s"], ["snapshots=4"])
    assert recipe.training.steps == 1_000_000
    assert recipe.snapshot_steps == (65_536, 131_072, 262_144, 524_288)
    assert with_settings(recipe, ["training.steps=5"]).snapshot_steps == (1, 2)


def test_any_field_can_be_set_by_its_path():
    recipe = with_settings(
        RECIPES["cifar10-tiny"],
        [
            "model.layers=2",
            "training.learning_rate=1",
            "finetune.training.max_gradient_norm=0.5",
            "augmentation=none",
            "finetune.layer=null",
            "model.causal=false",
            "model.initialization=sparse-transformer",
        ],
    )
    assert recipe.model.layers == 2
    assert type(recipe.training.learning_rate) is float
    assert recipe.finetune.training.max_gradient_norm == 0.5
    assert recipe.augmentation == "none"
    assert recipe.finetune.layer is None
    assert recipe.model.causal is False
    assert recipe.model.initialization == "sparse-transformer"
    assert recipe.model.width == RECIPES["cifar10-tiny"].model.width


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("layers", r"looks like training\.steps=500, got 'layers'"),
        ("modl.layers=3", "no part 'modl'; did you mean 'model'"),
        ("model.layer=3", r"no setting 'model\.layer'; did you mean 'layers'"),
        ("layers=3", r"no setting 'layers'; did you mean model\.layers"),
        ("model=3", "no setting 'model'"),
        ("model.layers=three", "should be a whole number, got 'three'"),
        ("model.layers=1.5", r"should be a whole number, got 1\.5"),
        ("model.causal=1", "should be true or false, got 1"),
        ("finetune.layer=x", "should be a whole number or null, got 'x'"),
        ("augmentation=flipp", "augmentation has no choice 'flipp'; did you mean 'flip'"),
        ("model.initialization=sparse", "did you mean 'sparse-transformer'"),
        ("training.precision=bf16", "did you mean 'bfloat16'"),
        ("training.seed=-1", r"a seed must lie in \[0, 4,294,967,296\), got -1"),
        ("model.order=spirl", "no reading order 'spirl'; did you mean 'spiral'"),
        ("model.order=3", "should be a text, got 3"),
        ("objective=difusion", "objective has no choice 'difusion'; did you mean 'diffusion'"),
        ("objective=diffusion", "sees all; set model.causal=false with it"),
        ("mask_probability=0", r"mask_probability must lie between 0 and 1, got 0\.0"),
        ("finetune.pixel_coefficient=-1", "pixel_coefficient cannot be under 0"),
        ("finetune.patience=0", "patience must be at least 1"),
        ("training.steps=-1", "steps must be more than 0, got -1"),
        ("training.learning_rate=NaN", "learning_rate should be a number, got 'NaN'"),
    ],
)
def test_a_setting_that_does_not_exist_or_fit_is_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        with_settings(RECIPES["cifar10-tiny"], [setting])


@pytest.mark.parametrize(
    ("settings", "objective"),
    [
        ([], "autoregressive"),
        (["objective=autoregressive"], "autoregressive"),
        (["model.causal=false"], "masked"),
        (["model.causal=false", "objective=masked"], "masked"),
        (["objective=diffusion", "model.causal=false"], "diffusion"),
    ],
)
def test_the_objective_is_that_of_the_network_unless_another_is_asked_for(settings, objective):
    assert with_settings(RECIPES["cifar10-tiny"], settings).learned_by == objective


def test_a_network_that_sees_all_pixels_does_not_learn_to_predict_the_next():
    with pytest.raises(ConfigError, match=r"sees those before it; set model\.causal=true with"):
        with_settings(RECIPES["igpt-s-bert"], ["objective=autoregressive"])


def test_recipes_of_an_earlier_igpt_name_no_objective_and_no_order():
    values = to_dict(RECIPES["igpt-s-bert"])
    del values["objective"], values["model"]["order"]
    assert from_dict(Recipe, values) == RECIPES["igpt-s-bert"]


def test_a_recipe_that_does_not_exist_names_the_nearest():
    with pytest.raises(ConfigError, match="no recipe 'cifar-tiny'; did you mean 'cifar10-tiny'"):
        find_recipe("cifar-tiny")
