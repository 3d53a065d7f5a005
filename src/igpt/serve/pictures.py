"""Pictures that come over the network: bounded before anything of them is decoded."""

import numpy as np
from jaxtyping import UInt8

from igpt.pixels.decoding import DecodingBudget
from igpt.pixels.images import opened_image
from igpt.pixels.opening import SkippedImage
from igpt.pixels.tokenizer import ImageTokenizer

_NAME = "the picture"


def tokens_of(
    content: bytes, tokenizer: ImageTokenizer, *, max_pixels: int, budget: DecodingBudget
) -> tuple[int, ...]:
    """Return the tokens of the middle of a picture, made ready as the network's own images were.

    Args:
        content: A file of any format that is read (`igpt.pixels.opening`).
        tokenizer: The network's.
        max_pixels: That it may have.
        budget: What bounds the memory of all that are decoded at the same time.

    Raises:
        SkippedImage: It is no picture, or broken, or has too many pixels.
    """
    with opened_image(content, name=_NAME) as image:
        if (pixels := image.width * image.height) > max_pixels:
            raise SkippedImage(
                f"{_NAME} has {image.width}x{image.height} pixels, {pixels:,} in all, where at "
                f"most {max_pixels:,} are decoded; make it smaller",
                "too large",
            )
    size = tokenizer.image_size
    square: UInt8[np.ndarray, "size size 3"] = tokenizer.preparation.square(
        content, size, name=_NAME, max_pixels=max_pixels, budget=budget
    )
    return tuple(tokenizer.encode(square[None])[0].tolist())
