import dataclasses
import shutil
from importlib import import_module

import pytest

from igpt.errors import ConfigError
from igpt.files import read_json
from igpt.runs.recipes import RECIPES
from igpt.settings import with_settings
from igpt.values import to_dict

module = import_module("igpt.quickstart")  # igpt.quickstart is its function

SMALL = (
    "model.layers=2", "model.width=16",
    "training.steps=6", "training.warmup_steps=1", "training.validate_every=6",
    "finetune.training.steps=4", "finetune.training.warmup_steps=1",
    "finetune.training.validate_every=2",
)  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    recipe = with_settings(RECIPES["digits-quickstart"], SMALL)
    monkeypatch.setattr(module, "find_recipe", lambda name: recipe)
    monkeypatch.setattr(module, "PLACEMENTS", 1)


def test_the_quickstart_ends_with_a_summary_a_table_and_a_report(small, tmp_path):
    out = tmp_path / "quickstart"
    summary = module.quickstart(out, device="cpu")
    assert to_dict(summary) == read_json(out / "summary.json")
    assert (out / "report.html").is_file()
    table = summary.table(out)
    assert f"{100 * summary.best_layer_accuracy:.1f} %, " in table
    assert "Pretraining" in summary.verdicts[0] or "pretraining" in summary.verdicts[0]
    assert all(verdict in table for verdict in summary.verdicts)
    assert str(out / "report.html") in table

    assert module.quickstart(out, device="cpu") == summary  # told again, not done again
    with pytest.raises(ConfigError, match="holds a quickstart with seed 0, not 1"):
        module.quickstart(out, device="cpu", seed=1)

    with pytest.raises(ConfigError, match="holds a quickstart with seed 0, not 1"):
        (out / "pretrain").rename(tmp_path / "moved")  # as if it was stopped before there was one
        module.quickstart(out, device="cpu", seed=1)
    (tmp_path / "moved").rename(out / "pretrain")

    # Stopped before its end, it goes on from what is there.
    metrics = (out / "pretrain" / "metrics.jsonl").read_bytes()
    (out / "summary.json").unlink()
    again = module.quickstart(out, device="cpu")
    assert dataclasses.replace(again, seconds=summary.seconds) == summary
    assert (out / "pretrain" / "metrics.jsonl").read_bytes() == metrics


def test_a_folder_that_holds_something_else_is_refused(small, shapes_store, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is there already and is not empty"):
        module.quickstart(tmp_path, device="cpu")
    shutil.copytree(shapes_store.path, tmp_path / "photos" / "data")
    with pytest.raises(ConfigError, match="is there already and is not empty"):
        module.quickstart(tmp_path / "photos", device="cpu")
