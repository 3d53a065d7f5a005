"""From a folder to a report in one call; and the same call again, wherever it was stopped."""

import dataclasses
from importlib import import_module

import numpy as np
import pytest

from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, ConfigError, IgptError
from igpt.files import read_json
from igpt.pixels.images import read_image, write_png
from igpt.pixels.palette import Palette
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
    for minutes in (0.0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="minutes must be more than 0"):
            start(photos, out=tmp_path / "out", minutes=minutes)
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


@pytest.fixture
def begun(monkeypatch):
    """Start, up to some function that a stage calls, which is not called any more."""

    def until(name, source, out, *, settings=SETTINGS):
        def stop(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            module, function = name.split(".")
            patch.setattr(import_module(f"igpt.{module}"), function, stop)
            with pytest.raises(KeyboardInterrupt):
                start(source, out=out, **{**OPTIONS, "settings": settings})

    return until


def test_a_store_of_another_source_or_seed_is_refused(photos, begun, tmp_path, capsys):
    out = tmp_path / "out"
    begun("start.choose", photos, out)
    for source, seed in ((photos / "left", 0), (photos, 1)):
        with pytest.raises(ConfigError, match=r"data holds images of .*photos.* by seed 0, and no"):
            start(source, out=out, seed=seed, **OPTIONS)
    assert not (out / "start.json").exists()
    begun("start.choose", photos, out)
    assert "data is there, and taken as it is" in capsys.readouterr().err


def test_settings_that_nothing_fits_are_refused_before_anything_is_read(photos, tmp_path):
    with pytest.raises(ConfigError, match=r"no setting 'training\.stepz'"):
        start(photos, out=tmp_path / "out", **{**OPTIONS, "settings": ("training.stepz=3",)})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.batch_size=64", "is more than the 41 train images"),
        ("model.image_size=40", "are images of 8x8 pixels, and 40x40 are wanted"),
        ("finetune.training.batch_size=64", "is more than the 41 train images"),
        (
            "model.colors=60000",
            r"60000 colors is wanted, and these images have \d+ at 8x8",
        ),
    ],
)
def test_what_cannot_work_with_these_images_is_refused_and_may_be_put_right(
    photos, begun, tmp_path, setting, message
):
    out = tmp_path / "out"
    with pytest.raises(IgptError, match=message):
        start(photos, out=out, **{**OPTIONS, "settings": (*SETTINGS, setting)})
    begun("stages.fit_palette_file", photos, out)
    assert (out / "start.json").is_file()


def test_a_palette_has_as_many_colors_as_are_asked_for(photos, begun, tmp_path):
    begun("stages.pretrain", photos, tmp_path / "out", settings=(*SETTINGS, "model.colors=5"))
    assert Palette.load(tmp_path / "out" / "palette.npy").size == 5


def test_a_palette_is_fitted_to_pictures_of_few_colors(begun, tmp_path):
    even = np.indices((32, 32)).sum(axis=0)[..., None] % 2 == 0
    for number in range(40):  # two colors each, and from farther off five of them all
        one, other = np.uint8([number, 99, 199]), np.uint8([200 - number + number % 5 * 8, 99, 1])
        picture = np.where(even, one, other)
        write_png(tmp_path / "pictures" / "ab"[number % 2] / f"{number}.png", picture)
    begun("stages.pretrain", tmp_path / "pictures", tmp_path / "out")
    assert Palette.load(tmp_path / "out" / "palette.npy").size < 64


def test_what_was_begun_is_found_from_another_folder(photos, begun, tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    begun("stages.fit_palette_file", photos, "out")
    monkeypatch.chdir(tmp_path / "there")
    begun("stages.pretrain", photos, "../here/out")


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
