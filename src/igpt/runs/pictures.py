"""Pictures from a run: completions and surprise maps of images, samples, and losses compared."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from igpt.data.batches import images_at_size
from igpt.data.loose import loose_files
from igpt.data.store import RecordStore
from igpt.evaluation.completion import complete_images, completion_rows, sample_images
from igpt.evaluation.likelihood import surprise_maps
from igpt.evaluation.outliers import ComparedLosses
from igpt.files import written_aside
from igpt.formats.load import load
from igpt.model.config import SamplingConfig
from igpt.model.pretrained import Pretrained
from igpt.outputs import require_ending, require_free
from igpt.paths import AnyPath, as_paths
from igpt.pixels.filters import ResamplingFilter
from igpt.pixels.images import image_grid, write_png
from igpt.pixels.preparation import Preparation
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.processes import choose_device
from igpt.randomness import Stream, stream
from igpt.runs.run import RunFolder

_SHOWN_SIZE = 128  # about how large a single image appears in a grid, in pixels
_SCALE_HEIGHT = 8  # of the scale of colors below maps, in pixels
_EXTREMES = 10  # images of each end that are shown ...
_EXTREME_SIZE = 64  # ... about so large, in pixels
_BINS = 60
_OWN, _FOREIGN, _TYPICAL = "#2b6ca3", "#c8642b", "#1f2933"


def complete_files(
    path: AnyPath,
    images: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    rows: int | None = None,
    samples: int = 4,
    filter: ResamplingFilter | None = None,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Complete image files, and those in folders, and write the pictures to the folder `out`.

    Each completion is written at the network's size, as `NAME-1.png` ..., and all of them together
    as `completions.png`: given | completions | original, a row an image. Images are made ready as
    those were that the network learned from or, with a `filter`, are resized once by it. Files that
    cannot be read are left out, with a note.

    Returns:
        The path of the picture of all.

    Raises:
        CheckpointError: No model at `path`.
        ConfigError: No such number of rows, the network is not autoregressive, or a picture may not
            be written.
        DataError: None of the files can be read, or a folder holds no images.
    """
    path, out = Path(path), Path(out)
    images = as_paths(images)
    picture = out / "completions.png"
    loose = loose_files(images)
    files = _completion_files(out, [file.name for file in loose.files], samples)
    written = itertools.chain.from_iterable(files.values())
    require_free(picture, *written, reads=images, overwrite=overwrite)
    pretrained = load(path, device=choose_device(device))
    read = loose.read_all(_tokenizer(pretrained, filter))
    completions = _complete(pretrained, read.squares, picture, rows, samples, sampling, seed)
    for name, drawn in zip(read.names, completions, strict=True):
        for file, completion in zip(files[name], drawn, strict=True):
            write_png(file, completion)
    return picture


def _completion_files(out: Path, names: Sequence[str], samples: int) -> dict[str, list[Path]]:
    """Return where each image's completions go; its number is put before a name that is shared."""
    stems = [Path(name).stem for name in names]
    files = {}
    for number, (name, stem) in enumerate(zip(names, stems, strict=True), start=1):
        shown = f"{number}-{stem}" if stems.count(stem) > 1 else stem
        files[name] = [out / f"{shown}-{sample}.png" for sample in range(1, samples + 1)]
    return files


def complete_records(
    path: AnyPath,
    data: AnyPath,
    *,
    count: int = 8,
    rows: int | None = None,
    samples: int = 4,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Path:
    """Complete `count` test images, drawn by seed, into `completions.png` of a run.

    Returns:
        The path of the picture: given | completions | original, a row an image.

    Raises:
        CheckpointError: No run at `path`.
        ConfigError: No such number of rows, or the network is not autoregressive.
        DataError: No test split, or images smaller than the network's.
    """
    path, data = Path(path), Path(data)
    run = RunFolder.open(path)
    pretrained = load(path, device=choose_device(device))
    picture = run.path / "completions.png"
    _, pixels = _drawn(data, pretrained, count, seed)
    _complete(pretrained, pixels, picture, rows, samples, sampling, seed)
    return picture


def _tokenizer(pretrained: Pretrained, filter: ResamplingFilter | None) -> ImageTokenizer:
    """Return what makes files ready for the network: as its own images, or by this filter alone."""
    if filter is None:
        return pretrained.tokenizer
    return pretrained.tokenizer.prepared(Preparation(filter=filter))


def _drawn(
    data: Path, pretrained: Pretrained, count: int, seed: int
) -> tuple[list[str], UInt8[np.ndarray, "image size size 3"]]:
    """Return what to call some test records, drawn by seed, and them at the network's size."""
    records = RecordStore.open(data).split("test")
    chosen = stream(Stream.SHOWN, seed).permutation(len(records))[:count]
    pixels = images_at_size(records.chosen(chosen), pretrained.model.config.image_size)
    return records.titles(chosen), pixels


def _complete(
    pretrained: Pretrained,
    pixels: UInt8[np.ndarray, "image height width 3"],
    out: Path,
    rows: int | None,
    samples: int,
    sampling: SamplingConfig | None,
    seed: int,
) -> UInt8[np.ndarray, "image sample height width 3"]:
    """Return completions of the images, and write them all as one picture."""
    size = pretrained.model.config.image_size
    rows = pretrained.tokenizer.half_rows if rows is None else rows
    completions = complete_images(
        pretrained, pixels, rows=rows, samples=samples, sampling=sampling, seed=seed,
        title="complete",
    )  # fmt: skip
    cells = completion_rows(pretrained, pixels, completions, rows=rows)
    write_png(out, image_grid(cells, scale=max(1, _SHOWN_SIZE // size)))
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
        ConfigError: The network is not autoregressive, or `out` is no `.png` or may not be written.
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
    return dict(zip(read.names, _surprise(pretrained, read.squares, out), strict=True))


def surprise_records(
    path: AnyPath, data: AnyPath, *, count: int = 8, seed: int = 0, device: str = "auto"
) -> dict[str, float]:
    """Draw where `count` test images, drawn by seed, surprise a run, as its `surprise.png`.

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
    chosen, pixels = _drawn(data, pretrained, count, seed)
    nats = _surprise(pretrained, pixels, run.path / "surprise.png")
    return dict(zip(chosen, nats, strict=True))


def _surprise(
    pretrained: Pretrained, pixels: UInt8[np.ndarray, "image size size 3"], out: Path
) -> list[float]:
    """Return each image's nats per pixel, and draw which of them they are."""
    config = pretrained.model.config
    maps = surprise_maps(pretrained, pixels)
    seen = pretrained.tokenizer.decode(pretrained.tokenizer.encode(pixels))
    cells = np.stack([pixels, seen, _heat(maps / math.log(config.colors))], axis=1)
    picture = image_grid(cells, scale=max(1, _SHOWN_SIZE // config.image_size))
    scale = _heat(np.tile(np.linspace(0, 1, picture.shape[1]), (_SCALE_HEIGHT, 1)))
    gap = np.full((_SCALE_HEIGHT // 2, *scale.shape[1:]), 255, np.uint8)
    write_png(out, np.concatenate([picture, gap, scale]))
    return maps.mean(axis=(1, 2)).tolist()


def _heat(shares: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Return colors from black for 0, over purple and red, to light yellow for 1 and more."""
    return matplotlib.colormaps["inferno"](np.clip(shares, 0, 1), bytes=True)[..., :3]


def extremes_picture(compared: ComparedLosses, pretrained: Pretrained, out: Path) -> None:
    """Draw the likeliest own images above the unlikeliest, as the palette shows them."""
    order = np.argsort(compared.own, kind="stable")
    shown = compared.pixels[np.stack([order[:_EXTREMES], order[::-1][:_EXTREMES]])]
    tokenizer, size = pretrained.tokenizer, pretrained.model.config.image_size
    seen = tokenizer.decode(tokenizer.encode(shown.reshape(-1, size, size, 3)))
    write_png(out, image_grid(seen.reshape(shown.shape), scale=max(1, _EXTREME_SIZE // size)))


def losses_picture(compared: ComparedLosses, out: Path) -> None:
    """Draw each set's losses in a row of its own, over one axis."""
    losses = {"test images": compared.own, **compared.foreign}
    edges = np.histogram_bin_edges(np.concatenate(list(losses.values())), _BINS)
    with matplotlib.rc_context():  # the reader's own matplotlib settings decide nothing
        matplotlib.rcdefaults()
        matplotlib.rcParams["font.size"] = 9
        figure = Figure(figsize=(6, 0.6 + 0.55 * len(losses)), layout="constrained")
        rows = figure.subplots(len(losses), sharex=True, squeeze=False)[:, 0]
        for index, (axes, (name, values)) in enumerate(zip(rows, losses.items(), strict=True)):
            axes.hist(values, edges, color=_FOREIGN if index else _OWN)
            axes.axvline(
                compared.result.typical_nats_per_pixel, color=_TYPICAL, lw=1, ls=(0, (5, 3))
            )
            axes.set_yticks([])
            axes.spines[["left", "top", "right"]].set_visible(False)
            label = axes.set_ylabel(
                name if len(name) <= 24 else f"…{name[-23:]}", rotation=0, ha="right", va="center"
            )
            label.set_parse_math(False)  # a folder's name may hold dollars
        rows[-1].set_xlabel("nats per pixel; dashed: the mean of validation images")
        with written_aside(out) as aside:
            figure.savefig(aside, dpi=200)
