import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from igpt.claims.claim import ClaimResult, PartResult
from igpt.claims.page import costs_table, read_result, result_text, write_page
from igpt.claims.reproduce import costs
from igpt.claims.scale import SCALES
from igpt.errors import ConfigError, DataError
from igpt.files import write_json
from igpt.pixels.images import write_png
from igpt.runs.provenance import provenance
from igpt.values import to_dict

RISES = PartResult(
    name="rises", statement="features get better", paper="+2.4", quantity="best minus first",
    values=(0.10, 0.14), verdict="holds", mean=0.12, standard_error=0.02,
)  # fmt: skip
SAME = PartResult(
    name="same", statement="decay changes nothing", quantity="with minus without",
    equal_within=0.01, values=(), verdict="cannot be told at this scale", mean=None,
    standard_error=None,
)  # fmt: skip
DEPTH = ClaimResult(
    claim="depth", title="The middle is best", source="figure 2", scale="tiny", data="digits",
    paper="It rises, then falls.", rule="Two standard errors.", seeds=(0, 1), parts=(RISES, SAME),
    verdict="cannot be told at this scale",
    table=({"layer": "0", "test accuracy": "50.00 %"}, {"layer": "1", "test accuracy": "62.00 %"}),
    measured=({"best_layer": 1}, {"best_layer": 1}), runs=("base",), seconds=90.0,
    provenance=dataclasses.replace(
        provenance(torch.device("cpu")), command="igpt reproduce depth", commit="abc", threads=1,
    ),
)  # fmt: skip


@pytest.fixture
def kept(tmp_path) -> Path:
    """A folder as `reproduce` leaves it."""
    for result in (DEPTH, dataclasses.replace(DEPTH, claim="size", title="Larger is better")):
        write_json(tmp_path / "tiny" / f"{result.claim}.json", to_dict(result))
        write_png(tmp_path / "tiny" / f"{result.claim}.png", np.zeros((2, 2, 3), np.uint8))
    return tmp_path / "tiny"


def test_a_text_says_verdict_and_numbers_of_every_part():
    assert result_text(DEPTH).splitlines() == [
        "depth: The middle is best",
        "  features get better: holds",
        "    best minus first",
        "    ours +12.00 ± 2.00 points; paper +2.4",
        "  decay changes nothing: cannot be told at this scale",
        "    with minus without",
        "    ours not measured; paper no figure given",
        "  CANNOT BE TOLD AT THIS SCALE (tiny, digits, seeds: 2, pretraining: 2 min)",
    ]


def test_a_number_is_shown_in_its_unit():
    for unit, text in (("nats", "ours +0.1200 ± 0.0200 nats;"), ("dB", "ours +0.12 ± 0.02 dB;")):
        part = dataclasses.replace(RISES, unit=unit)
        assert text in result_text(dataclasses.replace(DEPTH, parts=(part,)))


def test_the_page_has_every_claim_and_its_figure(kept, tmp_path):
    write_page([kept], tmp_path / "claims.md")
    page = (tmp_path / "claims.md").read_text()
    for line in (
        "**The rule**, fixed before the runs: Two standard errors.",
        "| [The middle is best](#depth-tiny-digits) | tiny, digits | 2 | 2 min | cannot be told at "
        "this scale |",
        "## depth: tiny, digits",
        "## size: tiny, digits",
        "The paper: It rises, then falls.",
        "| features get better | +2.4 | best minus first | +12.00 ± 2.00 points | holds |",
        "| decay changes nothing | no figure given | with minus without (equal within 1 point) | "
        "not measured | cannot be told at this scale |",
        "| layer | test accuracy |",
        "| --- | --- |",
        "| 1 | 62.00 % |",
        "![The middle is best](claims-figures/tiny-digits-depth.png)",
    ):
        assert line in page.splitlines()
    figures = {file.name for file in (tmp_path / "claims-figures").iterdir()}
    assert figures == {"tiny-digits-depth.png", "tiny-digits-size.png"}


def test_a_page_says_how_it_was_made(kept, tmp_path):
    write_page([kept], tmp_path / "claims.md")
    page = (tmp_path / "claims.md").read_text()
    made = DEPTH.provenance
    assert (
        f"`igpt reproduce depth`, commit abc, {made.processor}, 1 thread, PyTorch "
        f"{made.libraries['torch']}; 2 minutes of pretraining in 2 seeds of base."
    ) in page


def test_a_page_written_again_is_the_same(kept, tmp_path):
    write_page([kept], tmp_path / "claims.md")
    page = (tmp_path / "claims.md").read_text()
    write_page([kept], tmp_path / "claims.md")
    assert (tmp_path / "claims.md").read_text() == page


def test_a_page_that_cannot_be_written_is_refused(kept, tmp_path):
    with pytest.raises(DataError, match="results of the same claim, scale and data"):
        write_page([kept, kept], tmp_path / "claims.md")
    (tmp_path / "other-figures").mkdir()
    (tmp_path / "other-figures" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds more than figures"):
        write_page([kept], tmp_path / "other.md")
    with pytest.raises(DataError, match="run igpt reproduce first"):
        write_page([tmp_path], tmp_path / "none.md")


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


def test_the_published_results_are_read():
    files = (Path(__file__).parents[2] / "docs" / "claims").glob("*/*.json")
    results = [read_result(file) for file in files if not file.name.endswith(".plan.json")]
    assert len(results) >= 10


def test_the_table_of_costs_has_every_claim_at_every_scale():
    assert costs_table(costs()).count("ablations") == len(SCALES)
