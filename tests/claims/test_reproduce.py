import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from igpt.claims import scale as scales
from igpt.claims.ablations import spikes
from igpt.claims.laboratory import Laboratory
from igpt.claims.page import costs_table, result_text, write_page
from igpt.claims.reproduce import CLAIMS, costs, judged, reproduce
from igpt.claims.scale import SCALES, Scale
from igpt.claims.verdict import Judgement, judge, judge_claim
from igpt.errors import ConfigError, DataError
from igpt.model.config import ModelConfig
from igpt.model.transformer import ImageGPT
from igpt.pixels.images import read_image
from igpt.runs import recipes
from igpt.runs.recipes import FinetuneConfig, Recipe
from igpt.training.config import TrainingConfig

TOY_RECIPE = Recipe(
    model=ModelConfig(image_size=4, colors=8, layers=2, width=8, heads=2),
    training=TrainingConfig(
        steps=16, batch_size=4, learning_rate=0.01, warmup_steps=2, validate_every=16,
        validation_images=4, checkpoint_every=64,
    ),
    finetune=FinetuneConfig(
        training=TrainingConfig(
            steps=4, batch_size=4, learning_rate=0.01, warmup_steps=0, schedule="constant",
            validate_every=2, checkpoint_every=4,
        ),
        augmentation="none",
    ),
)  # fmt: skip
TOY = Scale(
    name="toy",
    description="shapes",
    recipe="toy",
    bert=("model.causal=false",),
    sizes={"small": ("model.layers=1",), "base": (), "large": ("model.width=12",)},
    resolutions={2: ("model.image_size=2",), 4: ()},
    palettes={"4": (4, False), "8": (8, False), "8-greys": (8, True)},
    distortions=(2, 8, 512),
    palette_size=8,
    labels_per_class=(2, 4),
    subsets=2,
    few_label_steps=2,
    concatenate=3,
    bfloat16=False,
)


@pytest.fixture(scope="module")
def toy():
    patch = pytest.MonkeyPatch()
    patch.setitem(SCALES, "toy", TOY)
    patch.setitem(recipes.RECIPES, "toy", TOY_RECIPE)
    yield TOY
    patch.undo()


@pytest.fixture(scope="module")
def results(toy, shapes_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("claims")
    found = {
        name: reproduce(name, scale="toy", data=shapes_store.path, seeds=1, out=out, device="cpu")
        for name in CLAIMS
    }
    return out, found


def test_the_rule_by_hand():
    # mean 2, deviation 1, error 1 / sqrt(3) = 0.577: twice it is 1.155
    found = judge([1.0, 2.0, 3.0])
    assert (found.verdict, found.mean) == ("holds", 2.0)
    assert found.standard_error == pytest.approx(1 / math.sqrt(3))
    assert judge([-1.0, -2.0, -3.0]).verdict == "does not hold"
    assert judge([-1.0, 2.0, 2.0]).verdict == "cannot be told at this scale"
    assert judge([5.0]).verdict == "cannot be told at this scale"
    assert judge([]) == Judgement(
        verdict="cannot be told at this scale", mean=None, standard_error=None
    )


def test_two_things_are_equal_within_a_margin():
    assert judge([0.1, -0.1, 0.0], equal_within=0.2).verdict == "holds"
    assert judge([2.0, 2.1, 1.9], equal_within=0.2).verdict == "does not hold"
    assert judge([-2.0, -2.1, -1.9], equal_within=0.2).verdict == "does not hold"
    assert judge([0.3, -0.3, 0.0], equal_within=0.2).verdict == "cannot be told at this scale"


def test_a_claim_stands_or_falls_with_its_parts():
    def judgements(*verdicts):
        return [Judgement(verdict=v, mean=0.0, standard_error=0.0) for v in verdicts]

    unknown = "cannot be told at this scale"
    assert judge_claim(judgements("holds", "holds")) == "holds"
    assert judge_claim(judgements("holds", unknown)) == unknown
    assert judge_claim(judgements("holds", "does not hold", unknown)) == "does not hold"


def test_every_claim_leaves_a_plan_a_result_and_a_figure(results):
    out, found = results
    for name, result in found.items():
        folder = out / "toy"
        assert json.loads((folder / f"{name}.json").read_text()) == json.loads(json.dumps(result))
        plan = json.loads((folder / f"{name}.plan.json").read_text())
        assert [part["name"] for part in plan["parts"]] == [p["name"] for p in result["parts"]]
        assert read_image(folder / f"{name}.png").shape[2] == 3
        assert len(result["measured"]) == 1
        for part in result["parts"]:
            assert np.isfinite(part["values"]).all()
            assert len(part["values"]) <= 1
        measured = {part["name"] for part in result["parts"] if part["values"]}
        optional = {"float32", "head", "sooner", "equal-loss"}
        assert {part["name"] for part in result["parts"]} - measured <= optional
        assert result["seconds"] > 0
        assert "toy" in result_text(result)


def test_nothing_is_trained_twice(results, shapes_store):
    out, found = results
    runs = out / "toy" / "runs"
    names = {path.name for path in runs.iterdir() if path.is_dir()}
    shared = {"size-base", "resolution-4", "palette-8", "mask-0.15"}
    assert not {name.rpartition("-seed")[0] for name in names} & shared
    times = {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}
    again = reproduce("size", scale="toy", data=shapes_store.path, seeds=1, out=out, device="cpu")
    assert {key: again[key] for key in ("parts", "table", "seconds")} == {
        key: found["size"][key] for key in ("parts", "table", "seconds")
    }
    assert times == {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}


def test_values_of_depth_by_hand(results):
    measured = {"best_layer": 2, "accuracies": [0.3, 0.5, 0.6, 0.45]}
    found = judged(CLAIMS["depth"], [measured, measured])
    values = {part["name"]: part["values"][0] for part in found["parts"]}
    assert values == pytest.approx({"rises": 0.3, "falls": 0.15, "middle": 0.55 - 0.375})


def test_values_at_equal_loss_lie_between_snapshots():
    def rows(losses, accuracies):
        return [
            {"nats_per_pixel": loss, "test_accuracy": accuracy}
            for loss, accuracy in zip(losses, accuracies, strict=True)
        ]

    measured = {
        "small": rows([3.0, 2.0, 1.5], [0.2, 0.3, 0.4]),
        "large": rows([2.0, 1.0], [0.4, 0.8]),
    }
    found = CLAIMS["loss-and-probe"].values(measured)
    assert found == pytest.approx(
        {"along": 1.0, "size-loss": 0.5, "size-probe": 0.4, "equal-loss": 0.6 - 0.4}
    )
    measured["large"] = rows([1.2, 1.0], [0.4, 0.8])
    assert "equal-loss" not in CLAIMS["loss-and-probe"].values(measured)


def test_spikes_stand_out_from_the_steps_before():
    losses = [2.0 - 0.005 * step for step in range(200)]
    assert spikes(losses) == 0
    losses[120] += 1
    losses[150] += 0.1
    assert spikes(losses) == 1


def test_the_page_tells_every_claim_and_shows_its_figure(results, tmp_path):
    out, found = results
    write_page([out / "toy"], tmp_path / "claims.md")
    page = (tmp_path / "claims.md").read_text()
    for name, result in found.items():
        assert f"## {name}: toy" in page
        assert result["paper"] in page
        assert (tmp_path / "claims-figures" / f"toy-{result['data']}-{name}.png").is_file()
    first = page
    write_page([out / "toy"], tmp_path / "claims.md")
    assert (tmp_path / "claims.md").read_text() == first
    with pytest.raises(DataError, match="results of the same claim, scale and data"):
        write_page([out / "toy", out / "toy"], tmp_path / "claims.md")
    (tmp_path / "other-figures").mkdir()
    (tmp_path / "other-figures" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds more than figures"):
        write_page([out / "toy"], tmp_path / "other.md")
    with pytest.raises(DataError, match="run igpt reproduce first"):
        write_page([tmp_path], tmp_path / "none.md")


@pytest.mark.parametrize("name", SCALES)
def test_every_recipe_of_every_scale_makes_a_network_on_the_meta_device(name):
    scale = SCALES[name]
    for variant in scale.variants():
        recipe = scale.recipe_of(variant)
        with torch.device("meta"):
            model = ImageGPT(recipe.model)
            tokens = torch.zeros((2, recipe.model.positions), dtype=torch.int64)
        assert sum(p.numel() for p in model.parameters()) == recipe.model.parameters
        shallow = dataclasses.replace(recipe.model, layers=1)
        with torch.device("meta"):
            logits = ImageGPT(shallow)(tokens)
        assert logits.shape == (2, recipe.model.positions, recipe.model.colors)
        assert len(recipe.snapshot_steps) == scales.SNAPSHOTS


def test_the_papers_scale_has_the_papers_settings():
    paper = SCALES["paper"]
    sizes = {
        name: paper.recipe_of(name)
        for name in ("size-igpt-s", "size-igpt-m", "size-igpt-l", "resolution-64")
    }
    parameters = [round(recipe.model.parameters / 1e6) for recipe in sizes.values()]
    assert parameters == [77, 455, 1362, 6811]
    assert [recipe.training.learning_rate for recipe in sizes.values()] == [
        0.003, 0.003, 0.001, 0.0003,
    ]  # fmt: skip
    assert sizes["resolution-64"].training.steps == 2_000_000
    assert sizes["resolution-64"].training.batch_size == 64
    assert all(
        (recipe.training.steps, recipe.training.batch_size) == (1_000_000, 128)
        for name, recipe in sizes.items()
        if name != "resolution-64"
    )


def test_costs_are_told_for_every_claim_and_scale(monkeypatch):
    monkeypatch.setattr("igpt.claims.reproduce._training_speed", lambda *_, **__: 1e10)
    found = costs("cpu")
    assert len(found) == len(SCALES) * len(CLAIMS)
    depth = next(cost for cost in found if (cost.claim, cost.scale) == ("depth", "tiny"))
    recipe = SCALES["tiny"].recipe_of("base")
    flops = recipe.model.flops_per_token * recipe.model.positions * 16 * recipe.training.steps
    assert (depth.runs, depth.finetuning_steps, depth.training_flops) == (1, 0, flops)
    assert depth.hours == pytest.approx(flops / 1e10 / 3600)
    objectives = next(c for c in found if (c.claim, c.scale) == ("objectives", "tiny"))
    assert objectives.finetuning_steps == 2 * recipe.finetune.training.steps
    assert objectives.training_flops == flops * (2 + objectives.finetuning_steps / 960)
    assert "ablations" in costs_table(found)


def test_what_cannot_be_reproduced_is_told_in_a_line(results, shapes_store, tmp_path):
    out, _ = results
    for arguments, message in (
        ({"name": "dept"}, "did you mean 'depth'"),
        ({"name": "depth", "scale": "huge"}, "no scale 'huge'"),
        ({"name": "depth", "seeds": 0}, "seeds must be at least 1"),
        ({"name": "depth", "settings": ["model.layer=3"]}, "did you mean 'layers'"),
        ({"name": "depth", "settings": ["training.seed=3"]}, "decides training.seed itself"),
        ({"name": "ablations", "settings": ["training.beta2=0.999"]}, "are the same, base"),
    ):
        with pytest.raises(ConfigError, match=message):
            reproduce(**arguments, out=tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(DataError, match="give a record store with --data"):
        reproduce("depth", scale="small", out=tmp_path / "a")
    with pytest.raises(ConfigError, match="other settings"):
        reproduce(
            "depth", scale="toy", data=shapes_store.path, out=out, settings=["training.steps=9"]
        )


def test_the_palette_claim_wants_colors(tmp_path):
    laboratory = Laboratory.open(tmp_path, SCALES["tiny"], device="cpu")
    with pytest.raises(DataError, match="give a record store of color images"):
        CLAIMS["palette"].measure(laboratory, 0)


def test_a_run_of_another_recipe_is_not_taken(results, toy, shapes_store, monkeypatch):
    out, _ = results
    other = dataclasses.replace(TOY_RECIPE, augmentation="flip")
    monkeypatch.setitem(recipes.RECIPES, "toy", other)
    with pytest.raises(ConfigError, match="made by another recipe"):
        reproduce("depth", scale="toy", data=shapes_store.path, out=out, device="cpu")
