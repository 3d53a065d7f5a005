"""A palette file from a record store, with a report of what it costs."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from igpt.data.batches import images_at_size
from igpt.data.store import RecordStore
from igpt.errors import ConfigError, DataError, IgptError
from igpt.files import read_json, refusals_told, write_json
from igpt.outputs import require_ending, require_free
from igpt.paths import AnyPath
from igpt.pixels.palette import Palette
from igpt.pixels.palette_fitting import (
    Distortion,
    fit_palette,
    measure_distortion,
)
from igpt.runs.sheets import write_quantized
from igpt.seals import sealed, unsealed
from igpt.values import from_dict, to_dict

_MEASURED = 2000  # images that the distortion is measured on


@dataclass(frozen=True, kw_only=True)
class PaletteReport(Distortion):
    """What lies beside a palette's file as JSON: how it was fitted, and what it loses."""

    size: int
    grey: bool
    image_size: int
    """Side at which the images were looked at, in pixels."""
    seed: int
    split: str
    """That the distortion was measured on."""
    images: int
    """Of it."""
    fingerprint: str | None = None
    """Of the palette; None in reports of igpt 0.1."""


def fit_palette_file(
    store: AnyPath,
    out: AnyPath,
    *,
    size: int = 512,
    grey: bool = False,
    image_size: int | None = None,
    most_resized: int = 100_000,
    seed: int = 0,
    overwrite: bool = False,
) -> PaletteReport:
    """Fit a palette to a store's train split; write it, a report and a picture; return the report.

    Images are resized before their pixels are looked at, as the network sees them (Chen et al.
    2020, section 3.2): averages have fewer bright and dark colors than what they are made of.

    The distortion is measured on validation images, which the palette has not seen, or on train
    where there are none.

    Args:
        store: Record store.
        out: The palette file, `.npy`; report and picture lie beside it as `.json` and `.png`.
        size: Number of colors.
        grey: Levels of grey instead of colors.
        image_size: Size at which the images are looked at, the network's; the store's own by
            default.
        most_resized: Where the images have to be resized, at most so many are, drawn by the seed.
        seed: Decides the sample of images and pixels and where k-means starts.
        overwrite: Whether what is there may be replaced.

    Raises:
        ConfigError: `out` is no `.npy` or may not be written, or the size is impossible.
        DataError: No store, or too few colors in it.
    """
    store, out = Path(store), Path(out)
    require_ending(out, ".npy", "a palette is")
    beside = files_beside(out)
    require_free(out, *beside, overwrite=overwrite)
    records = RecordStore.open(store)
    side = image_size or records.config.image_size
    train = records.split("train")
    if side != records.config.image_size:
        train = train.sample(most_resized, seed)
    print(
        f"fitting {size} {'greys' if grey else 'colors'} to {len(train):,} images of {side}x{side} "
        "pixels: seconds for a few hundred images, half a minute for fifty thousand",
        file=sys.stderr,
    )
    palette = fit_palette(images_at_size(train, side), size, grey=grey, seed=seed)
    split = "validation" if "validation" in records.splits else "train"
    held_out = images_at_size(records.split(split).sample(_MEASURED), side)
    report = PaletteReport(
        size=palette.size,
        grey=grey,
        image_size=side,
        seed=seed,
        split=split,
        images=len(held_out),
        fingerprint=palette.fingerprint,
        **dataclasses.asdict(measure_distortion(palette, held_out)),
    )
    for file in beside:  # so that what lies beside a palette is never that of the one before
        with refusals_told(file):
            file.unlink(missing_ok=True)
    palette.save(out)
    write_json(out.with_suffix(".json"), sealed(to_dict(report)))
    write_quantized(out.with_suffix(".png"), palette, records.split(split), size=side)
    return report


def files_beside(palette: Path) -> list[Path]:
    """Return the report and the picture of a palette file; killed in time, neither is there."""
    return [palette.with_suffix(ending) for ending in (".json", ".png")]


def read_report(palette: Path) -> PaletteReport:
    """Return the report that lies beside a palette file.

    Raises:
        DataError: It is missing or damaged, or is that of another palette.
    """
    report = _read_report(palette)
    if report.fingerprint not in (None, Palette.load(palette).fingerprint):
        raise DataError(
            f"{palette.with_suffix('.json')} is the report of another palette than {palette}, "
            "which was replaced or damaged; fit it again, or move the report away"
        )
    return report


def _read_report(palette: Path) -> PaletteReport:
    file = palette.with_suffix(".json")
    values = unsealed(read_json(file, error=DataError), file, error=DataError)
    try:
        return from_dict(PaletteReport, values, name="it")
    except ConfigError as error:
        raise DataError(f"{file} is no palette's report: {error}; fit the palette again") from error


def size_fitted_at(palette: Path) -> int | None:
    """Return the image size that a palette was fitted at, by the report beside it; None if none.

    Raises:
        DataError: The report is that of another palette.
    """
    try:
        _read_report(palette)
    except IgptError:  # somebody else's file of that name
        return None
    return read_report(palette).image_size
