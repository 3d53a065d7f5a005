"""Images: from any picture file to square RGB bytes, and from bytes to a PNG.

Everything above this module sees one thing only, pixels: an array of bytes, (height, width, 3).
Orientation, grey levels, transparency, 16 bits and the rest of what a file may hold end here.

    pixels = read_square(Path("cat.jpg"), 32)  # (32, 32, 3)
    write_png(Path("cat-32.png"), image_grid(pixels[None, None], scale=8))
    with opened_image(Path("cat.jpg")) as image:
        crops = image.crops(boxes, 32)  # parts of it, resampled once each

Transparent parts are laid on white, 16-bit levels are scaled to 8 bits, animations give their
first frame, and color profiles are ignored. A file that cannot be read in full is refused: half a
picture would be learned from like a whole one. Which files open is said in `igpt.pixels.opening`,
what they may take of the memory in `igpt.pixels.decoding`.
"""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from igpt.errors import DataError
from igpt.files import written_aside
from igpt.paths import AnyPath
from igpt.pixels.decoding import (
    MAX_PIXELS,
    DecodingBudget,
    decoded_upright,
    decoding_size,
    is_jpeg,
    shrink_of_large,
    tiles,
)
from igpt.pixels.filters import DEFAULT_FILTER, ResamplingFilter
from igpt.pixels.opening import image_orientation, picture_file, refusals

GREY_WEIGHTS = (19595, 38470, 7471)
"""Red, green and blue in the luminance of ITU-R 601, in 65,536ths, as in Pillow's mode L."""

_NOTE = "igpt"  # what a note is called in a PNG file
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_RESIZED_WHOLE = 2**21  # pixels; a strip that would become longer is cut before it is resized
_REACH = 3  # of the widest filter, in pixels of the smaller image


def read_image(
    source: AnyPath | bytes, *, name: str | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the pixels of an image file, upright.

    Args:
        source: The file, or what is in it.
        name: What errors call it, if not by its path.

    Raises:
        SkippedImage: The file is missing, broken, too large or no image that can be read.
    """
    with opened_image(source, name=name) as image:
        return image.pixels()


def read_square(
    source: AnyPath | bytes,
    size: int,
    filter: ResamplingFilter = DEFAULT_FILTER,
    *,
    name: str | None = None,
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Return the middle of an image file as a square of `size` pixels; see `OpenedImage.square`.

    Raises:
        SkippedImage: As `read_image`.
    """
    with opened_image(source, name=name) as image:
        return image.square(size, filter)


@contextmanager
def opened_image(
    source: AnyPath | bytes,
    *,
    name: str | None = None,
    fast_jpeg: bool = False,
    max_pixels: int = MAX_PIXELS,
    levels: int | None = None,
    budget: DecodingBudget | None = None,
) -> Iterator["OpenedImage"]:
    """Open an image file, to see how large it is before it, or parts of it, are decoded.

    Args:
        source: The file, or what is in it.
        name: What errors call it, if not by its path.
        fast_jpeg: Let the JPEG decoder shrink what `OpenedImage.crops` are cut from.
        max_pixels: How many are decoded at most, after the decoder has shrunk the image.
        levels: The grey level that is white in files of 16 bits or more and of floats; by default
            65535, and 1.0 in floats. Files of 8 bits are as they are.
        budget: What bounds the memory of all images that are decoded at the same time; an image
            holds its share of it until it is closed. A thread may have one such image open.

    Raises:
        SkippedImage: As `read_image`.
    """
    if isinstance(source, str):
        source = Path(source)
    if name is None:
        name = str(source) if isinstance(source, Path) else "the image"
    budget = budget or DecodingBudget()
    with ExitStack() as held, picture_file(source, name=name) as image:

        def decode(shrink: int) -> tuple[Image.Image, int | None]:
            with refusals(name):
                held.enter_context(budget.holding(decoding_size(image, name, shrink, max_pixels)))
                return decoded_upright(image, name, shrink, levels)

        with refusals(name):
            opened = OpenedImage(image, decode, fast_jpeg=fast_jpeg)
        yield opened


class OpenedImage:
    """An image file that is open, upright; `opened_image` opens one.

    Its pixels are asked for once, since a decoder that has shrunk an image does not give it back
    in full.
    """

    height: int
    width: int
    highest_level: int | None
    """Of a file of 16 bits or more, when it is decoded; what `levels_note` judges."""

    def __init__(
        self,
        image: ImageFile.ImageFile,
        decode: Callable[[int], tuple[Image.Image, int | None]],
        *,
        fast_jpeg: bool,
    ) -> None:
        orientation = image_orientation(image)
        # Pillow turns a TIFF by itself, in its header too.
        lies = orientation >= 5 and image.format != "TIFF"
        self.width, self.height = reversed(image.size) if lies else image.size
        self.highest_level = None
        self._image = image
        self._decode = decode
        self._fast_jpeg = fast_jpeg and is_jpeg(image) and orientation == 1
        self._is_decoded = False

    def pixels(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return all of it.

        Raises:
            SkippedImage: The file is broken or too large.
        """
        image = self._decoded(1)
        pixels = np.empty((image.height, image.width, 3), np.uint8)
        for left, top, right, bottom in tiles(image.size):
            part = image.crop((left, top, right, bottom))
            pixels[top:bottom, left:right] = np.asarray(part)
        return pixels

    def square(
        self, size: int, filter: ResamplingFilter = DEFAULT_FILTER
    ) -> UInt8[np.ndarray, "{size} {size} 3"]:
        """Return the middle of it as a square of `size` pixels, in its own proportions.

        These are the pixels of `square`, unless it is a JPEG of more than 33 million pixels (2^25):
        of such a one the decoder leaves out detail that is not needed.

        Raises:
            SkippedImage: The file is broken or too large.
        """
        shrink = shrink_of_large(self._image, float(min(self.height, self.width)), size)
        return _middle(self._decoded(shrink), size, filter)

    def crops(
        self,
        boxes: Float64[np.ndarray, "crop 4"],
        size: int,
        filter: ResamplingFilter = DEFAULT_FILTER,
    ) -> UInt8[np.ndarray, "crop {size} {size} 3"]:
        """Return parts of it as squares, each resampled once from the decoded image.

        With `fast_jpeg` the decoder shrinks a JPEG by 2, 4 or 8, as long as the smallest box keeps
        twice `size`. Pixels then differ (benchmarks/RESULTS.md, row 11): 31 dB PSNR with the box
        filter, which takes a pixel wholly or not at all, and 44 or more with others. Other formats,
        and images that the camera turned, are decoded in full. A JPEG of more than 33 million
        pixels is shrunk as far as it takes to get below, with the option or not.

        Args:
            boxes: Top, left, bottom and right of each part, in pixels and fractions of them.
            size: Side of a crop, in pixels.
            filter: How pixels are averaged.

        Raises:
            SkippedImage: The file is broken or too large.
        """
        side = float((boxes[:, 2:] - boxes[:, :2]).min())
        shrink = shrink_of_large(self._image, side, size)
        if self._fast_jpeg:
            shrink = next((shrink for shrink in (8, 4, 2) if side >= shrink * 2 * size), 1)
        image = self._decoded(shrink)
        return np.stack([_resampled(image, size, size, filter, box / shrink) for box in boxes])

    def _decoded(self, shrink: int) -> Image.Image:
        assert not self._is_decoded, "an opened image gives its pixels once"
        self._is_decoded = True
        image, self.highest_level = self._decode(shrink)
        return image


def resize_images(
    images: UInt8[np.ndarray, "image height width 3"],
    size: int,
    filter: ResamplingFilter = DEFAULT_FILTER,
    boxes: Float64[np.ndarray, "image 4"] | None = None,
) -> UInt8[np.ndarray, "image {size} {size} 3"]:
    """Return each image, or the box (top, left, bottom, right) of each, as a square of `size`."""
    if boxes is None and images.shape[1:3] == (size, size):
        return images
    resized = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for index, pixels in enumerate(images):
        box = None if boxes is None else boxes[index]
        resized[index] = _resampled(Image.fromarray(pixels), size, size, filter, box)
    return resized


def square(
    pixels: UInt8[np.ndarray, "height width 3"],
    size: int,
    filter: ResamplingFilter = DEFAULT_FILTER,
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Return the middle of the image as a square of `size` pixels, in its own proportions.

    Source: Chen et al. 2020, section 3.1, as it prepares images for evaluation.
    """
    return _middle(Image.fromarray(pixels), size, filter)


def _middle(
    image: Image.Image, size: int, filter: ResamplingFilter
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    """Return what `square` does of an RGB image.

    It is resized whole and then cut, as ever, unless it is so long a strip that this would take
    much memory. Then the middle is cut first, with all that the filter sees of it, which differs by
    rounding.
    """
    shorter = min(image.size)
    if shorter != size:
        width, height = (round(side * size / shorter) for side in image.size)
        if width * height > _RESIZED_WHOLE:
            return _middle_of_strip(image, size, filter)
        image = image.resize((width, height), Image.Resampling[filter.upper()])
    left, top = ((side - size) // 2 for side in image.size)
    return np.array(image.crop((left, top, left + size, top + size)))


def _middle_of_strip(
    image: Image.Image, size: int, filter: ResamplingFilter
) -> UInt8[np.ndarray, "{size} {size} 3"]:
    shorter = min(image.size)
    reach = math.ceil(_REACH * max(1, shorter / size)) + 1
    box, cut = [], []
    for side in image.size:
        resized = round(side * size / shorter)
        start = (resized - size) // 2 * side / resized
        stop = start + size * side / resized
        first, last = max(0, math.floor(start) - reach), min(side, math.ceil(stop) + reach)
        box.append((start - first, min(stop, last) - first))
        cut.append((first, last))
    (left, right), (top, bottom) = cut
    part = image.crop((left, top, right, bottom))
    (left, right), (top, bottom) = box
    return _resampled(part, size, size, filter, np.array([top, left, bottom, right]))


def _resampled(
    image: Image.Image,
    height: int,
    width: int,
    filter: ResamplingFilter,
    box: Float64[np.ndarray, "4"] | None = None,
) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """Return the image, or a part of it (top, left, bottom, right), at another size."""
    corners = None
    if box is not None:
        top, left, bottom, right = box.tolist()
        corners = (left, top, right, bottom)
    return np.array(image.resize((width, height), Image.Resampling[filter.upper()], corners))


def to_grey(pixels: UInt8[np.ndarray, "*shape 3"]) -> UInt8[np.ndarray, "*shape 3"]:
    """Return the luminance of each pixel, three times over."""
    red, green, blue = np.moveaxis(pixels.astype(np.uint32), -1, 0)
    of_red, of_green, of_blue = GREY_WEIGHTS
    grey = (of_red * red + of_green * green + of_blue * blue + 32768) >> 16
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)


def image_grid(
    images: UInt8[np.ndarray, "row column height width 3"],
    *,
    scale: int = 1,
    gap: int = 2,
    background: int = 255,
) -> UInt8[np.ndarray, "grid_height grid_width 3"]:
    """Return all images in one, in rows and columns.

    Args:
        images: What stands where.
        scale: Side of the square that each pixel becomes.
        gap: Pixels between neighbors; not enlarged.
        background: Grey level of the gaps.
    """
    images = images.repeat(scale, axis=2).repeat(scale, axis=3)
    rows, columns, height, width, _ = images.shape
    cells = np.full((rows, columns, height + gap, width + gap, 3), background, np.uint8)
    cells[:, :, :height, :width] = images
    grid = cells.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), 3)
    return grid[: grid.shape[0] - gap, : grid.shape[1] - gap]


def write_png(
    path: Path, pixels: UInt8[np.ndarray, "height width 3"], *, note: str | None = None
) -> None:
    """Write an image, whole or not at all; with a note in it, which `note_in` reads.

    Raises:
        DataError: The disk is full, or the path cannot be written to.
    """
    png = io.BytesIO()  # Pillow writing to the disk itself would not say why it failed
    text = PngInfo()
    if note is not None:
        text.add_itxt(_NOTE, note)
    Image.fromarray(pixels).save(png, format="PNG", pnginfo=text)
    with written_aside(path) as aside:
        aside.write_bytes(png.getvalue())


def note_in(png: bytes) -> str | None:
    """Return the note that a PNG file was written with; None if there is none."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        note = image.info.get(_NOTE)
    return None if note is None else str(note)


def read_whole_png(path: Path) -> bytes:
    """Return the bytes of a PNG file whose every part is held against its checksum.

    Reading the pixels alone does not: a changed bit may show as another picture.

    Raises:
        DataError: It is missing, or is no whole PNG file.
    """
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.verify()  # all but the last part
        if not content.endswith(_PNG_END):
            raise ValueError("its end is missing")
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's word for a wrong checksum
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is no whole PNG file ({reason}); draw it again") from error
    read_image(content, name=str(path))
    return content
