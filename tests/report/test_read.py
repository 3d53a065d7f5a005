import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from tests.report.conftest import (
    RECIPE,
    new_finetuned,
    new_run,
    probes,
    write_metrics,
    write_picture,
)

from igpt.errors import CheckpointError, DataError
from igpt.files import write_json
from igpt.model.description import model_identity
from igpt.model.pretrained import Pretrained
from igpt.report.read import read_runs
from igpt.runs.kept import MadeFrom
from igpt.runs.measure import Evaluation
from igpt.runs.run import RunFolder
from igpt.runs.sheets import Legend, write_sheet
from igpt.training.config import TrainingConfig


def read(run: RunFolder):
    return read_runs([run.path])[0]


def test_real_results_are_read_as_they_were_measured(real):
    first, bert, tuned = read_runs(real.paths)
    assert first.evaluation == {"test": real.likelihood}
    assert (first.probe, first.untrained) == (real.probe, real.untrained)
    assert first.other_probes == real.others
    assert first.few_labels == real.few_labels
    assert first.outliers == real.outliers
    assert bert.masks == real.masks
    assert tuned.finetune == real.fine_tuning
    assert [run.pretrains for run in (first, bert, tuned)] == [True, True, False]
    assert [run.steps for run in (first, bert, tuned)] == [12, 12, 12]
    assert first.finished
    assert tuned.finished
    assert first.provenance.device == "cpu"
    assert first.palette.size == 16
    assert [step for step, _ in first.samples()] == [6, 12]
    assert all(first.picture(f"{name}.png") for name in ("completions", "surprise", "extremes"))


def test_what_is_not_there_is_none_or_empty(tmp_path, tiny_palette):
    folder = new_run(tmp_path / "a", tiny_palette, steps=0)
    (folder.path / "provenance.json").unlink()
    (folder.path / "palette.npy").unlink()
    run = read(folder)
    assert run.probe is run.masks is run.finetune is run.provenance is run.palette is None
    assert run.evaluation == {}
    assert run.metrics == run.samples() == []
    assert run.other_probes == ()
    assert run.picture("completions.png") is None
    assert run.steps == 0
    assert run.speed is None
    assert not run.finished


def test_a_curve_leaves_out_steps_without_the_measure_and_what_is_no_number(run):
    losses = [{"step": 0, "loss": 3}, {"step": 1}, {"step": 2, "loss": float("nan")}]
    write_metrics(run, [*losses, {"step": 3, "loss": 1.5}])
    assert np.array_equal(read(run).curve("loss"), [[1, 4], [3, 1.5]])


def test_the_speed_is_the_median(run):
    lines = [{"step": step, "tokens_per_second": speed} for step, speed in enumerate((1, 90, 100))]
    write_metrics(run, lines)
    assert read(run).speed == 90


def test_a_fine_tuning_is_finished_once_it_has_a_result(tmp_path, tiny_palette):
    run = new_finetuned(tmp_path / "tuned", tiny_palette)
    assert read(run).finished  # though it stopped early
    (run.path / "finetune.json").unlink()
    assert not read(run).finished
    assert isinstance(read(run).training, TrainingConfig)
    assert read(run).training.steps == 300  # the recipe's of fine-tuning


def test_two_runs_of_one_name_are_called_by_their_paths(tmp_path, tiny_palette):
    runs = [new_run(tmp_path / name, tiny_palette) for name in ("one/a", "two/a", "two/b")]
    labels = [run.label for run in read_runs([run.path for run in runs])]
    assert labels == [str(runs[0].path), str(runs[1].path), "b"]


def test_a_run_given_twice_is_read_once(run):
    assert len(read_runs([run.path, run.path.parent / "b" / ".." / "a"])) == 1


@pytest.mark.parametrize("count", [3, 12])
def test_every_run_has_a_color_of_its_own(tmp_path, tiny_palette, count):
    paths = [new_run(tmp_path / f"{i}", tiny_palette, steps=1).path for i in range(count)]
    assert len({run.color for run in read_runs(paths)}) == count


def test_samples_go_by_number_not_by_spelling(run):
    for step in (5, 999_999, 1_000_000):
        write_picture(run.path / "samples" / f"step-{step:06}.png")
    assert [step for step, _ in read(run).samples()] == [5, 999_999, 1_000_000]


def test_of_many_samples_a_few_are_shown_first_and_newest_among_them(run):
    for step in range(21):
        write_picture(run.path / "samples" / f"step-{step:06}.png")
    assert [step for step, _ in read(run).samples()] == [0, 4, 8, 12, 16, 20]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("probe.json", '{"raw_pix'),
        ("few-labels.json", '{"layer": 3}'),
        ("masks.json", "[]"),
        ("recipe.json", "{}"),
        ("recipe.json", '{"format": 2, "kind": "pretrain", "data": {}}'),
        ("metrics.jsonl", '{"step": "one"}\n'),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(run, name, text):
    (run.path / name).write_text(text)
    with pytest.raises(CheckpointError, match=re.escape(str(run.path))) as caught:
        read(run)
    assert "\n" not in str(caught.value)
    assert name.partition(".")[0] in str(caught.value)


def test_a_result_of_another_shape_is_said_to_be_of_an_earlier_igpt(run):
    values = {**dataclasses.asdict(probes(0.4)), "best": 0}
    (run.path / "probe.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"probe\.json is damaged or of an earlier igpt: .*"):
        read(run)


@pytest.mark.parametrize("name", ["completions.png", "samples/step-000003.png"])
def test_a_damaged_picture_is_one_line(run, name):
    write_picture(run.path / name)
    (run.path / name).write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=re.escape(name)):
        read(run).picture(name)


def test_what_was_measured_of_another_model_is_left_out_and_named(measured_run, tiny_palette):
    run = measured_run
    shape = dataclasses.replace(RECIPE.model, colors=tiny_palette.size)
    Pretrained.build(shape, tiny_palette).save(run.model)
    known = run.read("evaluation.json", Evaluation).splits["test"]
    now, before = (
        MadeFrom(model=model, store="", settings={})
        for model in (model_identity(run.model), "0123456789abcdef")
    )
    run.write(
        "evaluation.json",
        Evaluation(splits={"test": known, "train": known}),
        {"test": now, "train": before},
    )
    run.write("probe.json", probes(0.4), {"all": before})
    reported = read(run)
    assert list(reported.evaluation) == ["test"]
    assert reported.probe is None
    assert reported.untrained is not None  # of an earlier igpt, which did not say
    assert reported.outdated == ("evaluation.json: train", "probe.json")
    run.write("probe.json", probes(0.4), {"all": now})
    assert read(run).probe == probes(0.4)


def made_from(store: str, model: str = "") -> dict[str, MadeFrom]:
    return {"all": MadeFrom(model=model, store=store, settings={})}


def test_probes_of_other_images_do_not_stand_beside_and_are_named(run):
    run.write("probe.json", probes(0.4), made_from("these"))
    run.write("probe-untrained.json", probes(0.2), made_from("others"))
    run.write("probe-ridge.json", probes(0.3, solver="ridge"), made_from("others"))
    run.write("probe-neighbors.json", probes(0.3, solver="neighbors"), made_from("these"))
    run.write("probe-sgd.json", probes(0.3, solver="sgd"))  # of an earlier igpt, which did not say
    reported = read(run)
    assert reported.untrained is None
    assert [probe.solver for probe in reported.other_probes] == ["neighbors", "sgd"]
    assert sorted(reported.elsewhere) == ["probe-ridge.json", "probe-untrained.json"]
    assert reported.beside([], "few-labels.json").probe is None  # of images that are not known
    (run.path / "probe.json").unlink()
    assert read(run).elsewhere == ()


def test_pictures_by_an_earlier_model_are_left_out_and_named(run, tiny_palette):
    shape = dataclasses.replace(RECIPE.model, colors=tiny_palette.size)
    Pretrained.build(shape, tiny_palette).save(run.model)
    cells, legend = np.zeros((1, 1, 4, 4, 3), np.uint8), Legend(names=(("one",),))
    for name, model in (("completions", "0123456789abcdef"), ("surprise", "")):
        write_sheet(run.path / f"{name}.png", cells, legend, model=model)
    reported = read(run)
    assert reported.outdated == ("completions.png",)
    assert reported.picture("completions.png") is reported.sheet("completions.png") is None
    assert reported.sheet("surprise.png") is not None  # of an earlier igpt, which did not say
    write_sheet(run.path / "completions.png", cells, legend, model=model_identity(run.model))
    assert read(run).sheet("completions.png") is not None


def test_what_is_drawn_of_a_run_says_by_which_model(real):
    run = read_runs([real.autoregressive])[0]
    for name in ("completions.png", "surprise.png"):
        assert run.sheet(name).model == model_identity(run.folder.model)


@pytest.fixture
def search(tmp_path, tiny_palette):
    """A search that came out with a probed run."""
    run = new_run(tmp_path / "search" / "lr-1", tiny_palette)
    write_json(tmp_path / "search" / "search.json", {"run": "lr-1"})
    run.write("probe.json", probes(0.4))
    return tmp_path / "search"


def test_a_search_is_the_run_it_came_out_with(search):
    assert [run.label for run in read_runs([search, search / "lr-1"])] == ["lr-1"]


@pytest.mark.parametrize("source", ["", "lr-1"])
def test_a_fine_tuning_stands_beside_the_search_that_it_began_from(search, tiny_palette, source):
    path = search.parent / "tuned"
    new_finetuned(path, tiny_palette, source=str(search / source))
    for given in (search, search / "lr-1"):
        *others, tuned = read_runs([given, path])
        assert tuned.beside([*others, tuned]).probe == probes(0.4)
    write_json(search / "search.json", {"run": None})  # it goes on
    *others, tuned = read_runs([search / "lr-1", path])
    assert (tuned.beside(others).probe is None) == (source == "")


def test_metrics_that_lack_what_the_newest_state_tells_of_are_refused(real, tmp_path):
    run = shutil.copytree(real.autoregressive, tmp_path / "run")
    whole = (run / "metrics.jsonl").read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b'"step": 7', b'"step": 7 ')):
        (run / "metrics.jsonl").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"metrics\.jsonl (has|was changed)"):
            read_runs([run])
    (run / "metrics.jsonl").write_bytes(whole)
    newest = max((run / "state").iterdir())
    (newest / "state.json").write_bytes(b"{")  # what the one before it tells is held against
    assert len(read_runs([run])[0].metrics) == 12
