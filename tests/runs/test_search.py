"""Learning rates in turn until one is worse, then validation folded in; and going on with it."""

import dataclasses
import signal

import pytest
import torch
from tests.conftest import SHAPES_RECIPE as RECIPE
from tests.conftest import losses, with_training, write_shapes

import igpt
from igpt import locks
from igpt.data.batches import TokenBatches
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.evaluation.classifier import accuracy, score
from igpt.files import read_json, write_json
from igpt.objectives.autoregressive import autoregressive
from igpt.report.page import write_report
from igpt.runs.finetune import FinetuneResult, config_for, finetune
from igpt.runs.info import info
from igpt.runs.measure import evaluate_run
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.runs.run import RunFolder
from igpt.runs.search import search_finetuning, search_pretraining
from igpt.training.loop import TrainingDiverged
from igpt.training.signals import Interrupted
from igpt.values import to_dict

RATES = (1e30, 0.01, 1e-6, 1e-7)  # the first is absurd, the third too low, the fourth not reached


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
        return score(pretrained, records, **options)

    monkeypatch.setattr("igpt.runs.finetune.score", measured)
    return seen


def test_pretraining_goes_down_the_rates_until_validation_gets_worse(given, tmp_path):
    out = tmp_path / "search"
    result = search_pretraining(RECIPE, name="shapes", out=out, rates=RATES, **given)
    assert to_dict(result) == read_json(out / "search.json")
    assert [row.learning_rate for row in result.tries] == [1e30, 0.01, 1e-6]
    diverged, good, low = (row.score for row in result.tries)
    assert diverged is None
    assert good < low
    assert (result.best, result.turned, result.run) == (0.01, True, "rate-0.01")
    assert sorted(path.name for path in out.iterdir()) == [
        "rate-0.01", "rate-1e+30", "rate-1e-06", "search.json",
    ]  # fmt: skip
    # Each try is the run that it would have been alone, and its last measure decides.
    alone = pretrain(
        with_training(RECIPE, learning_rate=0.01),
        name="shapes",
        out=tmp_path / "alone",
        **given,
    )
    assert losses(out / "rate-0.01") == losses(alone.path)
    assert losses(alone.path)[-1]["validation_nats_per_pixel"] == good


def test_a_search_stopped_anywhere_goes_on_and_leaves_what_is_done_alone(given, tmp_path):
    options = {"rates": RATES[:3], "fold_validation": True, **given}
    whole = search_pretraining(RECIPE, out=tmp_path / "whole", **options)
    out = tmp_path / "parts"
    calls, untouched = 0, {}
    for _ in range(60):
        result = search_pretraining(RECIPE, out=out, seconds=0.0, **options)
        for row in result.tries:
            path = out / f"rate-{row.learning_rate}"
            assert untouched.setdefault(path, files(path)) == files(path)
        calls += 1
        if result.best:
            break
    assert calls > 15  # a step a call
    assert result == whole
    for name in ("rate-0.01", "rate-1e-06", "final"):
        assert losses(out / name) == losses(tmp_path / "whole" / name)


def test_an_interrupted_search_says_how_to_go_on(given, tmp_path, monkeypatch):
    def interrupted(*batch):
        signal.raise_signal(signal.SIGTERM)
        return autoregressive(*batch)

    out = tmp_path / "search"
    monkeypatch.setattr("igpt.runs.pretrain.autoregressive", interrupted)
    with pytest.raises(Interrupted, match=r"stopped after 1 .*0\.01; go on with the same command"):
        search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], **given)
    monkeypatch.undo()
    assert search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], **given).best == 0.01


def test_a_folded_run_learns_from_all_images_and_measures_none(given, tmp_path, learned_from):
    out = tmp_path / "search"
    result = search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], **given)
    assert result.run == "rate-0.01"
    result = search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], fold_validation=True, **given)
    assert result.run == "final"
    assert learned_from == [("train", 51), ("train", 51), ("train+validation", 64)]
    final = RunFolder.open(out / "final")
    assert final.pretraining.split == "train+validation"
    assert final.pretraining.recipe.training.learning_rate == 0.01
    assert len(losses(final.path)) == 12
    assert not any("validation_nats_per_pixel" in line for line in losses(final.path))
    alone = pretrain(
        with_training(RECIPE, learning_rate=0.01),
        out=tmp_path / "a",
        fold_validation=True,
        **given,
    )
    assert losses(alone.path) == losses(final.path)
    write_report([final.path, out / "rate-0.01"], tmp_path / "report.html")
    assert "train and validation together" in (tmp_path / "report.html").read_text()


def test_a_longer_list_goes_on_from_what_has_been_tried(given, tmp_path, learned_from):
    out = tmp_path / "search"
    options = {"out": out, "fold_validation": True, **given}
    result = search_pretraining(RECIPE, rates=[1e-6], **options)
    assert not result.turned
    assert len(learned_from) == 2
    with pytest.raises(ConfigError, match=r"learning rate 1e-06, and now 0\.01 is the best; rem"):
        search_pretraining(RECIPE, rates=[0.01, 1e-6], **options)
    assert len(learned_from) == 3


def test_an_outcome_on_record_stands_until_there_is_another(given, tmp_path, monkeypatch):
    out = tmp_path / "search"
    options = {"out": out, **given}
    known = search_pretraining(RECIPE, rates=[1e-6], **options)
    search_pretraining(RECIPE, rates=[0.01, 1e-6], seconds=0.0, **options)
    assert RunFolder.open(out).path == out / "rate-1e-06"
    assert read_json(out / "search.json") == to_dict(known)
    by_name = {part.name: part.can_go for part in info(out).parts}
    assert not by_name["rate-0.01"]  # which is still on its way
    search_pretraining(RECIPE, rates=[0.01, 1e-6], **options)
    assert RunFolder.open(out).path == out / "rate-0.01"


def test_an_outcome_that_was_folded_is_not_taken_back(given, tmp_path):
    out = tmp_path / "search"
    options = {"out": out, "rates": [0.01], **given}
    folded = search_pretraining(RECIPE, fold_validation=True, **options)
    with pytest.raises(ConfigError, match=r"came out with final/, .*; add --fold-validation, or"):
        search_pretraining(RECIPE, **options)
    assert read_json(out / "search.json") == to_dict(folded)


def test_a_search_that_cannot_be_is_refused_before_anything_is_written(given, tmp_path):
    out = tmp_path / "search"
    for rates in ([], [0.1, 0.3], [0.1, -1.0]):
        with pytest.raises(ConfigError, match="positive and descend"):
            search_pretraining(RECIPE, out=out, rates=rates, **given)
    source = write_shapes(tmp_path / "images", images=20)
    bare = prepare_store(
        str(source), tmp_path / "bare", StoreConfig(image_size=8, validation_fraction=0.0)
    )
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
    with pytest.raises(CheckpointError, match="is a search of learning rates that is not finished"):
        resume(out)
    (out / "search.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"search\.json is damaged"):
        search_pretraining(RECIPE, out=out, rates=[0.01], **given)


def test_settings_that_are_left_out_the_second_time_are_other_ones(given, tmp_path):
    masked = dataclasses.replace(RECIPE, model=dataclasses.replace(RECIPE.model, causal=False))
    for recipe, setting in ((RECIPE, {"dropout": 0.1}), (masked, {"objective": "diffusion"})):
        (name,) = setting
        options = {"out": tmp_path / name, "rates": [0.01], "seconds": 0.0, **given}
        search_pretraining(dataclasses.replace(recipe, **setting), **options)
        with pytest.raises(ConfigError, match=rf"search with other settings \({name}\)"):
            search_pretraining(recipe, **options)


def test_a_record_that_has_defaults_in_full_is_of_the_same_search(given, tmp_path):
    out = tmp_path / "search"
    options = {"out": out, "rates": [0.01], "seconds": 0.0, **given}
    search_pretraining(RECIPE, **options)
    known = read_json(out / "search.json")
    known["settings"]["objective"] = "auto"
    known["settings"]["training"]["prepare_ahead"] = None
    write_json(out / "search.json", known)
    search_pretraining(RECIPE, **options)
    assert len(losses(out / "rate-0.01")) == 2  # a step a call


def test_an_outcome_on_record_that_is_not_its_runs_is_told(given, tmp_path):
    out = tmp_path / "search"
    result = search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], **given)
    assert search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], **given) == result
    file = out / "search.json"
    file.write_text(file.read_text().replace(str(result.tries[0].score), "9.5"))
    with pytest.raises(CheckpointError, match=r"search\.json tells another outcome of rate-0\.01"):
        search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], **given)


def test_a_search_is_gone_on_with_by_one_process_at_a_time(given, tmp_path):
    out = tmp_path / "search"
    out.mkdir()
    with locks.held(out), pytest.raises(CheckpointError, match="search is being written to by"):
        search_pretraining(RECIPE, out=out, rates=[0.01], **given)
    (out / locks.LOCK).touch()  # as one that was killed leaves it
    assert search_pretraining(RECIPE, out=out, rates=[0.01], **given).best == 0.01


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
        head="zero",  # which has all to learn, so that rates differ
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
    _, good, low = result.tries
    assert good.score > low.score
    assert (result.best, result.run) == (0.003, "rate-0.003")
    chosen = RunFolder.open(out / "rate-0.003").read("finetune.json", FinetuneResult)
    assert result.test_accuracy == chosen.test_accuracy > 0.8
    assert (
        RunFolder.open(out / "rate-1e-09").read("finetune.json", FinetuneResult).test_accuracy
        is None
    )
    resume(out / "rate-1e-09", device="cpu")
    assert accuracies_of.count("test") == 1

    folded = search_finetuning(out=out, rates=[1e30, 0.003, 1e-9], fold_validation=True, **tuning)
    assert folded.run == "final"
    assert accuracies_of.count("test") == 2
    assert learned_from[-1] == ("train+validation", 64)
    final = RunFolder.open(out / "final").read("finetune.json", FinetuneResult)
    assert final.steps == final.best_step == good.best_step
    assert final.validation_accuracy is None
    assert folded.test_accuracy == final.test_accuracy
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
        if result.best:
            break
    assert result == whole
    for name in ("rate-0.003", "final"):
        ours, theirs = (igpt.load(tmp_path / part / name).model for part in ("parts", "whole"))
        for weight, wanted in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(weight, wanted)


def test_other_weights_are_another_search(tuning, tmp_path, given):
    options = {"out": tmp_path / "search", "rates": [0.003], **tuning}
    search_finetuning(**{**options, "seconds": 0.0})
    other = pretrain(with_training(RECIPE, learning_rate=0.001), out=tmp_path / "other", **given)
    with pytest.raises(ConfigError, match=r"other settings \(weights\)"):
        search_finetuning(**{**options, "source": other.path})


def test_the_folder_of_a_finished_search_is_the_run_it_came_out_with(given, tmp_path):
    out = tmp_path / "a"
    result = search_pretraining(RECIPE, out=out, rates=[0.01, 1e-6], **given)
    data = {"data": given["data"], "device": "cpu"}
    assert RunFolder.open(out).path == out / result.run == out / "rate-0.01"
    assert igpt.load(out).identity == igpt.load(out / "rate-0.01").identity
    evaluate_run(out, **data)
    assert (out / "rate-0.01" / "evaluation.json").is_file()
    tuned = finetune(out, out=tmp_path / "tuned", config=config_for(out), **data)
    assert tuned.settings.model == RECIPE.model
    write_report([out, tuned.path], tmp_path / "report.html")
    with pytest.raises(ConfigError, match=r"is a run of the search .*/a, which has told its"):
        resume(out, steps=99, device="cpu")
