import dataclasses
import json
import os
import signal

import pytest
import torch
from tests.conftest import write_shapes
from tests.runs.test_pretrain import RECIPE, finish, losses, start, wait_for_lines

import igpt
from igpt.data.batches import TokenBatches
from igpt.data.records import prepare_store
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.evaluation.classifier import accuracy
from igpt.files import read_json
from igpt.report.page import write_report
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.finetune import resume as resume_finetune
from igpt.runs.pretrain import pretrain, resume
from igpt.runs.run import RunFolder
from igpt.runs.search import search_finetuning, search_pretraining, search_table
from igpt.training.loop import TrainingDiverged
from igpt.training.metrics import read_metrics

RATES = (1e30, 0.01, 1e-6, 1e-7)  # the first is absurd, the third too low, the fourth not reached


def with_rate(recipe, rate):
    return dataclasses.replace(
        recipe, training=dataclasses.replace(recipe.training, learning_rate=rate)
    )


def files(folder):
    """Every file under a folder, with its time and contents."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def learned_from(monkeypatch):
    """The splits that runs have trained on, and how many images each had."""
    seen = []

    class Seen(TokenBatches):
        def __init__(self, records, *arguments, **options):
            seen.append((records.name, len(records)))
            super().__init__(records, *arguments, **options)

    for module in ("pretrain", "finetune"):
        monkeypatch.setattr(f"igpt.runs.{module}.TokenBatches", Seen)
    return seen


@pytest.fixture
def accuracies_of(monkeypatch):
    """The splits whose accuracy has been measured, in turn."""
    seen = []

    def measured(pretrained, records, **options):
        seen.append(records.name)
        return accuracy(pretrained, records, **options)

    monkeypatch.setattr("igpt.runs.finetune.accuracy", measured)
    return seen


def test_pretraining_goes_down_the_rates_until_validation_gets_worse(given, tmp_path):
    out = tmp_path / "search"
    result = search_pretraining(RECIPE, name="shapes", out=out, rates=RATES, **given)
    assert result == json.loads((out / "search.json").read_text())
    assert [row["learning_rate"] for row in result["tries"]] == [1e30, 0.01, 1e-6]
    diverged, good, low = (row["validation_nats_per_pixel"] for row in result["tries"])
    assert diverged is None
    assert good < low
    assert (result["best"], result["turned"], result["run"]) == (0.01, True, "rate-0.01")
    assert sorted(path.name for path in out.iterdir()) == [
        "rate-0.01", "rate-1e+30", "rate-1e-06", "search.json",
    ]  # fmt: skip
    assert search_table(result, out).splitlines() == [
        "learning rate  validation nats per pixel",
        "        1e+30                   diverged",
        f"         0.01                     {good:.4f}  best",
        f"        1e-06                     {low:.4f}",
        f"{out / 'rate-0.01'}: learning rate 0.01",
    ]
    # Each try is the run that it would have been alone, and its last measure decides.
    alone = pretrain(with_rate(RECIPE, 0.01), name="shapes", out=tmp_path / "alone", **given)
    assert losses(out / "rate-0.01") == losses(alone.path)
    assert losses(alone.path)[-1]["validation_nats_per_pixel"] == good


def test_a_search_stopped_anywhere_goes_on_and_leaves_what_is_done_alone(given, tmp_path):
    options = {"rates": RATES[:3], "fold_validation": True, **given}
    whole = search_pretraining(RECIPE, out=tmp_path / "whole", **options)
    out = tmp_path / "parts"
    told, untouched = [], {}
    for _ in range(60):
        result = search_pretraining(RECIPE, out=out, seconds=0.0, **options)
        for row in result["tries"]:
            path = out / f"rate-{row['learning_rate']}"
            assert untouched.setdefault(path, files(path)) == files(path)
        told.append(search_table(result, out).splitlines()[-1])
        if result["best"]:
            break
    assert told[0] == "not finished; the same command again goes on"
    assert told[-1] == f"{out / 'final'}: learning rate 0.01, train and validation together"
    assert len(told) > 30  # a step a call
    assert result == whole
    for name in ("rate-0.01", "rate-1e-06", "final"):
        assert losses(out / name) == losses(tmp_path / "whole" / name)


def test_a_search_killed_or_interrupted_goes_on_with_the_same_command(given, tmp_path):
    out = tmp_path / "search"
    command = [
        "pretrain", "digits-quickstart", "--data", given["data"], "--palette", given["palette"],
        "--out", out, "--device", "cpu", "--steps", "12", "--search-rates", "0.01,1e-6",
        *(f"--set={setting}" for setting in (
            "model.image_size=4", "model.layers=2", "model.width=16", "training.batch_size=8",
            "training.warmup_steps=2", "training.checkpoint_every=3", "training.validate_every=8",
        )),
    ]  # fmt: skip
    process = start(*command)
    wait_for_lines(out / "rate-0.01" / "metrics.jsonl", 5, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    process = start(*command)
    wait_for_lines(out / "rate-1e-06" / "metrics.jsonl", 5, process)
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    last = told.strip().splitlines()[-1]
    assert last.startswith("igpt: stopped after ")
    assert last.endswith(f" in {out / 'rate-1e-06'}; go on with the same command")
    finished = files(out / "rate-0.01")
    finish(start(*command))
    assert files(out / "rate-0.01") == finished
    assert json.loads((out / "search.json").read_text())["best"] == 0.01


def test_a_folded_run_learns_from_all_images_and_measures_none(given, tmp_path, learned_from):
    out = tmp_path / "search"
    result = search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], **given)
    assert result["run"] == "rate-0.01"
    result = search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], fold_validation=True, **given)
    assert result["run"] == "final"
    assert learned_from == [("train", 51), ("train", 51), ("train+validation", 64)]
    final = RunFolder.open(out / "final")
    assert final.settings["split"] == "train+validation"
    assert final.settings["training"]["learning_rate"] == 0.01
    assert len(losses(final.path)) == 12
    assert not any("validation_nats_per_pixel" in line for line in losses(final.path))
    alone = pretrain(with_rate(RECIPE, 0.01), out=tmp_path / "a", fold_validation=True, **given)
    assert losses(alone.path) == losses(final.path)
    write_report([final.path, out / "rate-0.01"], tmp_path / "report.html")
    assert "train and validation together" in (tmp_path / "report.html").read_text()


def test_a_longer_list_goes_on_from_what_has_been_tried(given, tmp_path, learned_from):
    out = tmp_path / "search"
    options = {"out": out, "fold_validation": True, **given}
    result = search_pretraining(RECIPE, rates=[1e-6], **options)
    assert not result["turned"]
    assert "still lower rates may be better" in search_table(result, out)
    assert len(learned_from) == 2
    with pytest.raises(ConfigError, match=r"learning rate 1e-06, and now 0\.01 is the best; rem"):
        search_pretraining(RECIPE, rates=[0.01, 1e-6], **options)
    assert len(learned_from) == 3


def test_a_run_of_before_there_were_splits_to_choose_still_resumes(given, tmp_path):
    whole = pretrain(RECIPE, out=tmp_path / "whole", **given)
    run = pretrain(RECIPE, out=tmp_path / "old", seconds=0.0, **given)
    settings = run.settings
    del settings["split"]
    run.write("recipe.json", settings)
    state = read_json(run.path / "state" / "step-000001" / "state.json")
    run.write("state/step-000001/state.json", {**state, "fingerprint": run.fingerprint})
    resume(run.path, device="cpu")
    assert losses(run.path) == losses(whole.path)


def test_a_search_that_cannot_be_is_refused_before_anything_is_written(given, tmp_path):
    out = tmp_path / "search"
    for rates in ([], [0.1, 0.3], [0.1, -1.0]):
        with pytest.raises(ConfigError, match="positive and descend"):
            search_pretraining(RECIPE, out=out, rates=rates, **given)
    source = write_shapes(tmp_path / "images", images=20)
    bare = prepare_store(str(source), tmp_path / "bare", image_size=8, validation_fraction=0.0)
    given["data"] = bare.path
    with pytest.raises(DataError, match="has no validation split, only train, test; prepare"):
        search_pretraining(RECIPE, out=out, **given)
    with pytest.raises(DataError, match="has no validation split"):
        pretrain(RECIPE, out=out, fold_validation=True, **given)
    assert not out.exists()


def test_a_folder_of_something_else_is_refused(given, tmp_path):
    out = tmp_path / "search"
    search_pretraining(RECIPE, out=out, rates=[0.01], seconds=0.0, **given)
    other = dataclasses.replace(RECIPE, augmentation="none")
    with pytest.raises(ConfigError, match=r"search with other settings \(augmentation\); to go on"):
        search_pretraining(other, out=out, rates=[0.01], **given)
    run = out / "rate-0.01"
    with pytest.raises(ConfigError, match="already holds a run"):
        search_pretraining(RECIPE, out=run, rates=[0.01], **given)
    with pytest.raises(CheckpointError, match="is a search of several runs; give one of those"):
        resume(out)
    (out / "search.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"search\.json is damaged: .*; restore it"):
        search_pretraining(RECIPE, out=out, rates=[0.01], **given)


def test_if_every_rate_diverges_that_is_told_and_kept(given, tmp_path, learned_from):
    out = tmp_path / "search"
    for _ in range(2):
        with pytest.raises(TrainingDiverged, match=r"at every learning rate, 1e\+30 to 1e\+29"):
            search_pretraining(RECIPE, out=out, rates=[1e30, 1e29], **given)
    assert len(learned_from) == 2


@pytest.fixture
def tuning(given, tmp_path):
    base = pretrain(RECIPE, out=tmp_path / "base", **given)
    config = dataclasses.replace(
        RECIPE.finetune,
        training=dataclasses.replace(RECIPE.finetune.training, steps=80),
        patience=20,
    )
    return {"source": base.path, "data": given["data"], "config": config, "device": "cpu"}


def test_fine_tuning_is_searched_by_accuracy_and_tested_once(
    tuning, tmp_path, accuracies_of, learned_from
):
    out = tmp_path / "search"
    result = search_finetuning(out=out, rates=[1e30, 0.003, 1e-9], **tuning)
    assert accuracies_of.count("test") == 1
    assert accuracies_of[-1] == "test"
    _, good, low = result["tries"]
    assert good["validation_accuracy"] > low["validation_accuracy"]
    assert (result["best"], result["run"]) == (0.003, "rate-0.003")
    chosen = RunFolder.open(out / "rate-0.003").read("finetune.json", FinetuneResult)
    assert result["test_accuracy"] == chosen.test_accuracy > 0.8
    assert (
        RunFolder.open(out / "rate-1e-09").read("finetune.json", FinetuneResult).test_accuracy
        is None
    )
    resume_finetune(out / "rate-1e-09", device="cpu")
    assert accuracies_of.count("test") == 1
    assert search_table(result, out).splitlines()[-1] == (
        f"{out / 'rate-0.003'}: learning rate 0.003, test accuracy {chosen.test_accuracy:.2%}"
    )

    folded = search_finetuning(out=out, rates=[1e30, 0.003, 1e-9], fold_validation=True, **tuning)
    assert folded["run"] == "final"
    assert accuracies_of.count("test") == 2
    assert learned_from[-1] == ("train+validation", 64)
    final = RunFolder.open(out / "final").read("finetune.json", FinetuneResult)
    assert final.steps == final.best_step == good["best_step"]
    assert final.validation_accuracy is None
    assert folded["test_accuracy"] == final.test_accuracy
    pretrained = igpt.load(out / "final")
    test = igpt.RecordStore.open(tuning["data"]).split("test")
    assert accuracy(pretrained, test) == final.test_accuracy
    again = search_finetuning(out=out, rates=[1e30, 0.003, 1e-9], fold_validation=True, **tuning)
    assert again == folded
    assert accuracies_of.count("test") == 2

    page = tmp_path / "report.html"
    write_report([out / name for name in ("rate-0.003", "rate-1e-09", "final")], page)
    assert f"<b>{final.test_accuracy:.1%}</b><span>fine-tuned" in page.read_text()


def test_a_fine_tuning_search_stopped_anywhere_goes_on(tuning, tmp_path):
    tuning["config"] = dataclasses.replace(
        tuning["config"], training=dataclasses.replace(tuning["config"].training, steps=8)
    )
    options = {"rates": [0.003, 1e-9], "fold_validation": True, **tuning}
    whole = search_finetuning(out=tmp_path / "whole", **options)
    for _ in range(60):
        result = search_finetuning(out=tmp_path / "parts", seconds=0.0, **options)
        if result["best"]:
            break
    assert result == whole
    for name in ("rate-0.003", "final"):
        ours, theirs = (igpt.load(tmp_path / part / name).model for part in ("parts", "whole"))
        for weight, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(weight, wanted)


def test_other_weights_are_another_search(tuning, tmp_path, given):
    options = {"out": tmp_path / "search", "rates": [0.003], **tuning}
    search_finetuning(**{**options, "seconds": 0.0})
    other = pretrain(with_rate(RECIPE, 0.001), out=tmp_path / "other", **given)
    with pytest.raises(ConfigError, match=r"other settings \(weights\)"):
        search_finetuning(**{**options, "source": other.path})


def test_fine_tuning_on_all_images_takes_all_of_its_steps(tuning, tmp_path, accuracies_of):
    run = finetune(tuning.pop("source"), out=tmp_path / "run", fold_validation=True, **tuning)
    assert accuracies_of == ["test"]
    assert len(read_metrics(run.metrics)) == 80
    assert run.read("finetune.json", FinetuneResult).best_step == 80
