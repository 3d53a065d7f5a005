"""Images: from any picture file to square RGB bytes, and from bytes to a PNG.

Everything above this module sees one thing only, pixels: an array of bytes, (height, width, 3).
Orientation, grey levels, transparency, 16 bits and the rest of what a file may hold end here.

    pixels = square(read_image(Path("cat.jpg")), 32)  # (32, 32, 3)
    write_png(Path("cat-32.png"), image_grid(pixels[None, None], scale=8))
    with opened_image(Path("cat.jpg")) as image:
        crops = image.crops(boxes, 32)  # parts of it, resampled once each

Transparent parts are laid on white, 16-bit levels are scaled to 8 bits, animations give their
first frame, and color profiles are ignored. A file that cannot be read in full is refused: half a
picture would be learned from like a whole one.
"""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from igpt.errors import DataError
from igpt.files import written_aside
from igpt.pixels.filters import DEFAULT_FILTER, ResamplingFilter

GREY_WEIGHTS = (19595, 38470, 7471)
"""Red, green and blue in the luminance of ITU-R 601, in 65,536ths, as in Pillow's mode L."""

_AS_THEY_ARE = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}

# Pillow warns through Python's global filters, and those cannot be set for one thread alone.
_OPENING = threading.Lock()


def read_image(
    source: Path | bytes, *, name: str = "the image"
) -> UInt8[np.ndarray, "height width 3"]:
    """Return the pixels of an image file, upright.

    Args:
        source: The file, or what is in it.
        name: What errors call an image given as bytes.

    Raises:
        DataError: The file is missing, broken, larger than Pillow's limit, or no image.
    """
    with opened_image(source, name=name) as image:
        return image.pixels()


@contextmanager
def opened_image(
    source: Path | bytes, *, name: str = "the image", fast_jpeg: bool = False
) -> Iterator["OpenedImage"]:
    """Open an image file, to see how large it is before parts of it are chosen.

    Args:
        source: The file, or what is in it.
        name: What errors call an image given as bytes.
        fast_jpeg: Let the JPEG decoder shrink what `OpenedImage.crops` are cut from.

    Raises:
        DataError: As `read_image`.
    """
    if isinstance(source, Path):
        name = str(source)
    with _refusals(name), _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        image = Image.open(file)  # reads the header, where the size is checked
    with image:
        with _refusals(name):
            opened = OpenedImage(image, name, fast_jpeg=fast_jpeg)
        yield opened


class OpenedImage:
    """An image file that is open, upright; `opened_image` opens one."""

    height: int
    width: int

    def __init__(self, image: Image.Image, name: str, *, fast_jpeg: bool) -> None:
        # Only an image that the camera did not turn has the size that stands in its header.
        self._undecoded = fast_jpeg and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        self._image = image if self._undecoded else _upright_rgb(image, name)
        self.name = name
        self.width, self.height = self._image.size

    def pixels(self) -> UInt8[np.ndarray, "height width 3"]:
        """Return all of it.

        Raises:
            DataError: The file is broken.
        """
        with _refusals(self.name):
            return np.array(self._decoded())

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
        and images that the camera turned, are decoded in full. Call it once, since a decoder that
        has shrunk an image does not give it back in full.

        Args:
            boxes: Top, left, bottom and right of each part, in pixels and fractions of them.
            size: Side of a crop, in pixels.
            filter: How pixels are averaged.

        Raises:
            DataError: The file is broken.
        """
        assert self._image.size == (self.width, self.height), "the decoder has shrunk it already"
        with _refusals(self.name):
            if self._undecoded:
                side = (boxes[:, 2:] - boxes[:, :2]).min()
                shrink = next((shrink for shrink in (8, 4, 2) if side >= shrink * 2 * size), 1)
                drafted = self._image.draft(None, (self.width // shrink, self.height // shrink))
                if drafted is not None:  # a JPEG file, of now width / shrink pixels, rounded up
                    boxes = boxes / shrink
            image = self._decoded()
            return np.stack([_resampled(image, size, size, filter, box) for box in boxes])

    def _decoded(self) -> Image.Image:
        return _upright_rgb(self._image, self.name) if self._undecoded else self._image


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turn whatever is wrong with the image file of this name into one line for the user."""
    try:
        yield
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{name} has more than the {Image.MAX_IMAGE_PIXELS:,} pixels that are read at most; "
            "make it smaller first"
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name} is not an image in a format that can be read; convert it to PNG or JPEG"
        ) from error
    except Exception as error:  # a decoder may fail in any way on a broken file
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"could not read {name}: {error.strerror}; check the path") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name} is broken ({reason}); export or download it again") from error


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    """Decode the image and return it in RGB; the very same one, if it is so in the file."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise DataError(
                f"{name} has grey levels from {levels.min()} to {levels.max()}, where 16 bits "
                "hold 0 to 65535; scale them first"
            )
        grey = ((levels + 128) // 257).astype(np.uint8)  # 65535 -> 255, to the nearest
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    elif image.mode not in _AS_THEY_ARE:
        raise DataError(
            f"{name} holds pixels of Pillow's mode {image.mode}, which have no fixed meaning in "
            "RGB; convert it to 8-bit RGB first"
        )
    return image if image.mode == "RGB" else image.convert("RGB")


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
    shorter = min(pixels.shape[:2])
    if shorter != size:
        height, width = (round(side * size / shorter) for side in pixels.shape[:2])
        pixels = _resampled(Image.fromarray(pixels), height, width, filter)
    top, left = ((side - size) // 2 for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]


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


def write_png(path: Path, pixels: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write an image, whole or not at all.

    Raises:
        DataError: The disk is full, or the path cannot be written to.
    """
    png = io.BytesIO()  # Pillow writing to the disk itself would not say why it failed
    Image.fromarray(pixels).save(png, format="PNG")
    with written_aside(path) as aside:
        aside.write_bytes(png.getvalue())
