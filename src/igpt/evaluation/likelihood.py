"""How well a network predicts held-out images: nats and bits per pixel."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int, UInt8
from torch import Tensor

from igpt import processes
from igpt.data.store import Records
from igpt.errors import ConfigError
from igpt.evaluation.batches import measured_batches
from igpt.evaluation.bound import DRAWS, draw_spread, image_bounds
from igpt.model.config import OBJECTIVE_WORDS
from igpt.model.pretrained import Pretrained
from igpt.model.transformer import ImageGPT
from igpt.objectives.autoregressive import color_losses
from igpt.objectives.masked import hidden_color_loss


@dataclass(frozen=True, kw_only=True)
class LikelihoodResult:
    """Mean negative log-likelihood of a pixel over images."""

    objective: str
    """"autoregressive"; or "masked": then over hidden pixels only, given the others; or
    "diffusion": then a bound, which the likelihood is no worse than."""
    images: int
    nats_per_pixel: float
    """Over all pixels of each image (masked: over the hidden ones, averaged by image)."""
    bits_per_pixel: float
    """The same in bits: one pixel is one palette color, not three bytes."""
    nats_per_pixel_from_second: float | None
    """Over pixels 2 to n, as implementations without a start embedding report it."""
    chance_nats_per_pixel: float | None = None
    """What a network costs that knows nothing: the logarithm of how many colors there are. None,
    like the next, in results older than the question."""
    standard_error: float | None = None
    """Of `nats_per_pixel`, as images differ; None for a masked network and for a single image."""
    color_bits_per_pixel: float | None = None
    """What the 8-bit color takes once the token is known (`igpt.pixels.shades`), if asked for."""
    bits_per_dimension: float | None = None
    """Of 8-bit images: tokens and colors together, by pixel and channel, if asked for."""
    draws: int | None = None
    """Of a diffusion network: masks of each image. None of others, like the next."""
    draw_spread: float | None = None
    """Standard deviation of `nats_per_pixel` over draws of the mask, with one for each image."""


@torch.inference_mode()
def pixel_losses(
    model: ImageGPT, tokens: Int[Tensor, "batch position"]
) -> Float[Tensor, "batch position"]:
    """Return every pixel's negative log-likelihood under a causal network, in nats."""
    tokens = tokens.to(model.device)
    return color_losses(model(tokens), tokens)


@torch.inference_mode()
def next_pixel_distribution(
    model: ImageGPT, given: Int[Tensor, "batch given"]
) -> Float[Tensor, "batch color"]:
    """Return the probability of every color at the pixel after the `given` ones.

    Args:
        model: A causal network.
        given: The first tokens of each image, from none, `(batch, 0)`, to all but one.

    Raises:
        ConfigError: The network is not causal, or nothing is left to predict.
    """
    model.config.require_causal()
    if given.shape[1] >= model.config.positions:
        raise ConfigError(
            f"an image has {model.config.positions} pixels and {given.shape[1]} are given; give "
            "one less, so that there is a next one"
        )
    logits = model(F.pad(given.to(model.device), (0, 1)))  # of the last token nothing is seen
    return logits[:, -1].float().softmax(dim=-1)


@torch.inference_mode()
def surprise_maps(
    pretrained: Pretrained, images: UInt8[np.ndarray, "image height width 3"]
) -> Float32[np.ndarray, "image height width"]:
    """Return how much each pixel surprises the network, given those before it, in nats.

    The mean of a map is the image's nats per pixel.

    Raises:
        ConfigError: The network is not causal.
        DataError: The images are not of the network's size.
    """
    pretrained.model.config.require_causal()
    tokens = pretrained.tokenizer.encode(images)
    losses = [pixel_losses(pretrained.model, image[None]).cpu() for image in tokens]
    return pretrained.tokenizer.as_map(torch.cat(losses)).numpy()


@torch.inference_mode()
def image_losses(
    pretrained: Pretrained, records: Records, *, batch_size: int = 64, title: str | None = None
) -> Float64[np.ndarray, " image"]:
    """Return each image's negative log-likelihood, in nats per pixel; arguments as in `evaluate`.

    Raises:
        ConfigError: The network is not causal.
        DataError: The records are smaller than the network's images.
    """
    pretrained.model.config.require_causal()
    losses = np.zeros(len(records))
    for part, tokens, _ in measured_batches(
        pretrained, records, batch_size=batch_size, title=title
    ):
        losses[part] = pixel_losses(pretrained.model, tokens).double().mean(dim=1).cpu().numpy()
    processes.merge(losses)
    return losses


@torch.inference_mode()
def evaluate(
    pretrained: Pretrained,
    records: Records,
    *,
    images: int | None = None,
    batch_size: int = 64,
    draws: int | None = None,
    seed: int = 0,
    title: str | None = None,
) -> LikelihoodResult:
    """Measure the likelihood of images; of a diffusion network, a bound on it.

    Args:
        pretrained: Network and tokenizer.
        records: Images held out from its training.
        images: How many, always the same ones (`Records.sample`); all by default.
        batch_size: Images at a time; changes nothing in the result but rounding.
        draws: Of a diffusion network: masks of each image, 8 by default.
        seed: Decides which pixels are hidden from a network that is not causal.
        title: What to call the progress bar; None for no bar.

    Raises:
        ConfigError: Draws for a network of another kind.
        DataError: The records are smaller than the network's images.
    """
    if pretrained.learned_by == "diffusion":
        bounds = image_bounds(
            pretrained, records.sample(images), draws=DRAWS if draws is None else draws, seed=seed,
            batch_size=batch_size, title=title,
        )  # fmt: skip
        return _bounded(bounds, pretrained.model.config.colors)
    if draws is not None:
        raise ConfigError(
            "draws are masks of each image, by which the bound of a diffusion network is "
            f"estimated, and this one is {OBJECTIVE_WORDS[pretrained.learned_by]}; leave them out"
        )
    model, causal = pretrained.model, pretrained.model.config.causal
    total, squares, of_first_pixels, count = 0.0, 0.0, 0.0, 0  # sums over this process's batches
    for _, tokens, hidden in measured_batches(
        pretrained,
        records.sample(images),
        batch_size=batch_size,
        mask_seed=None if causal else (seed,),
        title=title,
    ):
        if hidden is None:
            losses = pixel_losses(model, tokens).double()
            of_images = losses.mean(dim=1)
            total += of_images.sum().item()
            squares += of_images.square().sum().item()
            of_first_pixels += losses[:, 0].sum().item()
        else:
            final = model.final_state(tokens, hidden)
            total += hidden_color_loss(model, final, tokens, hidden).item() * len(tokens)
        count += len(tokens)
    total, squares, of_first_pixels, seen = processes.total(
        [total, squares, of_first_pixels, float(count)]
    )
    count = int(seen)
    nats, positions = total / count, model.config.positions
    later = error = None
    if causal and count > 1:
        error = math.sqrt(max(squares / count - nats**2, 0.0) / (count - 1))
    if causal and positions > 1:
        later = (nats * positions - of_first_pixels / count) / (positions - 1)
    return LikelihoodResult(
        objective=pretrained.learned_by,
        images=count,
        nats_per_pixel=nats,
        bits_per_pixel=nats / math.log(2),
        nats_per_pixel_from_second=later,
        chance_nats_per_pixel=math.log(model.config.colors),
        standard_error=error,
    )


def _bounded(bounds: Float64[np.ndarray, "draw image"], colors: int) -> LikelihoodResult:
    """Return what draws of the mask say of a diffusion network."""
    of_images = bounds.mean(axis=0)
    nats, count = float(of_images.mean()), len(of_images)
    return LikelihoodResult(
        objective="diffusion",
        images=count,
        nats_per_pixel=nats,
        bits_per_pixel=nats / math.log(2),
        nats_per_pixel_from_second=None,
        chance_nats_per_pixel=math.log(colors),
        standard_error=float(of_images.std(ddof=1) / math.sqrt(count)) if count > 1 else None,
        draws=len(bounds),
        draw_spread=draw_spread(bounds),
    )
