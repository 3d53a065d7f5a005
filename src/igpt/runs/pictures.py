"""Pictures from a run: completions and surprise maps of images, samples, and losses compared."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8

from igpt.data.batches import images_at_size
from igpt.data.loose import loose_files
from igpt.data.store import RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.completion import complete_images, completion_rows, sample_images
from igpt.evaluation.likelihood import surprise_maps
from igpt.evaluation.outliers import ComparedLosses, OutliersResult
from igpt.files import written_aside
from igpt.formats.load import load
from igpt.model.config import SamplingConfig
from igpt.model.pretrained import Pretrained
from igpt.outputs import require_ending, require_free
from igpt.paths import AnyPath, as_path, as_paths
from igpt.pixels.filters import ResamplingFilter
from igpt.pixels.images import image_grid, write_png
from igpt.pixels.preparation import Preparation
from igpt.pixels.regions import Box, inside_box, painted
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.processes import choose_device
from igpt.runs.plots import losses_figure, plain_style
from igpt.runs.run import RunFolder
from igpt.runs.sheets import Legend, write_sheet

_SHOWN_SIZE = 128  # about how large a single image appears, in pixels
_EXTREMES = 10  # images of each end that are shown ...
_EXTREME_SIZE = 64  # ... about so large, in pixels


def complete_files(
    path: AnyPath,
    images: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    rows: int | None = None,
    mask: AnyPath | None = None,
    box: Box | None = None,
    samples: int = 4,
    filter: ResamplingFilter | None = None,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Complete image files, and those in folders, and write the pictures to the folder `out`.

    Each completion is written as `NAME-1.png` ..., its pixels enlarged to squares, and all of them
    together as `completions.png`: given | completions | original, a row an image. Images are made
    ready as those were that the network learned from or, with a `filter`, are resized once by it.
    Files that cannot be read are left out, with a note.

    What is drawn is all below the first `rows`, what is white in the picture `mask`, or what lies
    in a `box`, left, top, right and bottom; by default the half that the network reads last. Masks
    and boxes are in pixels of the network's images.

    Returns:
        The path of the picture of all.

    Raises:
        CheckpointError: No model at `path`.
        ConfigError: No such number of rows, no such region or not one that the network can draw, or
            a picture may not be written.
        DataError: None of the files can be read, or a folder holds no images.
    """
    path, out, mask = Path(path), Path(out), as_path(mask)
    images = as_paths(images)
    picture = out / "completions.png"
    loose = loose_files(images)
    files = _completion_files(out, [file.name for file in loose.files], samples)
    written = itertools.chain.from_iterable(files.values())
    reads = images if mask is None else [*images, mask]
    require_free(picture, *written, reads=reads, overwrite=overwrite)
    pretrained = load(path, device=choose_device(device))
    region = _region(pretrained, rows=rows, mask=mask, box=box)
    read = loose.read_all(_tokenizer(pretrained, filter))
    completions = _complete(
        pretrained, read.squares, read.names, picture, rows, region, samples, sampling, seed
    )
    scale = max(1, _SHOWN_SIZE // pretrained.model.config.image_size)
    for name, drawn in zip(read.names, completions, strict=True):
        for file, completion in zip(files[name], drawn, strict=True):
            write_png(file, image_grid(completion[None, None], scale=scale))
    return picture


def _completion_files(out: Path, names: Sequence[str], samples: int) -> dict[str, list[Path]]:
    """Return where each image's completions go; its number is put before a name that is shared.

    Before all names, if those were still shared: of 1-DOG.png beside two that are called dog.png.
    Names that differ in the case of letters are one on some disks.

    Raises:
        ConfigError: An image is given twice.
    """
    stems = [Path(name).stem for name in names]
    numbered = [f"{number}-{stem}" for number, stem in enumerate(stems, start=1)]
    times = Counter(stem.casefold() for stem in stems)
    shown = [
        with_number if times[stem.casefold()] > 1 else stem
        for stem, with_number in zip(stems, numbered, strict=True)
    ]
    if len({name.casefold() for name in shown}) < len(shown):
        shown = numbered
    files: dict[str, list[Path]] = {}
    for name, stem in zip(names, shown, strict=True):
        if name in files:
            raise ConfigError(f"{name} is given twice; name it once, or ask for more --samples")
        files[name] = [out / f"{stem}-{sample}.png" for sample in range(1, samples + 1)]
    return files


def complete_records(
    path: AnyPath,
    data: AnyPath,
    *,
    count: int = 8,
    rows: int | None = None,
    mask: AnyPath | None = None,
    box: Box | None = None,
    samples: int = 4,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Complete `count` test images, drawn over all classes, into `completions.png` of a run.

    What of them is drawn is said as in `complete_files`.

    Returns:
        The path of the picture: given | completions | original, a row an image.

    Raises:
        CheckpointError: No run at `path`.
        ConfigError: No such number of rows, or no such region, or not one that the network can
            draw.
        DataError: No test split, or images smaller than the network's.
    """
    path, data = Path(path), Path(data)
    run = RunFolder.open(path)
    pretrained = load(path, device=choose_device(device))
    region = _region(pretrained, rows=rows, mask=as_path(mask), box=box)
    picture = run.path / "completions.png"
    names, pixels = _drawn(data, pretrained, count, seed)
    _complete(pretrained, pixels, names, picture, rows, region, samples, sampling, seed)
    return picture


def _region(
    pretrained: Pretrained, *, rows: int | None, mask: Path | None, box: Box | None
) -> Bool[np.ndarray, "size size"] | None:
    """Return which pixels are to be drawn; None where neither mask nor box says.

    Raises:
        ConfigError: It is said in several ways, or there is no such region.
        DataError: The mask is no picture.
    """
    if sum(value is not None for value in (rows, mask, box)) > 1:
        raise ConfigError("give one of rows, mask and box")
    size = pretrained.model.config.image_size
    if mask is not None:
        return painted(mask, size)
    return None if box is None else inside_box(box, size)


def _tokenizer(pretrained: Pretrained, filter: ResamplingFilter | None) -> ImageTokenizer:
    """Return what makes files ready for the network: as its own images, or by this filter alone."""
    if filter is None:
        return pretrained.tokenizer
    return pretrained.tokenizer.prepared(Preparation(filter=filter))


def _drawn(
    data: Path, pretrained: Pretrained, count: int, seed: int
) -> tuple[list[str], UInt8[np.ndarray, "image size size 3"]]:
    """Return what to call some test records, drawn over all classes, at the network's size."""
    records = RecordStore.open(data).split("test")
    chosen = records.varied(count, seed)
    pixels = images_at_size(records.chosen(chosen), pretrained.model.config.image_size)
    return records.titles(chosen), pixels


def _complete(
    pretrained: Pretrained,
    pixels: UInt8[np.ndarray, "image height width 3"],
    names: Sequence[str],
    out: Path,
    rows: int | None,
    region: Bool[np.ndarray, "size size"] | None,
    samples: int,
    sampling: SamplingConfig | None,
    seed: int,
) -> UInt8[np.ndarray, "image sample height width 3"]:
    """Return completions of the images, and write them all as one picture."""
    completions = complete_images(
        pretrained, pixels, rows=rows, region=region, samples=samples, sampling=sampling, seed=seed,
        title="complete",
    )  # fmt: skip
    cells = completion_rows(pretrained, pixels, completions, rows=rows, region=region)
    legend = Legend.of_completions(names, samples)
    write_sheet(out, cells, legend, shown=_SHOWN_SIZE, model=pretrained.identity)
    return completions


def sample_file(
    path: AnyPath,
    out: AnyPath,
    *,
    samples: int = 16,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Draw images from nothing and write them as one PNG, about as wide as high.

    Raises:
        CheckpointError: No model at `path`.
        ConfigError: `out` is no `.png` or may not be written, or no such network draws so.
    """
    path, out = Path(path), Path(out)
    require_ending(out, ".png", "samples are")
    require_free(out, overwrite=overwrite)
    pretrained = load(path, device=choose_device(device))
    images = sample_images(pretrained, samples, sampling=sampling, seed=seed, title="sample")
    columns = math.ceil(math.sqrt(samples))
    size = pretrained.model.config.image_size
    cells = np.full((math.ceil(samples / columns) * columns, size, size, 3), 255, dtype=np.uint8)
    cells[:samples] = images
    grid = image_grid(cells.reshape(-1, columns, size, size, 3), scale=max(1, _SHOWN_SIZE // size))
    write_png(out, grid)


def surprise_file(
    path: AnyPath,
    images: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    filter: ResamplingFilter | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> dict[str, float]:
    """Draw where image files surprise a network, and return each one's nats per pixel.

    Files, and what becomes of them, as in `complete_files`.

    One PNG, a row an image: the image at the network's size, the same in the palette's colors, and
    its pixels from black, as expected, to bright, as unlikely as a color can be that was drawn
    blindly, or more. Below them lies the scale, from 0 to that: the logarithm of how many colors
    there are.

    Raises:
        CheckpointError: No model at `path`.
        ConfigError: The network is not autoregressive, or `out` is no `.png` or may not be written.
        DataError: None of the files can be read, or a folder holds no images.
    """
    path, out = Path(path), Path(out)
    images = as_paths(images)
    require_ending(out, ".png", "a surprise map is")
    require_free(out, reads=images, overwrite=overwrite)
    loose = loose_files(images)
    pretrained = load(path, device=choose_device(device))
    read = loose.read_all(_tokenizer(pretrained, filter))
    nats = _surprise(pretrained, read.squares, read.names, out)
    return dict(zip(read.names, nats, strict=True))


def surprise_records(
    path: AnyPath, data: AnyPath, *, count: int = 8, seed: int = 0, device: str = "auto"
) -> dict[str, float]:
    """Draw where `count` test images, drawn over all classes, surprise a run: `surprise.png`.

    Returns:
        Nats per pixel of each, by its number in the test split and the file it was made of.

    Raises:
        CheckpointError: No run at `path`.
        ConfigError: The network is not autoregressive.
        DataError: No test split, or images smaller than the network's.
    """
    path, data = Path(path), Path(data)
    run = RunFolder.open(path)
    pretrained = load(path, device=choose_device(device))
    pretrained.model.config.require_causal()
    names, pixels = _drawn(data, pretrained, count, seed)
    nats = _surprise(pretrained, pixels, names, run.path / "surprise.png")
    return dict(zip(names, nats, strict=True))


def _surprise(
    pretrained: Pretrained,
    pixels: UInt8[np.ndarray, "image size size 3"],
    names: Sequence[str],
    out: Path,
) -> list[float]:
    """Return each image's nats per pixel, and draw which of them they are."""
    config = pretrained.model.config
    maps = surprise_maps(pretrained, pixels)
    seen = pretrained.tokenizer.decode(pretrained.tokenizer.encode(pixels))
    cells = np.stack([pixels, seen, _heat(maps / math.log(config.colors))], axis=1)
    nats: list[float] = maps.mean(axis=(1, 2)).tolist()
    legend = Legend(
        columns=("image", "in the palette's colors", "surprise"),
        rows=tuple(f"{value:.2f} nats per pixel" for value in nats),
        names=tuple((name,) * cells.shape[1] for name in names),
    )
    write_sheet(
        out, cells, legend, shown=_SHOWN_SIZE, below=_heat(np.linspace(0, 1, 256)),
        model=pretrained.identity,
    )  # fmt: skip
    return nats


def _heat(shares: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Return colors from black for 0, over purple and red, to light yellow for 1 and more."""
    return matplotlib.colormaps["inferno"](np.clip(shares, 0, 1), bytes=True)[..., :3]


def extremes_picture(compared: ComparedLosses, pretrained: Pretrained, out: Path) -> None:
    """Draw the likeliest own images above the unlikeliest, as the palette shows them."""
    order = np.argsort(compared.own, kind="stable")
    ends = np.stack([order[:_EXTREMES], order[::-1][:_EXTREMES]])
    shown = compared.pixels[ends]
    tokenizer, size = pretrained.tokenizer, pretrained.model.config.image_size
    seen = tokenizer.decode(tokenizer.encode(shown.reshape(-1, size, size, 3)))
    legend = Legend(
        rows=("likeliest", "unlikeliest"),
        figures=tuple(tuple(f"{nats:.2f}" for nats in row) for row in compared.own[ends].tolist()),
        names=tuple(tuple(compared.names[number] for number in row) for row in ends.tolist()),
    )
    write_sheet(out, seen.reshape(shown.shape), legend, shown=_EXTREME_SIZE)


def losses_picture(result: OutliersResult, out: Path) -> None:
    """Draw how the losses of each set are spread, a row each, over one axis."""
    with plain_style(), written_aside(out) as aside:
        losses_figure(result).savefig(aside, format="png", dpi=200, transparent=True)
