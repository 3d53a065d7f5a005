"""A palette from a record store, and what lies beside it."""

import itertools
import os

import numpy as np
import pytest
from tests.conftest import SHAPES_RECIPE

from igpt.data.batches import images_at_size
from igpt.errors import ConfigError, DataError
from igpt.pixels.images import read_image
from igpt.pixels.palette import Palette
from igpt.pixels.palette_fitting import fit_palette, measure_distortion
from igpt.runs.palette import fit_palette_file, read_report, size_fitted_at
from igpt.runs.pretrain import pretrain


def test_a_palette_of_the_train_split_is_measured_on_validation(shapes_store, tmp_path):
    out = tmp_path / "palette.npy"
    report = fit_palette_file(shapes_store.path, out, size=6, image_size=4, seed=3)
    train, validation = (
        images_at_size(shapes_store.split(name), 4) for name in ("train", "validation")
    )
    palette = Palette.load(out)
    assert palette.fingerprint == fit_palette(train, 6, seed=3).fingerprint
    assert report.psnr_db == measure_distortion(palette, validation).psnr_db
    assert (report.size, report.image_size, report.split, report.images) == (6, 4, "validation", 13)


def test_of_many_images_that_have_to_be_resized_some_are_drawn(shapes_store, tmp_path):
    train, out = shapes_store.split("train"), tmp_path / "palette.npy"
    fit_palette_file(shapes_store.path, out, size=6, image_size=4, most_resized=20, seed=3)
    drawn = images_at_size(train.sample(20, 3), 4)
    assert Palette.load(out).fingerprint == fit_palette(drawn, 6, seed=3).fingerprint
    as_they_are = tmp_path / "all.npy"
    fit_palette_file(shapes_store.path, as_they_are, size=6, most_resized=20, seed=3)
    assert Palette.load(as_they_are).fingerprint == fit_palette(train.images, 6, seed=3).fingerprint


def test_a_palette_tells_which_size_it_was_fitted_at(shapes_store, tmp_path):
    out = tmp_path / "palette.npy"
    fit_palette_file(shapes_store.path, out, size=6, image_size=4)
    assert size_fitted_at(out) == 4
    for text in ("{}", "{", '{"image_size": 4}'):  # somebody else's file of that name
        out.with_suffix(".json").write_text(text)
        assert size_fitted_at(out) is None
    out.with_suffix(".json").unlink()
    assert size_fitted_at(out) is None


def test_report_and_picture_lie_beside_the_palette(shapes_store, tmp_path):
    report = fit_palette_file(shapes_store.path, tmp_path / "p.npy", size=4, grey=True)
    assert read_report(tmp_path / "p.npy") == report
    assert read_image(tmp_path / "p.png").ndim == 3
    assert report.grey


def test_what_lies_beside_a_palette_is_never_another_palettes(shapes_store, tmp_path, monkeypatch):
    out = tmp_path / "p.npy"
    fit_palette_file(shapes_store.path, out, size=4)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    renames = itertools.count()

    def stopped(*_):
        if next(renames) == stop:
            raise KeyboardInterrupt  # as a kill: nothing after it is done
        return original(*_)

    original = os.replace
    monkeypatch.setattr(os, "replace", stopped)
    for stop in range(3):
        for name, data in first.items():
            (tmp_path / name).write_bytes(data)
        renames = itertools.count()
        with pytest.raises(KeyboardInterrupt):
            fit_palette_file(shapes_store.path, out, size=5, overwrite=True)
        size = Palette.load(out).size
        assert size == (4 if stop == 0 else 5)
        if (tmp_path / "p.json").exists():
            assert read_report(out).size == size
        assert not (tmp_path / "p.png").exists()


def test_a_report_of_another_palette_or_a_damaged_one_is_refused(shapes_store, tmp_path):
    for name, size in (("a", 4), ("b", 5)):
        fit_palette_file(shapes_store.path, tmp_path / f"{name}.npy", size=size)
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text((tmp_path / "b.json").read_text())
    with pytest.raises(DataError, match=r"a\.json is the report of another palette than .*a\.npy"):
        read_report(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text(text.replace('"size": 4', '"size": 6'))
    with pytest.raises(DataError, match=r"a\.json was changed since it was written"):
        read_report(tmp_path / "a.npy")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"a\.json is no palette's report: it lacks"):
        read_report(tmp_path / "a.npy")


def test_what_cannot_be_fitted_is_refused(shapes_store, tmp_path):
    with pytest.raises(ConfigError, match=r"written as \.npy, got --out .*; try .*p\.npy"):
        fit_palette_file(shapes_store.path, tmp_path / "p")
    with pytest.raises(ConfigError, match="2 to 65536 colors, got"):
        fit_palette_file(shapes_store.path, tmp_path / "p.npy", size=1)


def test_a_palette_that_is_not_that_of_its_report_is_not_learned_from(shapes_store, given):
    palette = given["palette"]
    fit_palette_file(shapes_store.path, palette, size=16, overwrite=True)
    numbers = np.load(palette)
    numbers[3] = -numbers[3]
    np.save(palette, numbers)
    with pytest.raises(DataError, match=r"report of another palette .* was replaced or damaged"):
        size_fitted_at(palette)
    out = palette.with_name("run")
    with pytest.raises(DataError, match="report of another palette"):
        pretrain(SHAPES_RECIPE, out=out, **given)
    assert not out.exists()
