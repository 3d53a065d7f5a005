"""Telling foreign images from a network's own by their likelihood, and how that fails.

What a network finds unlikely should be foreign to what it learned from, so the plain score of an
image is its loss: nats per pixel, higher for foreign. The score is known to fail. Networks that
predict pixels find simple images, flat, smooth or dark ones, *likelier* than the images they were
trained on, whatever these show (Nalisnick et al. 2019, "Do Deep Generative Models Know What They
Don't Know?", ICLR): the AUROC falls below 0.5, and near 0 nearly every foreign image looks more
familiar than nearly every own one. A low loss says that an image is easy to predict, not that it is
like the training images.

Own images are not the likeliest but the typical ones, so a second score is how far a loss lies from
the mean loss of validation images, to either side (Nalisnick et al. 2019, "Detecting
Out-of-Distribution Inputs to Deep Generative Models Using Typicality", arXiv 1906.02994, for one
image at a time). It sees the simple images, too, and is blind to foreign ones whose loss happens to
be an ordinary one.

    losses = image_losses(pretrained, test)
    found = separation(image_losses(pretrained, foreign), losses, typical=validation.mean())
    found.auroc_loss, found.auroc_typicality
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8
from sklearn.metrics import roc_auc_score

from igpt.data.digits import placed_digits
from igpt.errors import ConfigError
from igpt.pixels.images import square
from igpt.randomness import Stream, stream

_DIGIT = 8  # side of scikit-learn's digits, in pixels


@dataclass(frozen=True, kw_only=True)
class Separation:
    """How well two scores tell foreign images from own ones.

    An AUROC is the share of pairs, one foreign and one own image, in which the foreign one has the
    higher score; equal scores count half. 0.5 is chance.
    """

    auroc_loss: float
    """Of the loss; below 0.5, the foreign images are the likelier ones."""
    auroc_typicality: float
    """Of the distance between the loss and what is typical."""


def separation(
    foreign: Float64[np.ndarray, " foreign"],
    own: Float64[np.ndarray, " own"],
    *,
    typical: float,
) -> Separation:
    """Return how well losses tell foreign images from own ones.

    Args:
        foreign: Losses of images of another kind.
        own: Losses of images like those of training, held out.
        typical: Mean loss of other such images; not of `own`, which would favor them.

    Raises:
        ConfigError: There are no losses of a kind, or they are not finite.
    """
    losses = np.concatenate([foreign, own])
    if not len(foreign) or not len(own) or not np.isfinite([*losses, typical]).all():
        raise ConfigError(
            f"telling images apart takes finite losses of both kinds, got {len(foreign)} foreign "
            f"and {len(own)} own ones; give more images, or a network that was trained longer"
        )
    is_foreign = np.repeat([1, 0], [len(foreign), len(own)])
    return Separation(
        auroc_loss=float(roc_auc_score(is_foreign, losses)),
        auroc_typicality=float(roc_auc_score(is_foreign, np.abs(losses - typical))),
    )


def foreign_images(
    own: UInt8[np.ndarray, "image size size 3"], *, seed: int = 0
) -> dict[str, UInt8[np.ndarray, "_ size size 3"]]:
    """Return sets of images that are surely foreign, as many as there are `own` ones in each.

    A pure function of its arguments. By name:

    - `noise`: every byte drawn at random, so nothing can be predicted;
    - `flat`: one color drawn at random, so everything can;
    - `digits`: scikit-learn's test digits at random places of a black canvas, shrunk to fit if the
      images are smaller than a digit; each once and no more where there is only one place;
    - `shuffled`: each of the own images with its pixels in random order, the same colors without
      the shapes.
    """
    count, size = own.shape[:2]
    noise, flat, order = (stream(Stream.FOREIGN, seed, kind) for kind in range(3))
    canvas = max(size, _DIGIT)
    once = len(placed_digits(canvas, placements=1, seed=seed)["test"])
    placements = 1 if canvas == _DIGIT else math.ceil(count / once)
    digits = placed_digits(canvas, placements=placements, seed=seed)["test"]
    placed = np.concatenate([digits.image(index).read() for index in range(len(digits))])
    places = np.linspace(0, len(placed) - 1, min(count, len(placed))).round().astype(int)
    shuffled = order.permuted(np.arange(size**2)[None].repeat(count, axis=0), axis=1)
    return {
        "noise": noise.integers(0, 256, own.shape, dtype=np.uint8),
        "flat": np.broadcast_to(flat.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8), own.shape),
        "digits": np.stack([square(placed[place], size) for place in places]),
        "shuffled": np.take_along_axis(
            own.reshape(count, size**2, 3), shuffled[..., None], axis=1
        ).reshape(own.shape),
    }
