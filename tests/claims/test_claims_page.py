import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from igpt.claims.claim import ClaimResult, ControlResult, PartResult
from igpt.claims.costs import costs
from igpt.claims.page import (
    costs_table,
    power_table,
    read_planned,
    result_text,
    write_page,
)
from igpt.claims.plan import Amendment, FixedPlan, Plan, digest
from igpt.claims.reproduce import read_result
from igpt.claims.scale import SCALES
from igpt.claims.verdict import RULE
from igpt.errors import ConfigError, DataError
from igpt.files import write_json
from igpt.pixels.images import write_png
from igpt.runs.provenance import provenance
from igpt.values import to_dict

MADE = dataclasses.replace(
    provenance(torch.device("cpu")), command="igpt reproduce depth", commit="abc", threads=1,
    started="2026-11-20T10:00:00+0000",
)  # fmt: skip
RISES = PartResult(
    name="rises", statement="features get better", paper="+2.4", quantity="best minus first",
    values=(0.10, 0.14, 0.12), verdict="holds", mean=0.12, interval=(0.07, 0.17), p_value=0.0123,
    deviation=0.02, seeds_needed=34,
)  # fmt: skip
SAME = PartResult(
    name="same", statement="decay changes nothing", quantity="with minus without", equal=True,
    values=(0.01, None, 0.03), verdict="cannot be told", mean=0.02, interval=(-0.1, 0.14),
    p_value=1.0, deviation=0.0141, seeds_needed=None,
)  # fmt: skip
PLAN = Plan(
    claim="depth", rule=RULE, parts=(), controls=(), left={"half": "there is none"}, scale={},
    networks={"base": "123"}, data="digits", labelled="digits",
)  # fmt: skip
FIXED = FixedPlan(digest=digest((PLAN, 3)), plan=PLAN, planned=3, made=MADE)
DEPTH = ClaimResult(
    claim="depth", title="The middle is best", source="figure 2", scale="tiny", data="digits",
    paper="It rises, then falls.", rule=RULE, plan=FIXED.digest, planned=3, seeds=(0, 1, 2),
    parts=(RISES, SAME),
    controls=(
        ControlResult(name="plateau", statement="the loss is past its plateau", quantity="nats",
                      at_least=0.0, parts=("same",), values=(0.1, -0.1, 0.2), met=2),
    ),
    left={"half": "there is none"}, verdict="cannot be told",
    table=({"layer": "0", "test accuracy": "50.00 %"}, {"layer": "1", "test accuracy": "62.00 %"}),
    measured=({"best_layer": 1}, {"best_layer": 1}, {"best_layer": 1}),
    diverged=("seed 1: base diverged",), runs=("base",), seconds=90.0, provenance=MADE,
)  # fmt: skip


@pytest.fixture
def kept(tmp_path) -> Path:
    """A folder as `reproduce` leaves it."""
    folder = tmp_path / "tiny"
    for name, title in (("depth", "The middle is best"), ("size", "Larger is better")):
        plan = dataclasses.replace(PLAN, claim=name)
        fixed = dataclasses.replace(FIXED, plan=plan, digest=digest((plan, 3)))
        result = dataclasses.replace(DEPTH, claim=name, title=title, plan=fixed.digest)
        write_json(folder / f"{name}.plan.json", to_dict(fixed))
        write_json(folder / f"{name}.json", to_dict(result))
        write_png(folder / f"{name}.png", np.zeros((2, 2, 3), np.uint8))
    return folder


def test_a_text_says_verdict_and_numbers_of_every_part():
    assert result_text(DEPTH).splitlines() == [
        "depth: The middle is best",
        "  features get better: holds",
        "    best minus first",
        "    ours +12.00 points (+7.00 to +17.00); paper +2.4",
        "  decay changes nothing: cannot be told",
        "    with minus without",
        "    ours +2.00 points (-10.00 to +14.00); paper no figure given",
        "    it would take over 2,000 seeds for 1 point, as seeds differ by 1.41 points; 2 so far",
        "  control missed in 1 of 3 seeds: the loss is past its plateau",
        "  left to another scale: half, since there is none",
        "  diverged: seed 1: base diverged",
        "  CANNOT BE TOLD (OF 2 PARTS 1 HOLDS, 1 CANNOT BE TOLD); tiny, digits, seeds: 3, "
        "pretraining: 2 minutes",
    ]


def test_an_unfinished_claim_has_no_verdict():
    part = dataclasses.replace(RISES, verdict="unfinished", p_value=None)
    result = dataclasses.replace(DEPTH, verdict="unfinished", planned=10, parts=(part,))
    assert "UNFINISHED: 3 OF 10 SEEDS" in result_text(result)


def test_a_number_is_shown_in_its_unit():
    for unit, text in (("nats", "ours +0.1200 nats (+0.0700 to"), ("dB", "ours +0.12 dB (+0.07")):
        part = dataclasses.replace(RISES, unit=unit)
        assert text in result_text(dataclasses.replace(DEPTH, parts=(part,)))


def test_the_seeds_that_each_part_takes_are_told():
    assert power_table(DEPTH).splitlines() == [
        "depth: seeds that tell each part's margin in 80% of cases",
        "  rises           34 seeds for 1 point, as seeds differ by 2.00 points; 3 so far",
        "  same            over 2,000 seeds for 1 point, as seeds differ by 1.41 points; 2 so far",
    ]


def test_the_page_has_every_claim_and_its_figure(kept, tmp_path):
    write_page([kept], tmp_path / "claims.md")
    page = (tmp_path / "claims.md").read_text()
    for line in (
        f"**The rule**, fixed before the runs: {RULE}",
        "| [The middle is best](#depth-tiny-digits) | tiny, digits | 3 | cannot be told (of 2 "
        "parts 1 holds, 1 cannot be told) |",
        "## depth: tiny, digits",
        "## size: tiny, digits",
        "The paper: It rises, then falls.",
        "| features get better | +2.4 | best minus first | +12.00 points (+7.00 to +17.00) | 0.012 "
        "| holds |",
        "| decay changes nothing | no figure given | with minus without (equal within 1 point) | "
        "+2.00 points (-10.00 to +14.00) | 1 | cannot be told; it would take over 2,000 seeds for "
        "1 point, as seeds differ by 1.41 points; 2 so far |",
        "| half | | | | | left to another scale: there is none |",
        "| the loss is past its plateau (for same) | 2 of 3 |",
        "Diverged: seed 1: base diverged",
        "| layer | test accuracy |",
        "| --- | --- |",
        "| 1 | 62.00 % |",
        "![The middle is best](claims-figures/tiny-digits-depth.png)",
        f"Plan `{FIXED.digest}`, fixed 2026-11-20T10:00:00+0000 at commit abc for 3 seeds.",
    ):
        assert line in page.splitlines()
    figures = {file.name for file in (tmp_path / "claims-figures").iterdir()}
    assert figures == {"tiny-digits-depth.png", "tiny-digits-size.png"}


def test_results_of_other_settings_stand_beside_the_scales_own(kept, tmp_path):
    """Such as the same claims with another recipe: told apart in table, heading and figure."""
    scale = {"settings": ["training.optimizer=muon", "augmentation=flip"]}
    plan = dataclasses.replace(PLAN, scale=scale)
    fixed = dataclasses.replace(FIXED, plan=plan, digest=digest((plan, 3)))
    write_json(tmp_path / "muon" / "depth.plan.json", to_dict(fixed))
    result = dataclasses.replace(DEPTH, plan=fixed.digest)
    write_json(tmp_path / "muon" / "depth.json", to_dict(result))
    write_png(tmp_path / "muon" / "depth.png", np.zeros((2, 2, 3), np.uint8))
    write_page([kept, tmp_path / "muon"], tmp_path / "claims.md")
    page = (tmp_path / "claims.md").read_text()
    assert "## depth: tiny, digits\n" in page
    assert "## depth: tiny, digits, optimizer=muon, augmentation=flip\n" in page
    anchor = "#depth-tiny-digits-optimizermuon-augmentationflip"
    assert f"| [The middle is best]({anchor}) | tiny, digits, optimizer=muon, augm" in page
    figure = f"tiny-digits-{fixed.digest[:8]}-depth.png"
    assert f"](claims-figures/{figure})" in page
    assert (tmp_path / "claims-figures" / figure).is_file()


def test_the_page_shows_amendments(kept, tmp_path):
    later = dataclasses.replace(MADE, started="2026-11-21T10:00:00+0000", commit="def")
    amended = dataclasses.replace(FIXED, amendments=(Amendment(seeds=5, measured=3, made=later),))
    write_json(kept / "depth.plan.json", to_dict(amended))
    write_json(kept / "depth.json", to_dict(dataclasses.replace(DEPTH, planned=5)))
    write_page([kept], tmp_path / "claims.md")
    line = "Amended 2026-11-21T10:00:00+0000 at commit def to 5 seeds, after 3 were measured."
    assert line in (tmp_path / "claims.md").read_text().splitlines()


def test_a_result_of_another_plan_or_rule_is_refused(kept):
    def write(result=DEPTH, fixed=FIXED):
        write_json(kept / "depth.json", to_dict(result))
        write_json(kept / "depth.plan.json", to_dict(fixed))

    write(dataclasses.replace(DEPTH, plan="another"))
    with pytest.raises(DataError, match="under another plan"):
        read_planned(kept, "depth")
    write(fixed=dataclasses.replace(FIXED, planned=4))
    with pytest.raises(DataError, match="changed after it was fixed"):
        read_planned(kept, "depth")
    plan = dataclasses.replace(PLAN, rule="Whatever looks best.")
    fixed = dataclasses.replace(FIXED, plan=plan, digest=digest((plan, 3)))
    write(dataclasses.replace(DEPTH, plan=fixed.digest), fixed)
    with pytest.raises(DataError, match="by another rule"):
        read_planned(kept, "depth")
    (kept / "depth.plan.json").unlink()
    with pytest.raises(DataError, match="has no plan"):
        read_planned(kept, "depth")


def test_a_page_says_how_it_was_made(kept, tmp_path):
    write_page([kept], tmp_path / "claims.md")
    page = (tmp_path / "claims.md").read_text()
    made = DEPTH.provenance
    assert (
        f"`igpt reproduce depth`, commit abc, {made.processor}, 1 thread, PyTorch "
        f"{made.libraries['torch']}; 2 minutes of pretraining in 3 seeds of base."
    ) in page


def test_a_page_written_again_is_the_same(kept, tmp_path):
    write_page([kept], tmp_path / "claims.md")
    page = (tmp_path / "claims.md").read_text()
    write_page([kept], tmp_path / "claims.md")
    assert (tmp_path / "claims.md").read_text() == page


def test_a_page_that_cannot_be_written_is_refused(kept, tmp_path):
    with pytest.raises(DataError, match="the same claim, scale, settings and data"):
        write_page([kept, kept], tmp_path / "claims.md")
    (tmp_path / "other-figures").mkdir()
    (tmp_path / "other-figures" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds more than figures"):
        write_page([kept], tmp_path / "other.md")
    with pytest.raises(DataError, match=r"result in .*/tniy; .* run igpt reproduce first"):
        write_page([kept, kept.with_name("tniy")], tmp_path / "none.md")
    (kept / "size.png").unlink()
    with pytest.raises(DataError, match=r"size\.json has no figure beside it"):
        write_page([kept], tmp_path / "none.md")
    assert not (tmp_path / "none.md").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({**to_dict(DEPTH), "seeds": "all"}), "seeds should be a list, got 'all'"),
        (json.dumps({**to_dict(DEPTH), "parts": [{}]}), "lacks"),
        ("{", "is damaged"),
    ],
)
def test_a_damaged_result_is_refused(text, message, tmp_path):
    (tmp_path / "depth.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_result(tmp_path / "depth.json")


@pytest.mark.parametrize(
    "file",
    [file for file in (Path(__file__).parents[2] / "docs" / "claims").glob("*/*.json")
     if not file.name.endswith(".plan.json")],
    ids=lambda file: f"{file.parent.name}-{file.stem}",
)  # fmt: skip
def test_every_published_result_is_of_its_plan_and_of_the_rule_in_force(file):
    result, _ = read_planned(file.parent, file.stem)
    assert result.verdict != "unfinished"


def test_the_table_of_costs_has_every_claim_at_every_scale():
    text = costs_table(costs())
    assert text.count("  ablations") == len(SCALES)
    assert text.count("all, each network once") == len(SCALES)
    assert "depth           The best features lie in the middle of the network" in text
