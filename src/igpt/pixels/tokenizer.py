"""Images as the model reads them: one token a pixel, row by row or in another order.

    tokenizer = ImageTokenizer(palette, image_size=32)
    tokens = tokenizer.encode(["cat.jpg", pillow_image, pixels])  # (3, 1024)
    images = tokenizer.decode(tokens)  # (3, 32, 32, 3)

The order is decided here and nowhere else: in raster order token i is the pixel in row
i // image_size and column i % image_size; others are in `igpt.pixels.orders`. Whoever needs what
comes last in an image, a map of values or a region as the model counts its pixels asks here. Only
this module of `igpt.pixels` imports torch.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int, Int64, Integer, Shaped, UInt8

from igpt.errors import ConfigError, DataError
from igpt.pixels.orders import RASTER, check_order, reading_order
from igpt.pixels.palette import Palette
from igpt.pixels.preparation import AnyImage, Preparation, as_images


class ImageTokenizer:
    """A palette, and the size of the square images whose pixels it turns into tokens.

    `preparation` is how images of other sizes become such squares, and `order` that of their tokens
    (`igpt.pixels.orders`, which refuses others).
    """

    def __init__(
        self,
        palette: Palette,
        image_size: int,
        preparation: Preparation | None = None,
        *,
        order: str = RASTER,
    ) -> None:
        self.palette = palette
        self.image_size = image_size
        self.preparation = preparation or Preparation()
        check_order(order)
        self.order = order

    def prepared(self, preparation: Preparation | None) -> "ImageTokenizer":
        """Return the same tokenizer for images that are made ready in this way."""
        return ImageTokenizer(self.palette, self.image_size, preparation, order=self.order)

    def require_network(self, colors: int, order: str) -> None:
        """See that a network of so many colors that reads in this order can use its tokens.

        Raises:
            ConfigError: It cannot.
        """
        size = self.palette.size
        if size != colors:
            raise ConfigError(
                f"the network has {colors} colors, but the palette has {size}; give the palette "
                f"it was trained with or, for a new network, set model.colors={size}"
            )
        if self.order != order:
            raise ConfigError(
                f"the network reads pixels in the order {order}, and the tokenizer has "
                f"{self.order}; give ImageTokenizer order={order!r}"
            )

    @cached_property
    def _pixels(self) -> Int64[np.ndarray, " position"]:
        """Which pixel, row by row, is at each position."""
        return np.array(reading_order(self.order, self.image_size))

    @property
    def positions(self) -> int:
        """Tokens in one image."""
        return self.image_size**2

    @property
    def half_rows(self) -> int:
        """Rows in the first half of an image, which is what it is usually completed from."""
        return self.image_size // 2

    @property
    def second_half(self) -> Bool[np.ndarray, "{self.image_size} {self.image_size}"]:
        """The pixels that are usually completed: those read after as many as the first half has.

        In raster order, all rows but the first `half_rows`.
        """
        late = np.arange(self.positions) >= self.half_rows * self.image_size
        return self.as_map(torch.from_numpy(late)).numpy()

    def squares(
        self, images: AnyImage | Iterable[AnyImage]
    ) -> UInt8[np.ndarray, "batch {self.image_size} {self.image_size} 3"]:
        """Return images of any size, cut to their middle and resized as the network's own were.

        Args:
            images: Files, by their paths, images of Pillow's, uint8 arrays (height, width, 3), all
                of which may differ in size, or one of these; see `igpt.pixels.preparation`.

        Raises:
            DataError: One of them is no image.
        """
        size = self.image_size
        made = [self.preparation.square(image, size) for image in as_images(images)]
        return np.stack(made) if made else np.empty((0, size, size, 3), np.uint8)

    def encode(
        self, images: UInt8[np.ndarray, "batch height width 3"] | AnyImage | Sequence[AnyImage]
    ) -> Int64[torch.Tensor, "batch position"]:
        """Return the tokens of each image, in the order of reading.

        Args:
            images: An array of images that have the network's size already, or else what `squares`
                takes, and makes ready.

        Raises:
            DataError: An array of images of another size, of other than bytes or of other than
                three channels, or what is no image.
        """
        if not (isinstance(images, np.ndarray) and images.ndim == 4):
            images = self.squares(images)
        height, width = images.shape[1:3]
        if (height, width) != (self.image_size, self.image_size):
            raise DataError(
                f"the model reads {self.image_size}x{self.image_size} images, but these are "
                f"{width}x{height}; tokenizer.squares(images) crops and resizes them"
            )
        tokens = self.palette.encode(images).reshape(len(images), self.positions)
        return torch.from_numpy(tokens[:, self._pixels].astype(np.int64))

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
        in_rows = np.empty_like(tokens)
        in_rows[:, self._pixels] = tokens
        return self.palette.decode(in_rows).reshape(-1, self.image_size, self.image_size, 3)

    def as_map(
        self, values: Shaped[torch.Tensor, "*batch position"]
    ) -> Shaped[torch.Tensor, "*batch {self.image_size} {self.image_size}"]:
        """Return what was worked out for each position as it lies in the image."""
        in_rows = torch.empty_like(values)
        in_rows[..., self._pixels] = values
        return in_rows.unflatten(-1, (self.image_size, self.image_size))

    def positions_of(
        self, region: Bool[np.ndarray, "{self.image_size} {self.image_size}"]
    ) -> Bool[torch.Tensor, " position"]:
        """Return a map of some pixels as the model counts them."""
        return torch.from_numpy(region.reshape(-1)[self._pixels])
