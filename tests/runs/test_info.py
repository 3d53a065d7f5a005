"""What is said of each kind of thing, and which of it can go."""

import shutil

import pytest
from tests.conftest import SHAPES_RECIPE

from igpt.errors import CheckpointError, ConfigError
from igpt.runs.finetune import finetune
from igpt.runs.info import info
from igpt.runs.measure import evaluate_run
from igpt.runs.palette import fit_palette_file
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.runs.search import search_pretraining
from igpt.runs.verify import verify
from igpt.values import to_dict


@pytest.fixture
def run(given, tmp_path):
    return pretrain(SHAPES_RECIPE, name="shapes", out=tmp_path / "runs" / "a", **given)


def parts(found):
    return {part.name: part for part in found.parts}


def test_a_run_is_told_with_its_steps_results_and_what_can_go(run, given):
    evaluate_run(run.path, data=given["data"], device="cpu")
    found = info(run.path)
    text = found.table()
    assert "a pretraining run by the recipe shapes" in text
    assert "trained: 12 of 12 steps" in text
    assert "16 colors, autoregressive" in text
    assert "kept: evaluation.json: test " in text
    on_disk = sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file())
    assert found.bytes == on_disk
    assert parts(found)["state/"].can_go
    assert not parts(found)["model/"].can_go
    assert to_dict(found)["kind"] == "run"


def test_what_can_go_is_not_missed(run, given):
    for part in info(run.path).parts:
        if part.can_go:
            for file in run.path.glob(part.name.rstrip("/")):
                shutil.rmtree(file) if file.is_dir() else file.unlink()
    assert verify(run.path).whole
    assert evaluate_run(run.path, data=given["data"], device="cpu").images
    resume(run.path, device="cpu")
    assert info(run.path).removable < info(run.path).bytes


def test_an_unfinished_run_says_how_to_go_on_and_needs_its_state(given, tmp_path):
    run = pretrain(SHAPES_RECIPE, out=tmp_path / "a run", seconds=0.0, **given)
    found = info(run.path)
    assert f"trained: 1 of 12 steps in less than a second; go on with igpt resume '{run.path}'" in (
        found.table()
    )
    assert not parts(found)["state/"].can_go


def test_a_longer_run_and_results_of_its_earlier_model_are_told(run, given):
    evaluate_run(run.path, data=given["data"], device="cpu")
    resume(run.path, steps=14, device="cpu")
    text = info(run.path).table()
    assert "given 14 steps instead of 12, after 12" in text
    assert "evaluation.json: test " in text
    assert ", of an earlier model (test)" in text


def test_a_fine_tuning_run_a_store_a_model_and_a_palette_are_told(run, given, tmp_path):
    data = given["data"]
    tuned = finetune(
        run.path, data=data, out=tmp_path / "tuned", config=SHAPES_RECIPE.finetune, device="cpu"
    )
    text = info(tuned.path).table()
    assert f"a fine-tuning run, from {run.path}" in text
    assert "finetune.json: test " in text
    text = info(data).table()
    assert "a record store, 51 train, 13 validation, 16 test images of 8x8 pixels" in text
    assert "2 classes: left, top" in text
    assert "classes: left, top" in info(tuned.model).table()
    assert "no class head" in info(run.model).table()
    fit_palette_file(data, tmp_path / "fitted.npy", size=8, image_size=4)
    text = info(tmp_path / "fitted.npy").table()
    assert "a palette of 8 colors" in text
    assert "fitted to images of 4x4 pixels" in text


def test_of_a_search_all_but_the_outcome_can_go(given, tmp_path):
    out = tmp_path / "rates"
    search_pretraining(SHAPES_RECIPE, out=out, rates=[0.01, 1e-6], **given)
    found = info(out)
    assert [part.name for part in found.parts if part.can_go] == ["rate-1e-06"]
    assert f"outcome: {out}/rate-0.01, which {out} stands for" in found.table()
    shutil.rmtree(out / "rate-1e-06")
    assert search_pretraining(SHAPES_RECIPE, out=out, rates=[0.01, 1e-6], **given).best == 0.01
    (out / "search.json").write_text('{"kind": "pretrain"}')
    with pytest.raises(CheckpointError, match=r"search\.json is damaged"):
        info(out)


def test_a_folder_of_several_has_a_line_each(run):
    (run.path.parent / "b.npy").write_bytes(b"broken")
    text = info(run.path.parent).table()
    assert "a: a pretraining run by the recipe shapes; trained: 12 of 12 steps" in text
    assert "b.npy" in text  # with what is wrong with it


def test_anything_else_is_refused(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ConfigError, match="no run, search, store, model folder"):
            info(path)
