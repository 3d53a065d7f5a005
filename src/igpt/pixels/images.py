"""Images: from any picture file to square RGB bytes, and from bytes to a PNG.

Everything above this module sees one thing only, pixels: an array of bytes, (height, width, 3).
Orientation, grey levels, transparency, 16 bits and the rest of what a file may hold end here.

    pixels = square(read_image(Path("cat.jpg")), 32)  # (32, 32, 3)
    write_png(Path("cat-32.png"), image_grid(pixels[None, None], scale=8))
    crops = read_crops(Path("cat.jpg"), boxes_in, 32)  # parts of it, resampled once each

Transparent parts are laid on white, 16-bit levels are scaled to 8 bits, animations give their
first frame, and color profiles are ignored. A file that cannot be read in full is refused: half a
picture would be learned from like a whole one.
"""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from igpt.errors import DataError, IgptError
from igpt.files import written_aside

ResamplingFilter = Literal["box", "bilinear", "hamming", "bicubic", "lanczos"]
"""How pixels are averaged when an image is resized; all of Pillow's are antialiased."""

DEFAULT_FILTER: ResamplingFilter = "box"
"""Area averaging. What the published models were trained with is not known."""

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
    with _opened(source, name) as (image, name):
        return np.array(_upright_rgb(image, name))


def read_crops(
    source: Path | bytes,
    boxes_in: Callable[[int, int], Float64[np.ndarray, "crop 4"]],
    size: int,
    filter: ResamplingFilter = DEFAULT_FILTER,
    *,
    name: str = "the image",
    fast_jpeg: bool = False,
) -> UInt8[np.ndarray, "crop size size 3"]:
    """Return parts of an image file, upright, each resampled once from the decoded image.

    Args:
        source: The file, or what is in it.
        boxes_in: Gives the parts of an image of this height and width: top, left, bottom, right.
        size: Side of a crop, in pixels.
        filter: How pixels are averaged.
        name: What errors call an image given as bytes.
        fast_jpeg: Let the JPEG decoder shrink by 2, 4 or 8, as long as the smallest box keeps
            twice `size`. Pixels then differ (benchmarks/RESULTS.md, row 11): 31 dB PSNR with the
            box filter, which takes a pixel wholly or not at all, and 44 or more with others.
            Other formats, and images that the camera turned, are decoded in full.

    Raises:
        DataError: As `read_image`.
    """
    with _opened(source, name) as (image, name):
        if fast_jpeg and image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            width, height = image.size
            boxes = boxes_in(height, width)
            side = (boxes[:, 2:] - boxes[:, :2]).min()
            shrink = next((shrink for shrink in (8, 4, 2) if side >= shrink * 2 * size), 1)
            drafted = image.draft(None, (width // shrink, height // shrink))
            if drafted is not None:  # a JPEG file, of now width / shrink pixels, rounded up
                boxes = boxes / shrink
            upright = _upright_rgb(image, name)
        else:
            upright = _upright_rgb(image, name)
            boxes = boxes_in(upright.height, upright.width)
        return np.stack([resample_box(upright, box, size, filter) for box in boxes])


def resample_box(
    image: Image.Image, box: Float64[np.ndarray, "4"], size: int, filter: ResamplingFilter
) -> UInt8[np.ndarray, "size size 3"]:
    """Return a part (top, left, bottom, right, in fractions of pixels too) as a square."""
    top, left, bottom, right = box.tolist()
    method = Image.Resampling[filter.upper()]
    return np.array(image.resize((size, size), method, box=(left, top, right, bottom)))


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[tuple[Image.Image, str]]:
    """Open an image file and name it; whatever goes wrong with it becomes a DataError."""
    if isinstance(source, Path):
        name = str(source)
    try:
        with _OPENING, warnings.catch_warnings():  # reads the header, where the size is checked
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        with opened as image:
            yield image, name
    except IgptError:
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


def resize_shorter_side(
    pixels: UInt8[np.ndarray, "height width 3"],
    size: int,
    filter: ResamplingFilter = DEFAULT_FILTER,
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    """Return the image with its shorter side `size` pixels long, in its own proportions."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    return _resize(pixels, round(height * size / shorter), round(width * size / shorter), filter)


def _resize(
    pixels: UInt8[np.ndarray, "height width 3"], height: int, width: int, filter: ResamplingFilter
) -> UInt8[np.ndarray, "new_height new_width 3"]:
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling[filter.upper()])
    return np.array(image)


def center_crop(
    pixels: UInt8[np.ndarray, "height width 3"], size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Return the middle `size` x `size` pixels.

    Raises:
        DataError: The image is smaller than that.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < size:
        raise DataError(
            f"cannot crop {size}x{size} pixels from an image of {width}x{height}; "
            "resize it first, or crop less"
        )
    top, left = (height - size) // 2, (width - size) // 2
    return pixels[top : top + size, left : left + size]


def square(
    pixels: UInt8[np.ndarray, "height width 3"],
    size: int,
    filter: ResamplingFilter = DEFAULT_FILTER,
) -> UInt8[np.ndarray, "size size 3"]:
    """Return the middle of the image as a square of `size` pixels, in its own proportions.

    Source: Chen et al. 2020, section 3.1, as it prepares images for evaluation.
    """
    return center_crop(resize_shorter_side(pixels, size, filter), size)


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
        DataError: The disk is full, or the place cannot be written to.
    """
    png = io.BytesIO()  # Pillow writing to the disk itself would not say why it failed
    Image.fromarray(pixels).save(png, format="PNG")
    with written_aside(path) as aside:
        aside.write_bytes(png.getvalue())
