"""Half-seen images, finished; and images from nothing.

The first rows of an image are given, the rest is drawn pixel by pixel (Chen et al. 2020, figure 1).
"""

import numpy as np
import torch
from jaxtyping import UInt8
from tqdm import tqdm

from igpt.errors import ConfigError
from igpt.model.config import SamplingConfig
from igpt.model.pretrained import Pretrained
from igpt.model.sampling import continue_tokens
from igpt.randomness import Stream, stream_seed

_NOT_GIVEN = 128  # the grey of rows that are not shown


def complete_images(
    pretrained: Pretrained,
    images: UInt8[np.ndarray, "image height width 3"],
    *,
    rows: int,
    samples: int = 1,
    sampling: SamplingConfig | None = None,
    seed: int = 0,
    batch_size: int = 32,
    title: str | None = None,
) -> UInt8[np.ndarray, "image sample height width 3"]:
    """Return `samples` completions of each image, all keeping its first `rows` rows.

    What is kept is kept as the palette shows it.

    Args:
        pretrained: A causal network and its tokenizer.
        images: Images of the network's size.
        rows: How many rows are given, from 0 to all but one.
        samples: Completions of each image.
        sampling: Temperature and the like.
        seed: The same seed, images and batch size give the same completions.
        batch_size: Most sequences that are drawn at a time.
        title: What to call the progress bar; None for no bar.

    Raises:
        ConfigError: No such number of rows, the network is not causal, or there is no compiler
            where one is wanted.
        DataError: The images are not of the network's size.
    """
    size = pretrained.model.config.image_size
    if not 0 <= rows < size:
        raise ConfigError(
            f"rows must lie between 0 and {size - 1} for {size}x{size} images, got {rows}; "
            f"half an image is {pretrained.tokenizer.half_rows}"
        )
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    model = pretrained.model
    given = pretrained.tokenizer.given(pretrained.tokenizer.encode(images), rows)
    generator = torch.Generator(device=model.device)
    generator.manual_seed(stream_seed(Stream.COMPLETIONS, seed))
    done = []
    total = len(given) * samples
    with tqdm(total=total, desc=title, unit="image", disable=None if title else True) as bar:
        for some in given.split(max(1, batch_size // samples)):
            for first in range(0, samples, batch_size):  # once, unless a batch is less than these
                count = min(batch_size, samples - first)
                tokens = continue_tokens(model, some, sampling, samples=count, generator=generator)
                done.append(pretrained.tokenizer.decode(tokens.cpu()))
                bar.update(len(tokens))
    return np.concatenate(done).reshape(len(images), samples, size, size, 3)


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
    rows: int,
) -> UInt8[np.ndarray, "image column height width 3"]:
    """Return the cells of the usual picture: given | completions | original, a row an image."""
    given = pretrained.tokenizer.decode(pretrained.tokenizer.encode(images))
    given[:, rows:] = _NOT_GIVEN
    return np.concatenate([given[:, None], completions, images[:, None]], axis=1)
