"""Half-seen images, finished; and images from nothing.

The first rows of an image are given, the rest is drawn pixel by pixel (Chen et al. 2020, figure 1);
or, by a network that was trained with hidden pixels, any part of it (`igpt.model.unmasking`).
"""

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from tqdm import tqdm

from igpt.errors import ConfigError
from igpt.model.config import SamplingConfig
from igpt.model.pretrained import Pretrained
from igpt.model.sampling import continue_tokens
from igpt.model.unmasking import draw_hidden
from igpt.pixels.regions import below, require_some
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.randomness import Stream, stream_seed

_NOT_GIVEN = 128  # the grey of pixels that are not shown


def complete_images(
    pretrained: Pretrained,
    images: UInt8[np.ndarray, "image height width 3"],
    *,
    rows: int | None = None,
    region: Bool[np.ndarray, "_height _width"] | None = None,
    samples: int = 1,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    batch_size: int = 32,
    title: str | None = None,
) -> UInt8[np.ndarray, "image sample height width 3"]:
    """Return `samples` completions of each image, all keeping what is given of it.

    What is kept is kept as the palette shows it.

    Args:
        pretrained: Network and tokenizer.
        images: Images of the network's size.
        rows: How many rows are given, from 0 to all but one; or else ...
        region: ... which pixels are not; by default the half of them that is read last.
        samples: Completions of each image.
        sampling: Temperature and the like.
        seed: The same seed, images and batch size give the same completions.
        batch_size: Most sequences that are drawn at a time.
        title: What to call the progress bar; None for no bar.

    Raises:
        ConfigError: No such number of rows, a region of another size, of all pixels or none, or of
            others than the last in an autoregressive network's reading order; sampling of another
            kind of network, or no compiler where one is wanted.
        DataError: The images are not of the network's size.
    """
    tokenizer, size = pretrained.tokenizer, pretrained.model.config.image_size
    hidden = tokenizer.positions_of(hidden_region(tokenizer, rows=rows, region=region))
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    model, sampling = pretrained.model, sampling or SamplingConfig()
    sampling.require_fitting(model.config)
    given = tokenizer.encode(images).to(model.device)
    if model.config.causal:
        given = given[:, : first_hidden(tokenizer, hidden)]
    generator = torch.Generator(device=model.device)
    generator.manual_seed(stream_seed(Stream.COMPLETIONS, seed))
    done = []
    total = len(given) * samples
    with tqdm(total=total, desc=title, unit="image", disable=None if title else True) as bar:
        for some in given.split(max(1, batch_size // samples)):
            for first in range(0, samples, batch_size):  # once, unless a batch is less than these
                count = min(batch_size, samples - first)
                if model.config.causal:
                    tokens = continue_tokens(
                        model, some, sampling, samples=count, generator=generator
                    )
                else:
                    tokens = some.repeat_interleave(count, dim=0)
                    where = hidden.to(model.device).expand_as(tokens)
                    tokens = draw_hidden(model, tokens, where, sampling, generator=generator)
                done.append(tokenizer.decode(tokens.cpu()))
                bar.update(len(tokens))
    return np.concatenate(done).reshape(len(images), samples, size, size, 3)


def hidden_region(
    tokenizer: ImageTokenizer,
    *,
    rows: int | None = None,
    region: Bool[np.ndarray, "_height _width"] | None = None,
) -> Bool[np.ndarray, "height width"]:
    """Return which pixels are not given, as `complete_images` is asked for them.

    Raises:
        ConfigError: No such number of rows, a region of another size, of all pixels or none, or
            both are said.
    """
    if rows is not None and region is not None:
        raise ConfigError("give either rows or a region, and not both")
    if rows is not None:
        return below(rows, tokenizer.image_size)
    if region is None:
        return tokenizer.second_half
    require_some(region, tokenizer.image_size, "the region")
    return region


def first_hidden(tokenizer: ImageTokenizer, hidden: Bool[torch.Tensor, " position"]) -> int:
    """Return how many pixels are given to an autoregressive network: those before the first hidden.

    Raises:
        ConfigError: One after it is given as well.
    """
    shown = len(hidden) - int(hidden.sum())
    if hidden[:shown].any():
        raise ConfigError(
            "an autoregressive network draws what comes last in its reading order "
            f"({tokenizer.order}), and this region does not; give one that does, or a network that "
            "was trained with hidden pixels (BERT or diffusion), which draws any region"
        )
    return shown


def sample_images(
    pretrained: Pretrained,
    count: int,
    *,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    batch_size: int = 32,
    title: str | None = None,
) -> UInt8[np.ndarray, "image height width 3"]:
    """Return `count` images drawn from nothing; see `complete_images` for the rest."""
    size = pretrained.model.config.image_size
    nothing = np.zeros((1, size, size, 3), dtype=np.uint8)
    return complete_images(
        pretrained,
        nothing,
        rows=0,
        samples=count,
        sampling=sampling,
        seed=seed,
        batch_size=batch_size,
        title=title,
    )[0]


def completion_rows(
    pretrained: Pretrained,
    images: UInt8[np.ndarray, "image height width 3"],
    completions: UInt8[np.ndarray, "image sample height width 3"],
    *,
    rows: int | None = None,
    region: Bool[np.ndarray, "_height _width"] | None = None,
) -> UInt8[np.ndarray, "image column height width 3"]:
    """Return the cells of the usual picture: given | completions | original, a row an image."""
    tokenizer = pretrained.tokenizer
    given = tokenizer.decode(tokenizer.encode(images))
    given[:, hidden_region(tokenizer, rows=rows, region=region)] = _NOT_GIVEN
    return np.concatenate([given[:, None], completions, images[:, None]], axis=1)
