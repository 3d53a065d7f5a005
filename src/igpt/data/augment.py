"""Augmentation: stored squares to what the model sees in training, drawn from the seed and step.

    none                 the whole square
    flip                 the square or its mirror image
    reflect-crop-flip    4 pixels of reflection on each side, then a random crop of the padded
                         square or of its mirror image (CIFAR, Chen et al. 2020, section 3.1)
    random-resize-crop   shorter side to a random length in [256, 384], then a random crop of 224
                         (ImageNet, the same section)

Each ends with a resize to the model's resolution, which does nothing where the store has that size
already. `random-resize-crop` makes one resize of the paper's two: a crop of 224 from a square of
`length` is a crop of side S * 224 / length from the stored square of side S, and Pillow resamples
such a box straight from the stored pixels, at fractions of a pixel. A store keeps the center square
of an image, so the far ends of its longer side are never seen, and one whose smallest crops would
have to be enlarged is refused. Store it at 384 or more; or let the store itself hold crops of whole
images, drawn by the same `crop_boxes` (`igpt data prepare --crops`), and use `none`.

Random numbers are drawn for the whole batch of a step, and each process uses those of its share,
so the batch is the same on any number of processes.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from igpt.pixels.filters import DEFAULT_FILTER, ResamplingFilter
from igpt.pixels.images import resize_images
from igpt.randomness import Stream, stream

Augmentation = Literal["none", "random-resize-crop", "reflect-crop-flip", "flip"]

PADDING = 4
SHORTEST, LONGEST, CROP = 256, 384, 224


def augment(
    images: UInt8[np.ndarray, "batch stored stored 3"],
    augmentation: Augmentation,
    *,
    image_size: int,
    seed: int,
    step: int,
    rank: int = 0,
    ranks: int = 1,
    filter: ResamplingFilter = DEFAULT_FILTER,
) -> UInt8[np.ndarray, "batch {image_size} {image_size} 3"]:
    """Return the images as the model sees them at `step`.

    A pure function of its arguments.

    Args:
        images: The share of `rank` in the batch, every `ranks`-th image from number `rank` on.
        augmentation: What to do; "none" only resizes, as evaluation does.
        image_size: Side of the model's images; the stored ones are at least as large.
        seed: The seed of the run.
        step: The step at which these images are read.
        rank: Number of this process.
        ranks: How many processes share the batch.
        filter: How pixels are averaged where the stored images are larger.
    """
    stored = images.shape[1]
    assert stored >= image_size, f"{stored}x{stored} pixels for a model that reads {image_size}"
    generator = stream(Stream.AUGMENTATION, seed, step)
    batch, share = len(images) * ranks, slice(rank, None, ranks)
    boxes = None
    if augmentation == "random-resize-crop":
        boxes = crop_boxes(generator, stored, stored, batch)[share]
    elif augmentation != "none":
        mirrored = generator.integers(0, 2, size=batch).astype(bool)[share]
        images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        if augmentation == "reflect-crop-flip":
            offset = generator.integers(0, 2 * PADDING + 1, size=(batch, 2))[share]
            images = _reflected_crop(images, offset)
    return resize_images(images, image_size, filter, boxes)


def crop_boxes(
    generator: np.random.Generator, height: int, width: int, count: int
) -> Float64[np.ndarray, "{count} 4"]:
    """Draw boxes (top, left, bottom, right) of `random-resize-crop` in an image of this size.

    They are in its own pixels: where a crop of 224 lies once the shorter side has a random length.
    """
    # Three numbers in [0, 1) a box: the first boxes are the same however many follow.
    draws = generator.random((count, 3))
    sides = np.array([height, width])
    length = np.floor(SHORTEST + (LONGEST - SHORTEST + 1) * draws[:, :1])
    resized = np.rint(sides * length / min(height, width))  # (count, 2)
    offset = np.floor((resized - CROP + 1) * draws[:, 1:])  # top, left
    unit = sides / resized  # of the image's pixels in one of the resized
    return np.concatenate([offset * unit, np.minimum((offset + CROP) * unit, sides)], axis=1)


def _reflected_crop(
    images: UInt8[np.ndarray, "batch size size 3"], offset: Int64[np.ndarray, "batch 2"]
) -> UInt8[np.ndarray, "batch size size 3"]:
    around = (PADDING, PADDING)
    padded = np.pad(images, ((0, 0), around, around, (0, 0)), mode="reflect")
    window = np.arange(images.shape[1])
    rows, columns = offset[:, :1] + window, offset[:, 1:] + window  # each (batch, size)
    batch = np.arange(len(images))[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]]
