import dataclasses

import pytest
import torch

from igpt.claims.scale import SCALES, Colors
from igpt.errors import ConfigError
from igpt.model.transformer import ImageGPT


@pytest.mark.parametrize("name", SCALES)
def test_every_recipe_of_every_scale_makes_a_network_on_the_meta_device(name):
    scale = SCALES[name]
    recipes = [scale.recipe_of(network) for network in scale.settings_by_network]
    assert all(len(recipe.snapshot_steps) == 4 for recipe in recipes)
    for config in {recipe.model for recipe in recipes}:
        with torch.device("meta"):
            model = ImageGPT(config)
            shallow = ImageGPT(dataclasses.replace(config, layers=1))
            logits = shallow(torch.zeros((2, config.positions), dtype=torch.int64))
        assert sum(p.numel() for p in model.parameters()) == config.parameters
        assert logits.shape == (2, config.positions, config.colors)


@pytest.mark.parametrize("name", SCALES)
def test_what_is_compared_differs_and_rises(name):
    scale = SCALES[name]
    for networks in (scale.sizes, scale.resolutions):
        scale.check_different(networks)
        assert "base" in networks
    recipes = [scale.recipe_of(network) for network in scale.sizes]
    weights = [recipe.model.parameters for recipe in recipes]
    sides = [scale.recipe_of(network).model.image_size for network in scale.resolutions]
    assert weights == sorted(weights)
    assert sides == sorted(sides)
    greys = [colors for colors in scale.palettes if colors.grey]
    assert {Colors(colors.size) for colors in greys} <= set(scale.palettes)


def test_networks_that_settings_make_the_same_are_not_compared():
    scale = dataclasses.replace(SCALES["tiny"], settings=("training.beta2=0.999",))
    scale.check_different(["base", "bert", "palette-64-greys"])
    with pytest.raises(ConfigError, match=r"the same, base and beta2-0\.999"):
        scale.check_different(["base", "bert", "beta2-0.999"])


def test_the_papers_scale_has_the_papers_settings():
    paper = SCALES["paper"]
    names = ("igpt-s", "igpt-m", "base", "64x64")
    recipes = [paper.recipe_of(name) for name in names]
    assert [round(recipe.model.parameters / 1e6) for recipe in recipes] == [77, 455, 1362, 6811]
    rates = [recipe.training.learning_rate for recipe in recipes]
    assert rates == [0.003, 0.003, 0.001, 0.0003]
    lengths = [(recipe.training.steps, recipe.training.batch_size) for recipe in recipes]
    assert lengths == [(1_000_000, 128)] * 3 + [(2_000_000, 64)]
