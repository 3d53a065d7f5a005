"""A contact sheet: some records of every class in one picture, to see what a store holds.

    write_png(Path("sheet.png"), contact_sheet(RecordStore.open(Path("data/photos"))))

A line of text and a row of images for each class; without labels, for each split.
"""

from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from igpt.data.store import Records, RecordStore
from igpt.errors import printable
from igpt.pixels.images import image_grid, resize_images

_LINE = 20  # height of a line of text, in pixels
_GAP = 2
_LETTER = 14


def contact_sheet(
    store: RecordStore, *, columns: int = 10, classes: int = 50, side: int = 64, seed: int = 0
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Return a picture of records drawn by `seed`, under the names and counts of their classes.

    Args:
        store: What is looked at; of each class, the first split that has any of it.
        columns: Records in a row.
        classes: How many classes are shown at most, from the first to the last at equal steps.
        side: About how large a record is shown, in pixels.
        seed: Draws the records.
    """
    splits = [store.split(name) for name in store.splits]
    counts = store.account.classes
    rows: list[tuple[str, Records]] = []
    if counts:
        labelled = [split for split in splits if split.labels is not None]
        of_all = list(counts.items())
        for index in np.unique(np.linspace(0, len(counts) - 1, classes).round().astype(int)):
            name, of_class = of_all[index]
            numbers = ", ".join(f"{count:,} {split}" for split, count in of_class.items())
            shown = next((split for split in labelled if of_class[split.name]), labelled[0])
            chosen = np.flatnonzero(shown.require_labels() == index)
            rows.append((f"{name}: {numbers}", shown.chosen(chosen)))
    else:
        rows = [(f"{split.name}: {len(split):,}", split) for split in splits]
    lines = [store.summary().splitlines()[0]]
    if len(counts) > len(rows):
        lines.append(f"{len(rows)} of {len(counts):,} classes, from the first to the last")
    cells = [_row(records.sample(columns, seed), columns, side) for _, records in rows]
    strips = [_text(line, cells[0].shape[1]) for line in lines]
    for (title, _), row in zip(rows, cells, strict=True):
        strips += [_text(title, row.shape[1]), row]
    return np.concatenate(strips)


def _row(records: Records, columns: int, side: int) -> UInt8[np.ndarray, "height width 3"]:
    """Return some records beside each other, smaller where they are large."""
    stored = records.images.shape[1]
    images = np.asarray(records.images[:columns])
    if stored > side:
        images = resize_images(images, side, records.filter)
    cells = np.full((1, columns, *images.shape[1:]), 255, np.uint8)
    cells[0, : len(images)] = images
    return image_grid(cells, scale=max(1, side // stored), gap=_GAP)


def _text(line: str, width: int) -> UInt8[np.ndarray, "_line width 3"]:
    """Return a line of black text on white, cut off where the picture ends."""
    font = ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), _LETTER
    )
    image = Image.new("RGB", (width, _LINE), "white")
    ImageDraw.Draw(image).text((_GAP, 0), printable(line), "black", font)
    return np.array(image)
