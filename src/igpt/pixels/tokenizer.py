"""Images as the model reads them: one token a pixel, row by row.

    tokenizer = ImageTokenizer(palette, image_size=32)
    tokens = tokenizer.encode(images)  # (batch, 1024)
    images = tokenizer.decode(tokens)  # (batch, 32, 32, 3)

Raster order is decided here and nowhere else: token i is the pixel in row i // image_size and
column i % image_size. Whoever needs the first half of an image, some rows of it or a map of values
asks here. Only this module of `igpt.pixels` imports torch.
"""

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, Integer, UInt8

from igpt.errors import DataError
from igpt.pixels.palette import Palette


class ImageTokenizer:
    """A palette, and the size of the square images whose pixels it turns into tokens."""

    def __init__(self, palette: Palette, image_size: int) -> None:
        self.palette = palette
        self.image_size = image_size

    @property
    def positions(self) -> int:
        """Tokens in one image."""
        return self.image_size**2

    @property
    def half_rows(self) -> int:
        """Rows in the first half of an image, which is what it is usually completed from."""
        return self.image_size // 2

    def encode(
        self, images: UInt8[np.ndarray, "batch height width 3"]
    ) -> Int64[torch.Tensor, "batch position"]:
        """Return the tokens of each image, in raster order.

        Raises:
            DataError: The images are of another size.
        """
        height, width = images.shape[1:3]
        if (height, width) != (self.image_size, self.image_size):
            raise DataError(
                f"the model reads {self.image_size}x{self.image_size} images, but these are "
                f"{width}x{height}; prepare them again with --image-size {self.image_size}"
            )
        tokens = self.palette.encode(images).reshape(len(images), self.positions)
        return torch.from_numpy(tokens.astype(np.int64))

    def decode(
        self,
        tokens: Int[torch.Tensor, "batch position"] | Integer[np.ndarray, "batch position"],
    ) -> UInt8[np.ndarray, "batch height width 3"]:
        """Return the images that these tokens stand for.

        Raises:
            DataError: An image has too many or too few tokens, or one that is not the palette's.
        """
        if isinstance(tokens, torch.Tensor):
            tokens = tokens.cpu().numpy()
        if tokens.shape[1] != self.positions:
            raise DataError(
                f"a {self.image_size}x{self.image_size} image has {self.positions} tokens, "
                f"but these have {tokens.shape[1]}; were they made for another size?"
            )
        return self.palette.decode(tokens).reshape(-1, self.image_size, self.image_size, 3)

    def given(
        self, tokens: Int64[torch.Tensor, "batch position"], rows: int
    ) -> Int64[torch.Tensor, "batch given"]:
        """Return those of the tokens that lie in the first `rows` rows of their image."""
        return tokens[:, : rows * self.image_size]

    def as_map(
        self, values: Float[torch.Tensor, "batch position"]
    ) -> Float[torch.Tensor, "batch {self.image_size} {self.image_size}"]:
        """Return what was worked out for each position as it lies in the image."""
        return values.unflatten(1, (self.image_size, self.image_size))
