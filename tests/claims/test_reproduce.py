import dataclasses
import json

import numpy as np
import pytest

from igpt.claims.laboratory import Laboratory
from igpt.claims.page import read_result
from igpt.claims.reproduce import CLAIMS, costs, reproduce
from igpt.claims.scale import SCALES, Colors, Scale
from igpt.cli import main
from igpt.errors import ConfigError, DataError
from igpt.model.config import ModelConfig
from igpt.pixels.images import read_image
from igpt.runs.recipes import RECIPES, FinetuneConfig, Recipe
from igpt.training.config import TrainingConfig
from igpt.training.loop import TrainingDiverged

TOY_RECIPE = Recipe(
    model=ModelConfig(image_size=4, colors=8, layers=1, width=8, heads=2),
    training=TrainingConfig(
        steps=2, batch_size=4, learning_rate=0.01, warmup_steps=1, validate_every=2,
        validation_images=4, checkpoint_every=2,
    ),
    finetune=FinetuneConfig(
        training=TrainingConfig(
            steps=2, batch_size=4, learning_rate=0.01, warmup_steps=0, schedule="constant",
            validate_every=1, checkpoint_every=2,
        ),
        augmentation="none",
    ),
)  # fmt: skip
TOY = Scale(
    name="toy",
    description="shapes",
    recipe="toy",
    networks={"small": ("model.width=4",), "2x2": ("model.image_size=2",)},
    sizes=("small", "base"),
    resolutions=("2x2", "base"),
    palette=Colors(8),
    palettes=(Colors(4), Colors(8), Colors(8, grey=True)),
    distortions=(8, 512),
    labels_per_class=(2, 4),
    subsets=2,
    few_label_steps=1,
    concatenate=2,
    snapshots=1,
    bfloat16=False,
    flops_per_second=1e9,
)


@pytest.fixture(scope="module")
def toy():
    """The toy scale, by its name as good as the others."""
    patch = pytest.MonkeyPatch()
    patch.setitem(SCALES, "toy", TOY)
    patch.setitem(RECIPES, "toy", TOY_RECIPE)
    yield TOY
    patch.undo()


@pytest.fixture(scope="module")
def reproduced(toy, shapes_store, tmp_path_factory):
    """Every claim's result at the toy scale, by name, and the folder given as `out`."""
    out = tmp_path_factory.mktemp("claims")
    results = {
        name: reproduce(name, scale="toy", data=shapes_store.path, seeds=1, out=out, device="cpu")
        for name in CLAIMS
    }
    return out, results


def test_every_claim_leaves_a_plan_a_result_and_a_figure(reproduced):
    out, results = reproduced
    optional = {"middle", "along", "equal-loss", "head", "float32"}  # one layer, two steps, a CPU
    for name, result in results.items():
        plan = json.loads((out / "toy" / f"{name}.plan.json").read_text())
        assert [part["name"] for part in plan["parts"]] == [part.name for part in result.parts]
        assert read_result(out / "toy" / f"{name}.json") == result
        assert read_image(out / "toy" / f"{name}.png").shape[2] == 3
        assert len(result.measured) == 1
        for part in result.parts:
            assert np.isfinite(part.values).all()
            assert part.name in optional or len(part.values) == 1
        assert result.seconds > 0


def test_nothing_is_trained_twice(reproduced, shapes_store):
    out, results = reproduced
    runs = out / "toy" / "runs"
    times = {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}
    again = reproduce("size", scale="toy", data=shapes_store.path, seeds=1, out=out, device="cpu")
    assert again == dataclasses.replace(results["size"], provenance=again.provenance)
    assert times == {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}


def test_what_cannot_be_reproduced_is_refused_before_anything_is_written(tmp_path):
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
    with pytest.raises(DataError, match="give a record store with --data"):
        reproduce("depth", scale="small", out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_folder_holds_reproductions_with_the_same_settings(reproduced, shapes_store):
    out, _ = reproduced
    with pytest.raises(ConfigError, match="other settings"):
        reproduce(
            "depth", scale="toy", data=shapes_store.path, out=out, settings=["training.steps=9"]
        )


def test_the_palette_claim_needs_colors(tmp_path):
    laboratory = Laboratory.open(tmp_path, SCALES["tiny"], device="cpu")
    with pytest.raises(DataError, match="give a record store of color images"):
        CLAIMS["palette"].measure(laboratory, 0)


def test_a_run_of_another_recipe_is_not_taken(reproduced, shapes_store, monkeypatch):
    out, _ = reproduced
    other = dataclasses.replace(RECIPES["toy"], augmentation="flip")
    monkeypatch.setitem(RECIPES, "toy", other)
    with pytest.raises(ConfigError, match="made by another recipe"):
        reproduce("depth", scale="toy", data=shapes_store.path, out=out, device="cpu")


@pytest.mark.parametrize("kind", [DataError, ConfigError, TrainingDiverged])
def test_all_leaves_out_a_claim_that_cannot_be_measured(
    reproduced, shapes_store, monkeypatch, capsys, kind
):
    out, _ = reproduced

    def refuse(*_):
        raise kind("these images will not do")

    for name in CLAIMS.keys() - {"depth", "palette", "size"}:  # three will show it
        monkeypatch.delitem(CLAIMS, name)
    monkeypatch.setitem(CLAIMS, "palette", dataclasses.replace(CLAIMS["palette"], measure=refuse))
    arguments = ["--scale", "toy", "--data", shapes_store.path, "--seeds", 1, "--out", out]
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "all", *map(str, arguments), "--device", "cpu", "--json"])
    assert stop.value.code == 0
    output = capsys.readouterr()
    assert [result["claim"] for result in json.loads(output.out)] == ["depth", "size"]
    assert "igpt: palette is left out: these images will not do" in output.err.splitlines()


def test_costs_are_known_of_every_claim_and_scale():
    by_name = {(cost.claim, cost.scale): cost for cost in costs()}
    assert by_name.keys() >= {(claim, scale) for claim in CLAIMS for scale in SCALES}
    tiny = SCALES["tiny"]
    recipe = tiny.recipe_of("base")
    flops = recipe.model.flops_per_token * recipe.model.positions * 16 * recipe.training.steps
    depth = by_name["depth", "tiny"]
    assert (depth.runs, depth.finetuning_steps, depth.training_flops) == (1, 0, flops)
    assert depth.minutes == pytest.approx(flops / tiny.flops_per_second / 60)
    objectives = by_name["objectives", "tiny"]
    assert objectives.finetuning_steps == 2 * recipe.finetune.training.steps
    assert objectives.training_flops == flops * (2 + objectives.finetuning_steps / 960)
