"""Foreign images of a run: can their likelihood tell them from its own?

The run keeps three files: `outliers.json`, `outliers.png` (how the losses of each set are spread)
and `extremes.png` (its likeliest and unlikeliest test images).
"""

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float64, UInt8
from matplotlib.figure import Figure

from igpt.data.batches import check_fits, images_at_size
from igpt.data.store import Records, RecordStore
from igpt.evaluation.likelihood import image_losses
from igpt.evaluation.outliers import foreign_images, separation
from igpt.files import written_aside
from igpt.formats.load import load
from igpt.pixels.images import image_grid, write_png
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.processes import choose_device
from igpt.randomness import Stream, stream
from igpt.runs.run import RunFolder

_BINS = 60
_EXTREMES = 10  # images of each end that are shown
_SHOWN_SIZE = 64  # about how large each appears, in pixels
_OWN, _FOREIGN, _TYPICAL = "#2b6ca3", "#c8642b", "#1f2933"


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The losses of a set of images."""

    images: int
    nats_per_pixel: float
    """Mean."""
    standard_deviation: float


@dataclass(frozen=True, kw_only=True)
class ForeignSet(ImageSet):
    """The same of foreign images, and how well two scores tell them from the run's own."""

    name: str
    auroc_loss: float
    auroc_typicality: float


@dataclass(frozen=True, kw_only=True)
class OutliersResult:
    """What `outliers.json` holds."""

    seed: int
    typical_nats_per_pixel: float
    """Mean loss of validation images."""
    validation_images: int
    own: ImageSet
    """The run's test images."""
    foreign: tuple[ForeignSet, ...]


def outliers_run(
    path: Path,
    *,
    data: Path,
    others: Sequence[Path] = (),
    images: int = 1000,
    seed: int = 0,
    device: str = "auto",
) -> OutliersResult:
    """Measure how well a run's losses tell foreign images from its test images; a run keeps it.

    Args:
        path: Run or model, as `load` takes it.
        data: Record store of the run's images, with a validation and a test split.
        others: Record stores of foreign images; of each the test split if there is one, or else
            its first.
        images: Images of each set at most, drawn by seed.
        seed: Draws them, and makes the foreign images that are made up.
        device: `cpu`, `cuda` ...; `auto` for the first GPU, or else the CPU.

    Raises:
        CheckpointError: No model at `path`.
        ConfigError: The network is not autoregressive.
        DataError: No test or validation split, or images smaller than the network's.
    """
    pretrained = load(path, device=choose_device(device))
    pretrained.model.config.require_causal()
    size = pretrained.model.config.image_size

    def drawn(store: RecordStore, split: str) -> Records:
        records = store.split(split)
        check_fits(records, pretrained.tokenizer)
        chosen = np.sort(stream(Stream.COMPARED, seed).permutation(len(records))[:images])
        return records.chosen(chosen)

    store = RecordStore.open(data)
    validation, test = drawn(store, "validation"), drawn(store, "test")
    foreign = {}
    for place in others:
        other = RecordStore.open(place)
        split = "test" if "test" in other.splits else next(iter(other.splits))
        foreign[str(place)] = drawn(other, split)
    pixels = images_at_size(test, size)
    made_up = {
        name: Records(name=name, images=made, labels=None, class_names=None)
        for name, made in foreign_images(pixels, seed=seed).items()
    }
    typical = float(image_losses(pretrained, validation, title="validation").mean())
    own = image_losses(pretrained, test, title="test")
    losses = {
        name: image_losses(pretrained, records, title=name)
        for name, records in {**made_up, **foreign}.items()
    }
    result = OutliersResult(
        seed=seed,
        typical_nats_per_pixel=typical,
        validation_images=len(validation),
        own=ImageSet(**_spread(own)),
        foreign=tuple(
            ForeignSet(
                name=name,
                **_spread(found),
                **dataclasses.asdict(separation(found, own, typical=typical)),
            )
            for name, found in losses.items()
        ),
    )
    if (path / "recipe.json").is_file():
        run = RunFolder.open(path)
        write_png(run.path / "extremes.png", _extremes(pretrained.tokenizer, pixels, own))
        with written_aside(run.path / "outliers.png") as aside:
            aside.write_bytes(_histograms({"test images": own, **losses}, typical))
        run.write("outliers.json", result)
    return result


def _spread(losses: Float64[np.ndarray, " image"]) -> dict[str, Any]:
    return {
        "images": len(losses),
        "nats_per_pixel": float(losses.mean()),
        "standard_deviation": float(losses.std()),
    }


def _extremes(
    tokenizer: ImageTokenizer,
    pixels: UInt8[np.ndarray, "image size size 3"],
    losses: Float64[np.ndarray, " image"],
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Return the likeliest images above the unlikeliest, as the palette shows them."""
    order = np.argsort(losses, kind="stable")
    shown = pixels[np.stack([order[:_EXTREMES], order[::-1][:_EXTREMES]])]
    size = tokenizer.image_size
    seen = tokenizer.decode(tokenizer.encode(shown.reshape(-1, size, size, 3)))
    return image_grid(seen.reshape(shown.shape), scale=max(1, _SHOWN_SIZE // size))


def _histograms(losses: dict[str, Float64[np.ndarray, " image"]], typical: float) -> bytes:
    """Return a PNG of each set's losses in a row of its own, over one axis."""
    edges = np.histogram_bin_edges(np.concatenate(list(losses.values())), _BINS)
    with matplotlib.rc_context():  # the reader's own matplotlib settings decide nothing
        matplotlib.rcdefaults()
        matplotlib.rcParams["font.size"] = 9
        figure = Figure(figsize=(6, 0.6 + 0.55 * len(losses)), layout="constrained")
        rows = figure.subplots(len(losses), sharex=True, squeeze=False)[:, 0]
        for place, (axes, (name, found)) in enumerate(zip(rows, losses.items(), strict=True)):
            axes.hist(found, edges, color=_FOREIGN if place else _OWN)
            axes.axvline(typical, color=_TYPICAL, lw=1, ls=(0, (5, 3)))
            axes.set_yticks([])
            axes.spines[["left", "top", "right"]].set_visible(False)
            label = axes.set_ylabel(
                name if len(name) <= 24 else f"…{name[-23:]}", rotation=0, ha="right", va="center"
            )
            label.set_parse_math(False)  # a folder's name may hold dollars
        rows[-1].set_xlabel("nats per pixel; dashed: the mean of validation images")
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=200)
    return png.getvalue()
