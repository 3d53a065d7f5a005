"""Every stream of random numbers, named once.

    generator = stream(Stream.ORDER, seed, epoch)                      # NumPy's
    torch.manual_seed(stream_seed(Stream.DROPOUT, seed, step))         # torch's, scikit-learn's

A stream is a pure function of its name, the seed and the numbers after it (an epoch, a step, an
image), so whatever is drawn can be drawn again alone. No two share numbers by accident: the name is
part of what a generator is seeded with, and a trailing zero makes another stream.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for; a value once used is not given to anything else."""

    ORDER = 0
    """Of the records, an epoch."""
    AUGMENTATION = 1
    """Of the images of a step."""
    HOLDOUT = 2
    """Which records are held out of a split."""
    CROPS = 3
    """Of an image, for a store."""
    DIGITS = 4
    """Which of scikit-learn's digits are for testing."""
    PLACEMENTS = 5
    """Where on their canvas digits lie."""
    PALETTE = 6
    """The pixels and first colors that k-means begins with."""
    WEIGHTS = 7
    """Fresh weights of a network."""
    MASKS = 8
    """Pixels hidden in a step of training."""
    DROPOUT = 9
    """Of a step of training."""
    IMAGE_MASKS = 10
    """Pixels hidden of an image in evaluation."""
    TIES = 11
    """Between classes with as many votes."""
    SUBSETS = 12
    """Labelled images of the low-data protocol."""
    FOLDS = 13
    """Of cross-validation."""
    COMPLETIONS = 15
    """Colors of drawn pixels."""
    SHOWN = 16
    """Which images a picture shows."""
    FOREIGN = 17
    """Foreign images that are made up."""
    COMPARED = 18
    """Which images are compared with foreign ones."""
    SAMPLE = 19
    """Records that stand for all."""
    DIFFUSION_MASKS = 20
    """Pixels hidden of an image, any number of them, in evaluation."""
    READING_ORDER = 21
    """Of the pixels of every image."""
    SHADES = 22
    """Images that weights of shades are chosen by."""


def stream(name: Stream, seed: int, *numbers: int) -> np.random.Generator:
    """Return the generator of a stream, at its start."""
    return np.random.default_rng(_sequence(name, seed, *numbers))


def stream_seed(name: Stream, seed: int, *numbers: int, bits: int = 63) -> int:
    """Return a seed for a generator of others; scikit-learn's take 32 bits."""
    (state,) = _sequence(name, seed, *numbers).generate_state(1, np.uint64)
    return int(state) >> (64 - bits)


def _sequence(name: Stream, seed: int, *numbers: int) -> np.random.SeedSequence:
    # A spawn key is set apart from the seed, and unlike a seed it is not filled up with zeros.
    return np.random.SeedSequence(seed, spawn_key=(name, *numbers))
