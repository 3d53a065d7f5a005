"""From a folder to a report in one call; and the same call again, wherever it was stopped."""

import dataclasses
from importlib import import_module

import pytest

from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, ConfigError
from igpt.files import read_json
from igpt.pixels.images import read_image
from igpt.runs.info import info
from igpt.start import start
from igpt.values import to_dict
from tests.conftest import write_shapes

SETTINGS = ("training.steps=6", "training.warmup_steps=1", "training.validate_every=6",
            "model.layers=2", "model.width=16", "finetune.training.steps=4",
            "finetune.training.warmup_steps=1", "finetune.training.validate_every=2")  # fmt: skip
OPTIONS = {"minutes": 0.1, "device": "cpu", "settings": SETTINGS}


@pytest.fixture(scope="module", autouse=True)
def steps_as_long_at_all_times():
    """So that two calls choose the same, whatever else the machine does meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_module("igpt.start"), "time_step", lambda *_, **__: 1e-3)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp("photos"), images=60)


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("start") / "out"
    return out, start(photos, out=out, **OPTIONS)


def test_a_folder_becomes_a_classifier_and_a_report(undisturbed, capsys, photos):
    out, result = undisturbed
    assert to_dict(result) == read_json(out / "summary.json")
    assert (out / "report.html").is_file()
    assert read_image(out / "pretrain" / "completions.png").size
    assert result.next_line in (f"igpt classify {out / 'finetune'} photo.jpg",
                                f"igpt classify {out / 'pretrain'} photo.jpg")  # fmt: skip
    store = RecordStore.open(out / "data")
    assert (result.images, result.test_images) == (41, 12)  # of 60: 0.15 and 0.2 held out
    assert store.class_names == ("left", "top")
    table = result.table(out)
    assert f"{100 * result.fine_tuned_accuracy:.1f} %, " in table
    assert "pretraining" in result.verdicts[0].lower()
    assert all(verdict in table for verdict in result.verdicts)
    assert table.endswith(f"next: {result.next_line}")

    assert start(photos, out=out, **OPTIONS) == result  # told again, not done again
    assert "going on with what" in capsys.readouterr().err
    assert "pretrain: a pretraining run" in info(out).table()


def test_another_call_is_refused(undisturbed, photos, tmp_path):
    out, _ = undisturbed
    with pytest.raises(ConfigError, match=r"another minutes, 0\.1 and not 5\.0; give the same"):
        start(photos, out=out, **{**OPTIONS, "minutes": 5.0})
    with pytest.raises(ConfigError, match="begun with another source"):
        start("digits", out=out, **OPTIONS)
    with pytest.raises(ConfigError, match="minutes must be more than 0"):
        start(photos, out=tmp_path / "out", minutes=0.0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        start(photos, out=tmp_path / "mine", **OPTIONS)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "start.json").write_text((out / "start.json").read_text().replace("flip", "flap"))
    with pytest.raises(CheckpointError, match=r"start\.json"):
        start(photos, out=damaged, **OPTIONS)


def test_stopped_at_each_stage_it_goes_on_to_the_same_end(
    undisturbed, photos, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    stages = ("start.prepare_store", "start.choose", "stages.fit_palette_file", "stages.pretrain",
              "stages.evaluate_run", "stages.probe_run", "stages.finetune",
              "stages.complete_records", "stages.write_report")  # fmt: skip

    def stop(*_, **__):
        raise KeyboardInterrupt

    chosen = None
    for stage in stages:
        with monkeypatch.context() as patch:
            module, name = stage.split(".")  # igpt.start is the function
            patch.setattr(import_module(f"igpt.{module}"), name, stop)
            with pytest.raises(KeyboardInterrupt):
                start(photos, out=out, **OPTIONS)
        known = out / "start.json"
        chosen = chosen or (known.read_bytes() if known.is_file() else None)
        assert chosen is None or known.read_bytes() == chosen  # not chosen anew
    result = start(photos, out=out, **OPTIONS)
    wanted = dataclasses.replace(
        undisturbed[1], seconds=result.seconds,
        next_line=undisturbed[1].next_line.replace(str(undisturbed[0]), str(out)),
    )  # fmt: skip
    assert result == wanted


def test_without_labels_there_are_features_and_outliers(photos, tmp_path):
    out = tmp_path / "my photos"
    result = start(photos / "left", out=out, **OPTIONS)
    assert result.fine_tuned_accuracy is None
    assert (out / "features.npz").is_file()
    assert (out / "pretrain" / "outliers.json").is_file()
    assert not (out / "finetune").exists()
    assert result.next_line.startswith(f"igpt similar '{out}/pretrain' photo.jpg --among")
    assert "Without labels:" in result.table(out)


def test_a_store_is_taken_as_it_is(undisturbed, tmp_path):
    store = undisturbed[0] / "data"
    result = start(store, out=tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out" / "data").exists()
    assert result.images == undisturbed[1].images
