"""Pictures that know what they show."""

import io

import numpy as np
import pytest
from PIL import Image

from igpt.errors import DataError
from igpt.pixels.images import read_image, write_png
from igpt.runs.sheets import Legend, read_sheet, write_quantized, write_sheet


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 3, 5, 5, 3), dtype=np.uint8)


LEGEND = Legend(
    columns=("given", "drawn", "original"),
    names=(("a/1.jpg",) * 3, ("ü <b> \\udc80.jpg",) * 3),
)


def test_a_sheet_gives_back_each_image_and_what_it_is(tmp_path, images):
    write_sheet(tmp_path / "sheet.png", images, LEGEND, model="0123456789abcdef")
    sheet = read_sheet((tmp_path / "sheet.png").read_bytes(), name="it")
    assert sheet.legend == LEGEND
    assert sheet.model == "0123456789abcdef"
    for row, cells in zip(images, sheet.cells, strict=True):
        for image, cell in zip(row, cells, strict=True):
            np.testing.assert_array_equal(pixels(cell), image)


def test_a_sheet_is_a_picture_like_any_other(tmp_path, images):
    scale = np.linspace((0, 0, 0), (255, 255, 255), 4).astype(np.uint8)
    write_sheet(tmp_path / "sheet.png", images, LEGEND, shown=10, below=scale)
    picture = read_image(tmp_path / "sheet.png")
    assert picture.shape == (2 * 10 + 2 + 4 + 8, 3 * 10 + 2 * 2, 3)
    np.testing.assert_array_equal(picture[:10:2, :10:2], images[0, 0])
    assert picture[-1, 0].tolist() == [0, 0, 0]
    assert picture[-1, -1].tolist() == [255, 255, 255]
    sheet = read_sheet((tmp_path / "sheet.png").read_bytes(), name="it")
    np.testing.assert_array_equal(pixels(sheet.cells[1][2]), images[1, 2])


def test_a_picture_without_a_legend_is_no_sheet(tmp_path, images):
    write_png(tmp_path / "other.png", images[0, 0])
    assert read_sheet((tmp_path / "other.png").read_bytes(), name="it") is None


@pytest.mark.parametrize(
    "note",
    ["{", "{}", '{"legend": {"names": [["a", "b"]], "columns": [], "rows": [], "figures": []}, '
     '"size": 5, "scale": 1}'],
)  # fmt: skip
def test_a_legend_of_another_picture_is_one_line(tmp_path, images, note):
    write_png(tmp_path / "it.png", images[0, 0], note=note)
    with pytest.raises(DataError, match=r"it\.png has a legend that is not of this picture"):
        read_sheet((tmp_path / "it.png").read_bytes(), name="it.png")


def test_every_image_stands_above_itself_in_the_palette_s_colors(
    tmp_path, shapes_store, tiny_palette
):
    records = shapes_store.split("train")
    write_quantized(tmp_path / "palette.png", tiny_palette, records, size=8)
    sheet = read_sheet((tmp_path / "palette.png").read_bytes(), name="it")
    names = sheet.legend.names
    assert names[0] == names[1]
    assert names[0] != names[2]
    for above, below in zip(sheet.cells[0], sheet.cells[1], strict=True):
        image = pixels(above)
        shown = tiny_palette.decode(tiny_palette.encode(image))
        np.testing.assert_array_equal(pixels(below), shown)
