"""Plans: fixed once, refused where they differ, amended by more seeds."""

import dataclasses
import json

import pytest
import torch

from igpt.claims.plan import Plan, digest, fix_plan, plan_file, read_plan
from igpt.claims.reproduce import CLAIMS
from igpt.claims.scale import SCALES
from igpt.errors import ConfigError, DataError
from igpt.runs.provenance import provenance

MADE = provenance(torch.device("cpu"))
PLAN = Plan.of(CLAIMS["ablations"], SCALES["tiny"], data="digits", labelled="digits")


def fix(folder, plan=PLAN, seeds=None, measured=0):
    return fix_plan(folder, plan, seeds=seeds, default=10, measured=measured, made=MADE)


def test_a_plan_is_written_once_and_read_back(tmp_path):
    fixed = fix(tmp_path)
    assert (fixed.seeds, fixed.planned, fixed.amendments) == (10, 10, ())
    text = plan_file(tmp_path, "ablations").read_text()
    assert fix(tmp_path) == fix(tmp_path, seeds=10) == fixed == read_plan(tmp_path, "ablations")
    assert plan_file(tmp_path, "ablations").read_text() == text


def test_a_plan_says_parts_controls_recipes_and_what_is_left():
    assert [part.name for part in PLAN.parts][:2] == ["beta2", "weight-decay"]
    assert [control.name for control in PLAN.controls] == ["plateau"]
    assert PLAN.networks.keys() == {"base", "beta2-0.999", "sparse-initialization"}
    assert "weight-decay" in PLAN.left
    assert PLAN.scale["plateau"] == SCALES["tiny"].plateau


@pytest.mark.parametrize(
    "change",
    [
        {"rule": "Whatever looks best."},
        {"parts": PLAN.parts[1:]},
        {"networks": {**PLAN.networks, "base": "other"}},
        {"left": {}},
        {"data": "cifar10"},
    ],
)
def test_another_plan_is_refused(tmp_path, change):
    fix(tmp_path)
    with pytest.raises(ConfigError, match=f"with other {next(iter(change))} than these"):
        fix(tmp_path, dataclasses.replace(PLAN, **change))


def test_a_recipe_makes_the_plan_another(tmp_path):
    scale = dataclasses.replace(SCALES["tiny"], settings=("training.batch_size=8",))
    other = Plan.of(CLAIMS["ablations"], scale, data="digits", labelled="digits")
    assert other.networks["base"] != PLAN.networks["base"]


def test_more_seeds_are_an_amendment_and_fewer_are_refused(tmp_path):
    first = fix(tmp_path, seeds=4)
    with pytest.raises(ConfigError, match="is for 4 seeds, got 3"):
        fix(tmp_path, seeds=3)
    amended = fix(tmp_path, seeds=8, measured=4)
    assert (amended.digest, amended.planned, amended.seeds) == (first.digest, 4, 8)
    assert [(entry.seeds, entry.measured) for entry in amended.amendments] == [(8, 4)]
    assert fix(tmp_path) == amended
    with pytest.raises(ConfigError, match="is for 8 seeds, got 4"):
        fix(tmp_path, seeds=4)


def test_a_plan_that_was_changed_is_refused(tmp_path):
    fix(tmp_path)
    file = plan_file(tmp_path, "ablations")
    values = json.loads(file.read_text())
    values["plan"]["parts"][0]["margin"] = 5.0
    file.write_text(json.dumps(values))
    with pytest.raises(DataError, match="changed after it was fixed"):
        fix(tmp_path)
    file.write_text("{}")
    with pytest.raises(DataError, match="of an earlier igpt"):
        read_plan(tmp_path, "ablations")


@pytest.mark.parametrize(
    ("scale", "base", "bert"),
    [
        ("tiny", "7c9c60b8a063689f", "881f9e50bd5612af"),
        ("small", "0e588bfda377d974", "5efdd58c23e129ac"),
        ("paper", "0933ad045b0b0409", "c1ed422801538ad5"),
    ],
)
def test_recipes_have_the_digests_that_plans_on_record_have_of_them(scale, base, bert):
    recipes = [SCALES[scale].recipe_of(name) for name in ("base", "bert")]
    assert [digest(recipe) for recipe in recipes] == [base, bert]
