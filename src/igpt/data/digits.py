"""Scikit-learn's handwritten digits, 8x8, each at random positions of a black canvas."""

import numpy as np
from jaxtyping import Int64

from igpt.data.sources import SourceImage, SourceSplit
from igpt.errors import ConfigError
from igpt.randomness import Stream, stream, stream_seed

SIDE = 8
"""Of a digit, in pixels."""


def placed_digits(image_size: int, *, placements: int, seed: int) -> dict[str, SourceSplit]:
    """Return scikit-learn's 1,797 digits, a stratified fifth of them as the test split.

    Every placement of a digit is in the split of that digit, so that no shape is in both.

    Args:
        image_size: Side of the canvas, in pixels.
        placements: Records of each digit.
        seed: Chooses the test digits and the positions.

    Raises:
        ConfigError: The canvas is smaller than a digit, or there are no placements.
    """
    if image_size < SIDE or placements < 1:
        raise ConfigError(
            f"digits need an image size of at least {SIDE} and at least 1 placement, got "
            f"image_size={image_size} and placements={placements}"
        )
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, target = load_digits(return_X_y=True)  # values lie in [0, 16]
    pixels = np.rint(np.asarray(values) * 255 / 16).astype(np.uint8).reshape(-1, SIDE, SIDE)
    parts = train_test_split(
        np.arange(len(pixels)),
        test_size=0.2,
        stratify=target,
        random_state=stream_seed(Stream.DIGITS, seed, bits=32),
    )
    generator = stream(Stream.PLACEMENTS, seed)
    corners = generator.integers(0, image_size - SIDE + 1, size=(len(pixels), placements, 2))

    def split(numbers: Int64[np.ndarray, " image"]) -> SourceSplit:
        def image(index: int) -> SourceImage:
            digit = numbers[index]
            canvases = np.zeros((placements, image_size, image_size, 3), dtype=np.uint8)
            for canvas, (top, left) in zip(canvases, corners[digit], strict=True):
                canvas[top : top + SIDE, left : left + SIDE] = pixels[digit, :, :, None]
            return SourceImage(f"digit {digit}", canvases)

        return SourceSplit(
            images=len(numbers),
            image=image,
            labels=np.asarray(target)[numbers].astype(np.int64),
            class_names=tuple("0123456789"),
            copies=placements,
            files=False,
        )

    return {name: split(np.sort(part)) for name, part in zip(("train", "test"), parts, strict=True)}
