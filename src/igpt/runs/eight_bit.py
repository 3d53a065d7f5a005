"""Bits of 8-bit images: what a network says of tokens, and counts of the colors behind them.

How a color is coded once its token is known is said in `igpt.pixels.shades`. The counts are those
of the train split of the store that a run is measured on; the run keeps them as `shades.npy` and
`shades.json`, and uses them again for the same images.
"""

import dataclasses
import math

import numpy as np
from tqdm import tqdm

from igpt.data.batches import images_at_size
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError, DataError
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.model.pretrained import Pretrained
from igpt.pixels.shades import Shades, fit_shades
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.kept import kept_if_possible
from igpt.runs.run import RunFolder
from igpt.seals import fingerprint

_MOST_FITTED = 100_000  # images whose colors are counted
_AT_ONCE = 1000  # images


def with_color_bits(
    result: LikelihoodResult,
    pretrained: Pretrained,
    store: RecordStore,
    records: Records,
    *,
    run: RunFolder | None,
) -> LikelihoodResult:
    """Return a likelihood with what the colors behind the tokens take, and the sum of both.

    Args:
        result: That of the records' tokens.
        pretrained: The network, whose palette and image size count.
        store: Whose train split the colors are counted in.
        records: The images.
        run: That keeps the counts; None to keep nothing.

    Raises:
        ConfigError: The records are tokens, which have no other colors.
        DataError: There is no train split, or images are smaller than the network's.
    """
    bits = color_bits(pretrained.tokenizer, store, records, run=run)
    return dataclasses.replace(
        result, color_bits_per_pixel=bits, bits_per_dimension=(result.bits_per_pixel + bits) / 3
    )


def color_bits(
    tokenizer: ImageTokenizer, store: RecordStore, records: Records, *, run: RunFolder | None
) -> float:
    """Return the bits of a pixel's color once its token is known; arguments as above.

    Raises:
        ConfigError: The records are tokens, which have no other colors.
        DataError: There is no train split, or images are smaller than the network's.
    """
    if records.token_palette is not None:
        raise ConfigError(
            f"the {records.described} are tokens, whose colors are the palette's; bits of 8-bit "
            "images want the images themselves, prepared without tokens"
        )
    shades = _shades(tokenizer, store, run)
    records.require_fit(tokenizer.image_size)
    total = 0.0
    for start in tqdm(range(0, len(records), _AT_ONCE), desc="8-bit colors", disable=None):
        images = records.squares(slice(start, start + _AT_ONCE), tokenizer.image_size)
        total += float(np.sum(shades.nats(images)))
    return total / (len(records) * tokenizer.positions) / math.log(2)


def require_likelihood(pretrained: Pretrained) -> None:
    """See that a network has a likelihood, or a bound on it, to which colors can be added.

    Raises:
        ConfigError: It was trained with a fixed share of hidden pixels (BERT).
    """
    if pretrained.learned_by == "masked":
        raise ConfigError(
            "bits of 8-bit images want a likelihood, which autoregressive and diffusion networks "
            "have, and this one is BERT's; choose another run"
        )


def _shades(tokenizer: ImageTokenizer, store: RecordStore, run: RunFolder | None) -> Shades:
    made_from = fingerprint([store.identity, tokenizer.image_size])
    file = None if run is None else run.path / "shades.npy"
    if file is not None:
        try:
            return Shades.load(file, tokenizer.palette, made_from=made_from)
        except DataError:  # not there, or of other images: it is made anew
            pass
    train = store.split("train").sample(_MOST_FITTED)
    shades = fit_shades(tokenizer.palette, images_at_size(train, tokenizer.image_size))
    if file is not None:
        with kept_if_possible():
            shades.save(file, made_from=made_from)
    return shades
