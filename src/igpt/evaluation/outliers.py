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

    compared = compare_losses(pretrained, store, others={"elsewhere": records})
    compared.result.foreign[0].auroc_loss, compared.result.foreign[0].auroc_typicality
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from sklearn.metrics import roc_auc_score

from igpt.data.batches import check_fits, images_at_size
from igpt.data.digits import placed_digits
from igpt.data.store import Records, RecordStore
from igpt.errors import ConfigError
from igpt.evaluation.likelihood import image_losses
from igpt.model.pretrained import Pretrained
from igpt.pixels.images import square
from igpt.randomness import Stream, stream

OWN = "own test images"
"""What a network's own images are called beside foreign ones."""

_DIGIT = 8  # side of scikit-learn's digits, in pixels
_BINS = 60


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The losses of a set of images."""

    images: int
    nats_per_pixel: float
    """Mean."""
    standard_deviation: float

    @classmethod
    def of(cls, losses: Float64[np.ndarray, " image"]) -> "ImageSet":
        """Return these losses, summed up."""
        return cls(
            images=len(losses),
            nats_per_pixel=float(losses.mean()),
            standard_deviation=float(losses.std()),
        )


@dataclass(frozen=True, kw_only=True)
class ForeignSet(ImageSet):
    """The same of foreign images, and how well two scores tell them from the own ones.

    An AUROC is the share of pairs, one foreign and one own image, in which the foreign one has the
    higher score; equal scores count half. 0.5 is chance.
    """

    name: str
    auroc_loss: float
    """Of the loss; below 0.5, the foreign images are the likelier ones."""
    auroc_typicality: float
    """Of the distance between the loss and what is typical."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How the losses of each set are spread: so many in each of a row of bins."""

    edges: tuple[float, ...]
    """Of the bins, in nats per pixel; one more than there are bins."""
    counts: dict[str, tuple[int, ...]]
    """Images in each bin, by set; the own ones first."""

    @classmethod
    def of(cls, losses: dict[str, Float64[np.ndarray, " _"]]) -> "Spread":
        """Return how these are spread, over the same bins."""
        edges = np.histogram_bin_edges(np.concatenate(list(losses.values())), _BINS)
        counts = {
            name: tuple(np.histogram(values, edges)[0].tolist()) for name, values in losses.items()
        }
        return cls(edges=tuple(edges.tolist()), counts=counts)


@dataclass(frozen=True, kw_only=True)
class OutliersResult:
    """How well likelihood tells foreign images from a network's own."""

    seed: int
    typical_nats_per_pixel: float
    """Mean loss of validation images."""
    validation_images: int
    own: ImageSet
    """The test images."""
    foreign: tuple[ForeignSet, ...]
    spread: Spread | None = None
    """Of all losses; None in results older than the question."""


@dataclass(frozen=True, kw_only=True)
class ComparedLosses:
    """The result, and the losses of single images behind it."""

    result: OutliersResult
    pixels: UInt8[np.ndarray, "own size size 3"]
    """The own test images, at the network's size."""
    names: list[str]
    """What each of them is called."""
    own: Float64[np.ndarray, " own"]
    """Loss of each, in nats per pixel."""
    foreign: dict[str, Float64[np.ndarray, " _"]]
    """Losses of each foreign set, by name."""


def compare_losses(
    pretrained: Pretrained,
    store: RecordStore,
    *,
    others: Mapping[str, Records] = MappingProxyType({}),
    images: int = 1000,
    seed: int = 0,
) -> ComparedLosses:
    """Return the losses of a network's test images and of foreign ones.

    Args:
        pretrained: An autoregressive network.
        store: Its own images, with a validation and a test split.
        others: Sets of foreign images by name, all of which are measured.
        images: Images at most of each set that is drawn or made up here.
        seed: Draws them, and makes the foreign images that are made up.

    Raises:
        ConfigError: The network is not autoregressive, or `others` have the name of a set that is
            measured anyway.
        DataError: No test or validation split, images smaller than the network's, or tokens of
            another palette.
    """
    pretrained.model.config.require_causal()

    def numbers(records: Records) -> Int64[np.ndarray, " chosen"]:
        return np.sort(stream(Stream.COMPARED, seed).permutation(len(records))[:images])

    def drawn(store: RecordStore, split: str) -> Records:
        records = store.split(split)
        check_fits(records, pretrained.tokenizer)
        return records.chosen(numbers(records))

    validation, test = drawn(store, "validation"), drawn(store, "test")
    names = store.split("test").titles(numbers(store.split("test")))
    for records in others.values():
        check_fits(records, pretrained.tokenizer)
    pixels = images_at_size(test, pretrained.model.config.image_size)
    made_up = {
        name: Records(name=name, images=made, labels=None, class_names=None)
        for name, made in foreign_images(pixels, seed=seed).items()
    }
    if taken := others.keys() & {OWN, *made_up}:
        raise ConfigError(
            f"{min(taken)!r} is what images that are measured anyway are called; give the others "
            "another name, such as a folder's full path"
        )
    typical = float(image_losses(pretrained, validation, title="validation").mean())
    own = image_losses(pretrained, test, title="test")
    foreign = {
        name: image_losses(pretrained, records, title=name)
        for name, records in {**made_up, **others}.items()
    }
    result = OutliersResult(
        seed=seed,
        typical_nats_per_pixel=typical,
        validation_images=len(validation),
        own=ImageSet.of(own),
        foreign=tuple(
            foreign_set(name, losses, own, typical=typical) for name, losses in foreign.items()
        ),
        spread=Spread.of({OWN: own, **foreign}),
    )
    return ComparedLosses(result=result, pixels=pixels, names=names, own=own, foreign=foreign)


def foreign_set(
    name: str,
    foreign: Float64[np.ndarray, " foreign"],
    own: Float64[np.ndarray, " own"],
    *,
    typical: float,
) -> ForeignSet:
    """Return how well losses tell foreign images from own ones.

    Args:
        name: Of the foreign images.
        foreign: Their losses.
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
    return ForeignSet(
        name=name,
        auroc_loss=float(roc_auc_score(is_foreign, losses)),
        auroc_typicality=float(roc_auc_score(is_foreign, np.abs(losses - typical))),
        **vars(ImageSet.of(foreign)),
    )


def foreign_images(
    own: UInt8[np.ndarray, "image size size 3"], *, seed: int = 0
) -> dict[str, UInt8[np.ndarray, "_ size size 3"]]:
    """Return sets of images that are surely foreign, as many as there are `own` ones in each.

    A pure function of its arguments. By name:

    - `noise`: every byte drawn at random, so nothing can be predicted;
    - `flat`: one color drawn at random, so everything can;
    - `digits`: scikit-learn's test digits anywhere on a black canvas, shrunk to fit if the images
      are smaller than a digit; each once and no more where it fits in one way only;
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
    spread = np.linspace(0, len(placed) - 1, min(count, len(placed))).round().astype(int)
    shuffled = order.permuted(np.arange(size**2)[None].repeat(count, axis=0), axis=1)
    return {
        "noise": noise.integers(0, 256, own.shape, dtype=np.uint8),
        "flat": np.broadcast_to(flat.integers(0, 256, (count, 1, 1, 3), dtype=np.uint8), own.shape),
        "digits": np.stack([square(placed[index], size) for index in spread]),
        "shuffled": np.take_along_axis(
            own.reshape(count, size**2, 3), shuffled[..., None], axis=1
        ).reshape(own.shape),
    }
