"""How well a network of hidden pixels predicts images: a bound, and what few passes cost.

Such a network has no likelihood that could be computed, but one that is bounded: the mean, over how
many pixels are hidden and which, of the loss of the hidden ones (`igpt.objectives.diffusion`). It
is estimated by a few draws of the mask for each image. The bound is of drawing one pixel at a time
in random order; `passes_curve` has that of drawing them in fewer passes, which is the price of
speed, in nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from igpt import processes
from igpt.data.store import Records
from igpt.errors import ConfigError
from igpt.evaluation.batches import measured_batches
from igpt.model.pretrained import Pretrained
from igpt.objectives.diffusion import image_any_share_masks
from igpt.objectives.masked import hidden_color_losses

DRAWS = 8
"""Masks of each image."""
PASSES = (8, 16, 64, 256)
"""In which images may be drawn."""


@dataclass(frozen=True, kw_only=True)
class PassesRow:
    """What images cost a network that draws them in so many passes."""

    passes: int
    nats_per_pixel: float
    """At most; rows differ by what pixels drawn together do not know of each other."""
    draw_spread: float | None
    """Standard deviation of that over draws of the mask, with one for each image."""


@dataclass(frozen=True, kw_only=True)
class PassesCurve:
    """Quality against passes."""

    images: int
    draws: int
    seed: int
    pixels: int
    """Of an image, which is the most passes that draw anything."""
    rows: tuple[PassesRow, ...]
    """The last is of one pixel at a time."""


@torch.inference_mode()
def image_bounds(
    pretrained: Pretrained,
    records: Records,
    *,
    draws: int = DRAWS,
    passes: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    title: str | None = None,
) -> Float64[np.ndarray, "draw image"]:
    """Return estimates of a bound on each image's negative log-likelihood, in nats per pixel.

    The mean over draws of one image is nearly its bound, that over images a measure of the network.

    Args:
        pretrained: A network that was trained with hidden pixels, of any number or not.
        records: Images, of the network's size or larger.
        draws: Masks of each image; spread evenly over how many pixels they hide.
        passes: In which images are drawn; one for each pixel by default.
        seed: Draws the masks.
        batch_size: Images at a time.
        title: What to call the progress bar; None for no bar.

    Raises:
        ConfigError: The network is autoregressive, or there is no draw or pass.
        DataError: The records are smaller than the network's images.
    """
    model = pretrained.model
    model.config.require_bert()
    for name, value in (("draws", draws), ("passes", 1 if passes is None else passes)):
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, got {value}")
    bounds = np.zeros((draws, len(records)))
    for part, tokens, _ in measured_batches(
        pretrained, records, batch_size=batch_size, title=title
    ):
        for number in range(draws):
            hidden = image_any_share_masks(
                tokens, seed, range(part.start, part.stop), draw=number, draws=draws, passes=passes
            )
            losses = hidden_color_losses(model, model.final_state(tokens, hidden), tokens, hidden)
            bounds[number, part] = losses.double().cpu().numpy()
    processes.merge(bounds)
    return bounds


def draw_spread(bounds: Float64[np.ndarray, "draw image"]) -> float | None:
    """Return the standard deviation over draws of the mean over images; None for a single draw."""
    return float(bounds.mean(axis=1).std(ddof=1)) if len(bounds) > 1 else None


def passes_curve(
    pretrained: Pretrained,
    records: Records,
    *,
    passes: Sequence[int] = PASSES,
    draws: int = DRAWS,
    seed: int = 0,
    title: str | None = None,
) -> PassesCurve:
    """Return what drawing in few passes costs: the bound of each, on the same masks' seeds.

    Arguments and errors as in `image_bounds`; of the passes, those are left out that are no fewer
    than an image has pixels, and drawing one pixel at a time is added.
    """
    pixels = pretrained.model.config.positions
    rows = []
    for count in (*sorted({count for count in passes if count < pixels}), pixels):
        bounds = image_bounds(
            pretrained, records, draws=draws, passes=count, seed=seed, title=title
        )
        rows.append(
            PassesRow(
                passes=count, nats_per_pixel=float(bounds.mean()), draw_spread=draw_spread(bounds)
            )
        )
    return PassesCurve(images=len(records), draws=draws, seed=seed, pixels=pixels, rows=tuple(rows))
