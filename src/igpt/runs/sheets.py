"""Sheets: pictures in rows and columns that know what they show.

    write_sheet(path, cells, Legend(columns=("given", "original"), names=...), scale=9)
    sheet = read_sheet(path.read_bytes())
    sheet.legend.names[0][1], sheet.cells[0][1]  # "test image 7: cat/IMG_7.jpg", a small PNG

A sheet is a PNG file that any program shows, with a legend in it as text, for whoever puts the
images on a page, with words beside them and in any size. Written and read as one, picture and
legend cannot part. A picture without a legend, of an earlier igpt or another program, is no sheet.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from igpt.data.batches import images_at_size
from igpt.data.store import Records
from igpt.errors import ConfigError, DataError
from igpt.pixels.images import image_grid, note_in, write_png
from igpt.pixels.palette import Palette
from igpt.pixels.palette_fitting import distortion_cells
from igpt.values import from_dict, to_dict

_GAP = 2  # pixels between images
_QUANTIZED = 16  # images shown before and after the palette
_STRIP = 8  # height of the strip below them
_SHOWN = 128  # about how large an image appears in a picture, in pixels


@dataclass(frozen=True, kw_only=True)
class Legend:
    """What the images of a sheet are."""

    names: tuple[tuple[str, ...], ...]
    """What each image is of, by row and column, such as its file."""
    columns: tuple[str, ...] = ()
    """What stands above each column; empty where there is nothing to say."""
    rows: tuple[str, ...] = ()
    """What stands beside each row; likewise."""
    figures: tuple[tuple[str, ...], ...] = ()
    """What stands below each image; likewise."""

    @classmethod
    def of_completions(cls, names: Sequence[str], samples: int) -> "Legend":
        """Return what the images of `completion_rows` are, with so many completions of each."""
        drawn = [f"drawn {number}" for number in range(1, samples + 1)]
        columns = ("given", *(drawn if samples > 1 else ["drawn"]), "original")
        return cls(columns=columns, names=tuple((name,) * len(columns) for name in names))


@dataclass(frozen=True, kw_only=True)
class _Note:
    """What is written into the file."""

    legend: Legend
    size: int
    """Side of an image, in its own pixels."""
    scale: int
    """Side of the square that each pixel is, in the picture's."""
    model: str = ""
    """As `Sheet` has it."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What was read."""

    legend: Legend
    cells: tuple[tuple[bytes, ...], ...]
    """Each image as a PNG of its own, at its own size."""
    model: str = ""
    """`Pretrained.identity` of the model that drew it; empty where that is not known."""


def write_sheet(
    path: Path,
    images: UInt8[np.ndarray, "row column size size 3"],
    legend: Legend,
    *,
    shown: int = _SHOWN,
    below: UInt8[np.ndarray, "_color 3"] | None = None,
    model: str = "",
) -> None:
    """Write images in rows and columns, each enlarged to about `shown` pixels.

    Args:
        path: The PNG file.
        images: What stands where.
        legend: What is what; its names have the images' rows and columns.
        shown: About how large an image appears, in whole multiples of its size.
        below: Colors of a strip below them all, from left to right.
        model: `Pretrained.identity` of the model that drew them.

    Raises:
        DataError: The disk is full, or the path cannot be written to.
    """
    assert [len(row) for row in legend.names] == [images.shape[1]] * len(images)
    size = images.shape[2]
    scale = max(1, shown // size)
    picture = image_grid(images, scale=scale, gap=_GAP)
    if below is not None:
        picture = _with_strip(picture, below)
    note = _Note(legend=legend, size=size, scale=scale, model=model)
    write_png(path, picture, note=json.dumps(to_dict(note)))


def write_quantized(path: Path, palette: Palette, records: Records, *, size: int) -> None:
    """Write some records, drawn over all classes, each above the same in the palette's colors.

    Raises:
        DataError: The disk is full, or the path cannot be written to.
    """
    chosen = records.varied(_QUANTIZED)
    cells = distortion_cells(palette, images_at_size(records.chosen(chosen), size))
    rows, columns = cells.shape[:2]
    titles = records.titles(chosen)
    titles += [""] * (rows // 2 * columns - len(titles))
    by_row = [tuple(titles[first : first + columns]) for first in range(0, len(titles), columns)]
    legend = Legend(
        rows=("images", "in the palette's colors") * len(by_row),
        names=tuple(names for names in by_row for _ in range(2)),
    )
    write_sheet(path, cells, legend)


def read_sheet(png: bytes, *, name: str) -> Sheet | None:
    """Return what a PNG file shows; None if it has no legend.

    Args:
        png: The file's bytes.
        name: What to call it in messages.

    Raises:
        DataError: The legend is not of this picture.
    """
    text = note_in(png)
    if text is None:
        return None
    with Image.open(io.BytesIO(png)) as image:
        try:
            note = from_dict(_Note, json.loads(text), name="it")
            cells = _cells(image.convert("RGB"), note)
            return Sheet(legend=note.legend, cells=cells, model=note.model)
        except (ConfigError, ValueError) as error:
            raise DataError(
                f"{name} has a legend that is not of this picture ({error}); draw it again"
            ) from error


def _cells(image: Image.Image, note: _Note) -> tuple[tuple[bytes, ...], ...]:
    side = note.size * note.scale
    rows = []
    for row, names in enumerate(note.legend.names):
        top = row * (side + _GAP)
        lefts = [column * (side + _GAP) for column in range(len(names))]
        if top + side > image.height or (lefts and lefts[-1] + side > image.width):
            raise ValueError(f"it tells of {len(note.legend.names)} rows of {len(names)} images")
        cells = [image.crop((left, top, left + side, top + side)) for left in lefts]
        rows.append(tuple(_png(cell.reduce(note.scale)) for cell in cells))
    return tuple(rows)


def _png(image: Image.Image) -> bytes:
    png = io.BytesIO()
    image.save(png, format="PNG")
    return png.getvalue()


def _with_strip(
    picture: UInt8[np.ndarray, "height width 3"], colors: UInt8[np.ndarray, "color 3"]
) -> UInt8[np.ndarray, "taller width 3"]:
    width = picture.shape[1]
    strip = np.tile(colors[np.arange(width) * len(colors) // width], (_STRIP, 1, 1))
    gap = np.full((_STRIP // 2, width, 3), 255, np.uint8)
    return np.concatenate([picture, gap, strip])
