"""A palette from a record store, and what lies beside it."""

import pytest

from igpt.data.batches import images_at_size
from igpt.errors import ConfigError
from igpt.files import read_json
from igpt.pixels.images import read_image
from igpt.pixels.palette import Palette
from igpt.pixels.palette_fitting import fit_palette, measure_distortion
from igpt.runs.palette import PaletteReport, fit_palette_file
from igpt.values import from_dict


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


def test_report_and_picture_lie_beside_the_palette(shapes_store, tmp_path):
    report = fit_palette_file(shapes_store.path, tmp_path / "p.npy", size=4, grey=True)
    assert from_dict(PaletteReport, read_json(tmp_path / "p.json")) == report
    assert read_image(tmp_path / "p.png").ndim == 3
    assert report.grey


def test_what_cannot_be_fitted_is_refused(shapes_store, tmp_path):
    with pytest.raises(ConfigError, match=r"written as \.npy, got --out .*; try .*p\.npy"):
        fit_palette_file(shapes_store.path, tmp_path / "p")
    with pytest.raises(ConfigError, match="2 to 65536 colors, got"):
        fit_palette_file(shapes_store.path, tmp_path / "p.npy", size=1)
