"""Hold-outs: which images of a training split are kept for validation and testing.

Where there are labels, each class gives its share. Copies of one image stay together, so that none
is both learned from and tested on. All are pure functions of what they are given.
"""

import dataclasses

import numpy as np
from jaxtyping import Int64

from igpt.data.config import HELD_OUT, NONE, StoreConfig
from igpt.data.sources import Source
from igpt.errors import ConfigError
from igpt.randomness import Stream, stream


def with_fractions(config: StoreConfig, source: Source) -> StoreConfig:
    """Return the settings with the fractions that are held out of this source's training images.

    They are 0 for a split that the source has itself, and where there are no training images.

    Raises:
        ConfigError: A fraction other than 0 is asked for and can have no use.
    """
    fractions = {"test": config.test_fraction, "validation": config.validation_fraction}
    for name, fraction in fractions.items():
        if "train" in source.splits and name not in source.splits:
            fractions[name] = HELD_OUT if fraction is None else fraction
            continue
        if fraction:
            raise ConfigError(
                f"--{name}-fraction {fraction} has no use, since {_why_useless(name, source)}"
            )
        fractions[name] = 0.0
    return dataclasses.replace(
        config, test_fraction=fractions["test"], validation_fraction=fractions["validation"]
    )


def _why_useless(name: str, source: Source) -> str:
    """Return why nothing can be held out for a split, and what to do."""
    if name not in source.splits:
        return "there are no training images; leave it out"
    called = source.called.get(name, name)
    text = (
        f"{called} of the source is the {name} split; leave it out, or set {called} aside with "
        f"--split {name}={NONE}"
    )
    if name == "validation" and "test" not in source.splits:
        text += f", or make it the test split with --split test={called}"
    return text


def hold_out(
    groups: Int64[np.ndarray, " image"],
    labels: Int64[np.ndarray, " image"] | None,
    fraction: float,
    seed: int,
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " held"]]:
    """Return the indices of the images to keep and of those to hold out, each in rising order.

    `fraction` of the images are held out, rounded, but at least one is unless `fraction` is 0. Each
    class gives its share, rounded up or down, but keeps at least one group of images. Where it
    cannot give its share, others give more.

    Args:
        groups: Images with the same number stay together, and count for the class of one of them.
        labels: Class numbers; without them, all images are of one class.
        fraction: In [0, 1).
        seed: Chooses among the images of a class.
    """
    images = len(groups)
    count = max(round(images * fraction), 1 if fraction else 0)
    shuffled = stream(Stream.HOLDOUT, seed).permutation(images)
    _, first, sizes = np.unique(groups[shuffled], return_index=True, return_counts=True)
    order = np.argsort(first)  # the groups as the permutation comes upon them
    leaders, sizes = shuffled[first[order]], sizes[order]
    classes = np.zeros(len(order), np.int64) if labels is None else labels[leaders]

    share = np.bincount(classes, sizes) * (count / images)
    quota = np.floor(share + 1e-9)
    met = np.full(len(quota), len(classes))
    np.minimum.at(met, classes, np.arange(len(classes)))  # ties go by the permutation too
    most_lacking = np.lexsort([met, quota - share])[: count - int(quota.sum())]
    quota[most_lacking] += 1
    groups_left = np.bincount(classes)
    held = np.zeros(len(order), bool)
    left = count
    for any_class in (False, True):  # shares first, then what classes of one image could not give
        for index, (label, size) in enumerate(zip(classes.tolist(), sizes.tolist(), strict=True)):
            room = left if any_class else quota[label]
            if not held[index] and size <= room and groups_left[label] > 1:
                held[index] = True
                groups_left[label] -= 1
                quota[label] -= size
                left -= size
        if left <= 0:
            break
    chosen = np.isin(groups, groups[leaders[held]])
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
