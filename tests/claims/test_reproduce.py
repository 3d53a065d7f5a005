import dataclasses
import json
import math

import numpy as np
import pytest

from igpt.claims.costs import costs, scale_cost
from igpt.claims.laboratory import Laboratory
from igpt.claims.plan import read_plan
from igpt.claims.reproduce import CLAIMS, read_result, reproduce
from igpt.claims.scale import SCALES, SEARCH_SEED
from igpt.cli import main
from igpt.data.store import RecordStore
from igpt.errors import ConfigError, DataError
from igpt.evaluation.sgd import SGDConfig
from igpt.pixels.images import read_image
from igpt.runs.recipes import RECIPES


@pytest.fixture(scope="module")
def reproduced(toy, four_corners, tmp_path_factory):
    """Every claim's result at the toy scale, by name, and the folder given as `out`."""
    out = tmp_path_factory.mktemp("claims")
    results = {
        name: reproduce(name, scale="toy", data=four_corners.path, seeds=1, out=out, device="cpu")
        for name in CLAIMS
    }
    return out, results


def test_every_claim_leaves_a_plan_a_result_and_a_figure(reproduced):
    out, results = reproduced
    optional = {"rises", "falls", "middle", "along", "equal-loss", "head", "float32", "probe-wins"}
    for name, result in results.items():
        fixed = read_plan(out / "toy", name)
        assert fixed is not None
        judged = [part.name for part in fixed.plan.parts if part.name not in fixed.plan.left]
        assert judged == [part.name for part in result.parts]
        assert (result.plan, result.planned) == (fixed.digest, 1)
        assert read_result(out / "toy" / f"{name}.json") == result
        assert read_image(out / "toy" / f"{name}.png").shape[2] == 3
        assert len(result.measured) == 1
        for part in result.parts:  # one layer, two steps and a CPU leave some unmeasured
            known = [value for value in part.values if value is not None]
            assert np.isfinite(known).all()
            assert known or part.name in optional or result.controls
        assert result.seconds > 0


def test_nothing_is_trained_twice(reproduced, four_corners):
    out, results = reproduced
    runs = out / "toy" / "runs"
    times = {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}
    again = reproduce("size", scale="toy", data=four_corners.path, seeds=1, out=out, device="cpu")
    assert again == dataclasses.replace(results["size"], provenance=again.provenance)
    assert times == {path: path.stat().st_mtime_ns for path in runs.rglob("*.safetensors")}


def test_the_rate_of_each_size_is_chosen_on_a_seed_that_does_not_count(reproduced):
    out, _ = reproduced
    runs = {path.name for path in (out / "toy" / "runs").iterdir() if path.is_dir()}
    searched = {run for run in runs if run.endswith(f"-seed{SEARCH_SEED}")}
    assert searched == {
        f"{name}-seed{SEARCH_SEED}"
        for name in ("small", "small-rate-0.02", "base", "base-rate-0.02")
    }


def test_a_network_at_a_precision_that_was_settled_when_it_began_is_known_again(
    toy, four_corners, tmp_path
):
    auto = dataclasses.replace(toy, settings=("training.precision=auto",))
    laboratory = Laboratory.open(tmp_path, auto, data=four_corners.path, device="cpu")
    run = laboratory.pretrained("small", 0)
    assert run.pretraining.recipe.training.precision in ("float32", "bfloat16")
    assert laboratory.pretrained("small", 0) == run


def test_seeds_differ_in_what_is_held_out(toy, four_corners, tmp_path):
    laboratory = Laboratory.open(tmp_path, toy, data=four_corners.path, device="cpu")
    stores = [RecordStore.open(laboratory.store(seed)) for seed in (0, 1, 2)]
    held = [{image.tobytes() for image in store.split("validation").images} for store in stores]
    assert held[0] != held[1] != held[2]
    tests = [store.split("test").images.tobytes() for store in stores]
    assert tests[0] == tests[1] == tests[2]


def test_seeds_differ_in_test_digits_and_placements(tmp_path):
    laboratory = Laboratory.open(tmp_path, SCALES["tiny"], device="cpu")
    stores = [RecordStore.open(laboratory.store(seed)) for seed in (0, 1)]
    names = [set(store.split("test").names) for store in stores]
    assert names[0] != names[1]
    assert laboratory.name == "digits"


def test_the_halves_of_the_classes_have_nothing_in_common(toy, four_corners, tmp_path):
    laboratory = Laboratory.open(tmp_path, toy, data=four_corners.path, device="cpu")
    halves = [RecordStore.open(laboratory.half(which, 1)) for which in ("first", "second")]
    classes = [store.class_names or () for store in halves]
    assert set(classes[0]).isdisjoint(classes[1])
    assert (*classes[0], *classes[1]) == four_corners.class_names


def test_more_images_than_lbfgs_is_for_are_probed_by_sgd_from_disk(toy, four_corners, tmp_path):
    many = dataclasses.replace(toy, lbfgs_images=50, sgd=SGDConfig(steps=5, learning_rates=(0.1,)))
    laboratory = Laboratory.open(tmp_path, many, data=four_corners.path, device="cpu")
    probes = laboratory.probe("base", 0)
    assert (probes.solver, probes.best.setting) == ("sgd", 0.1)
    assert probes.raw_pixels is not None
    assert laboratory.untrained("base", 0).solver == "sgd"
    assert len(list(tmp_path.glob("features/base-seed0/*/learned.npy"))) == 2
    assert laboratory.few_labels(0).layer == probes.best_layer
    assert laboratory.along("base", 0).snapshots[-1].test_accuracy == probes.test_accuracy
    assert not (tmp_path / "runs" / "base-seed0" / "probe.json").exists()
    assert (tmp_path / "features" / "base-seed0" / "along" / "learned.npy").is_file()


def test_more_images_than_probes_under_masks_are_for_are_refused_before_any_training(
    toy, four_corners, tmp_path
):
    many = dataclasses.replace(toy, lbfgs_images=50)
    laboratory = Laboratory.open(tmp_path, many, data=four_corners.path, device="cpu")
    with pytest.raises(DataError, match="has more than the 50 labelled training images"):
        CLAIMS["objectives"].measure(laboratory, 0)
    assert not (tmp_path / "runs").exists()


def test_a_reproduction_in_pieces_ends_as_one_in_a_piece(reproduced, four_corners, tmp_path):
    _, results = reproduced
    arguments = {"scale": "toy", "data": four_corners.path, "out": tmp_path, "device": "cpu"}
    piece = reproduce("depth", seeds=2, seconds=1e-3, **arguments)
    assert piece.verdict == "unfinished"
    assert {part.verdict for part in piece.parts} == {"unfinished"}
    assert (piece.seeds, piece.planned) == ((), 2)
    for share in ((1, 2), (2, 2)):
        shared = reproduce("depth", share=share, **arguments)
        assert shared.seeds == (share[0] - 1,)
        assert read_result(tmp_path / "toy" / "depth.json") == piece
    whole = reproduce("depth", **arguments)
    assert whole.seeds == (0, 1)
    assert whole.measured[0] == results["depth"].measured[0]


def test_a_run_that_diverges_is_a_result(toy, four_corners, tmp_path, monkeypatch):
    wild = {"small": ("model.width=4", "training.learning_rate=1e30")}
    monkeypatch.setitem(SCALES, "toy", dataclasses.replace(toy, networks=wild | {
        "2x2": ("model.image_size=2",)}, rates=()))  # fmt: skip
    arguments = {"scale": "toy", "data": four_corners.path, "out": tmp_path, "device": "cpu"}
    result = reproduce("size", seeds=1, **arguments)
    small, base = result.measured[0]["small"], result.measured[0]["base"]
    assert "is nan" in small["diverged"] or "is inf" in small["diverged"]
    classes = len(four_corners.class_names)
    assert small["test_accuracy"] == 1 / classes
    assert small["nats_per_pixel"] == pytest.approx(math.log(8))
    assert base["diverged"] is None
    result = reproduce("loss-and-probe", seeds=1, **arguments)
    assert result.measured == (None,)
    assert result.diverged[0].startswith("seed 0: small-seed0: the ")
    assert {part.verdict for part in result.parts} == {"not measurable"}


def test_what_cannot_be_reproduced_is_refused_before_anything_is_written(tmp_path):
    for arguments, message in (
        ({"name": "dept"}, "did you mean 'depth'"),
        ({"name": "depth", "scale": "huge"}, "no scale 'huge'"),
        ({"name": "depth", "seeds": 0}, "seeds must be at least 1"),
        ({"name": "depth", "share": (3, 2)}, "a share is such as 1/2"),
        ({"name": "depth", "settings": ["model.layer=3"]}, "did you mean 'layers'"),
        ({"name": "depth", "settings": ["training.seed=3"]}, "decides training.seed itself"),
        ({"name": "ablations", "settings": ["training.beta2=0.999"]}, "are the same, base"),
        ({"name": "size", "settings": ["training.learning_rate=0.001"]}, "a search decides"),
    ):
        with pytest.raises(ConfigError, match=message):
            reproduce(**arguments, out=tmp_path / "a")
    with pytest.raises(DataError, match="give a record store with --data"):
        reproduce("depth", scale="small", out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_folder_holds_reproductions_with_the_same_settings(reproduced, four_corners):
    out, _ = reproduced
    with pytest.raises(ConfigError, match="other settings"):
        reproduce(
            "depth", scale="toy", data=four_corners.path, out=out, settings=["training.steps=9"]
        )


def test_the_palette_claim_needs_colors(tmp_path):
    laboratory = Laboratory.open(tmp_path, SCALES["tiny"], device="cpu")
    with pytest.raises(DataError, match="give a record store of color images"):
        CLAIMS["palette"].measure(laboratory, 0)


def test_a_run_of_another_recipe_is_not_taken(reproduced, four_corners, monkeypatch):
    out, _ = reproduced
    other = dataclasses.replace(RECIPES["toy"], augmentation="flip")
    monkeypatch.setitem(RECIPES, "toy", other)
    with pytest.raises(ConfigError, match="fixed with other networks"):
        reproduce("depth", scale="toy", data=four_corners.path, out=out, device="cpu")


def test_the_command_says_how_many_seeds_are_needed(reproduced, capsys):
    out, _ = reproduced
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "all", "--power", "--scale", "toy", "--out", str(out)])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert "depth: seeds that tell each part's margin in 80% of cases" in lines
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "all", "--power", "--out", str(out / "elsewhere")])
    assert stop.value.code == 2
    assert "nothing was measured" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [DataError, ConfigError])
def test_all_leaves_out_a_claim_that_cannot_be_measured(
    reproduced, four_corners, monkeypatch, capsys, kind
):
    out, _ = reproduced

    def refuse(*_):
        raise kind("these images will not do")

    for name in CLAIMS.keys() - {"depth", "palette", "size"}:  # three will show it
        monkeypatch.delitem(CLAIMS, name)
    monkeypatch.setitem(CLAIMS, "palette", dataclasses.replace(CLAIMS["palette"], measure=refuse))
    arguments = ["--scale", "toy", "--data", four_corners.path, "--seeds", 1, "--out", out]
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
    step = recipe.model.flops_per_token * recipe.model.positions * recipe.training.batch_size
    flops = step * recipe.training.steps
    depth = by_name["depth", "tiny"]
    assert (depth.runs, depth.finetuning_steps, depth.training_flops) == (1, 0, flops)
    assert depth.minutes == pytest.approx(flops / tiny.flops_per_second / 60)
    ablations = by_name["ablations", "tiny"]
    assert (ablations.parts, ablations.left) == (2, 6)


def test_networks_that_claims_share_cost_once():
    tiny = SCALES["tiny"]
    total = scale_cost(tiny)
    by_claim = [cost for cost in costs() if cost.scale == "tiny"]
    assert total.minutes < sum(cost.minutes for cost in by_claim)
    assert total.minutes > max(cost.minutes for cost in by_claim)
    assert total.search_minutes > 0
    assert scale_cost(SCALES["paper"]).search_minutes == 0
