"""Decoding: from an opened picture to upright RGB, in bounded memory.

What a picture takes is judged by its header. `MAX_PIXELS` is the most that is decoded of one, and a
`DecodingBudget` bounds all threads together that share it: whoever finds no room waits. A JPEG's
decoder can shrink by 2, 4 or 8 as it reads, so that of a photo of 200 million pixels 12 million are
decoded, if no more are needed; up to `SHRUNK_ABOVE` pixels every picture is decoded as it is.
Other modes than RGB (indexed colors, transparency, CMYK, levels of 16 bits and floats) become RGB
tile by tile, so that a picture takes 4 bytes a pixel once or twice and no more.
"""

import ctypes
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
from PIL import Image, ImageFile

from igpt.pixels.opening import SkippedImage, image_orientation, without_warnings

MAX_PIXELS = 89_478_485
"""Pixels that are decoded of an image at most, unless more are asked for: Pillow's own limit."""

SHRUNK_ABOVE = 2**25
"""Pixels from which on a JPEG is shrunk while it is decoded, where it is much too large anyway."""

_TILE = 2**20  # pixels that are worked on at once
_WHITE = 65535
_GIVEN_BACK = 2**26  # bytes of an image from which on its memory is not kept for the next

# Bytes that Pillow and the decoder take for a pixel at their peak: measured with 20 million pixels,
# and rounded up. With MAX_PIXELS no image takes more than the 2 GiB of a budget.
_BYTES_A_PIXEL = 10  # 4 as decoded, and 4 once more in RGB or turned
_BYTES_A_PIXEL_OF = {"WEBP": 24, "AVIF": 16, "HEIF": 24, "JPEG2000": 24, "TIFF": 16}
_BYTES_A_COEFFICIENT_PIXEL = 8  # of what comes in several scans, kept until the last of them

_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What puts an image upright again, by the orientation of Exif."""


class DecodingBudget:
    """Memory for the images that are decoded at the same time, over all threads that share it."""

    def __init__(self, limit: int = 2**31) -> None:
        """Allow `limit` bytes for all of them together, or one alone that takes more."""
        self._limit = limit
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free, and hold them meanwhile; never twice in a thread."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + size <= self._limit)
            self._held += size
        try:
            yield
        finally:
            if size >= _GIVEN_BACK:
                _give_memory_back()
            with self._changed:
                self._held -= size
                self._changed.notify_all()


def _give_memory_back() -> None:
    """Let the system have what was freed: glibc keeps a hundred megabytes for every thread."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def is_jpeg(image: ImageFile.ImageFile) -> bool:
    """Return whether the decoder of this image can shrink it."""
    return image.format in ("JPEG", "MPO")  # an MPO is a JPEG with more pictures behind it


def shrink_of_large(image: ImageFile.ImageFile, side: float, size: int) -> int:
    """Return by how much to shrink a JPEG of more than `SHRUNK_ABOVE` pixels: 1, 2, 4 or 8.

    It is the least that brings it below, as long as `side` pixels of it, of which `size` are
    wanted, keep twice that.
    """
    if not is_jpeg(image):
        return 1
    pixels = math.prod(image.size)
    allowed = [1, *(shrink for shrink in (2, 4, 8) if side >= shrink * 2 * size)]
    return next((shrink for shrink in allowed if pixels <= SHRUNK_ABOVE * shrink**2), allowed[-1])


def decoding_size(image: ImageFile.ImageFile, name: str, shrink: int, max_pixels: int) -> int:
    """Return how many bytes it takes to decode the image and to make RGB of it.

    Raises:
        SkippedImage: More than `max_pixels` would have to be decoded.
    """
    whole = math.prod(image.size)
    pixels = math.prod(-(-side // shrink) for side in image.size)
    in_scans = is_jpeg(image) and (whole < _TILE or _comes_in_scans(image))
    coefficients = whole if in_scans else 0
    if max(pixels, coefficients) > max_pixels:
        width, height = image.size
        raise SkippedImage(
            f"{name} has {width}x{height} pixels, where at most {max_pixels:,} are decoded; make "
            "it smaller, or let `igpt data prepare` decode more with --max-pixels",
            "too large",
        )
    of_a_pixel = _BYTES_A_PIXEL_OF.get(image.format or "", _BYTES_A_PIXEL)
    return pixels * of_a_pixel + coefficients * _BYTES_A_COEFFICIENT_PIXEL


def decoded_upright(
    image: ImageFile.ImageFile, name: str, shrink: int, levels: int | None
) -> tuple[Image.Image, int | None]:
    """Decode the image and return it in RGB, and the highest level if it has 16 bits or more.

    Args:
        image: One that `picture_file` opened; it is no longer to be used.
        name: What errors call it.
        shrink: 1, 2, 4 or 8 for a JPEG, which the decoder shrinks by it; 1 for all others.
        levels: The level that is white, if the image has more than 8 bits; see `opened_image`.

    Raises:
        SkippedImage: Its levels or its mode mean nothing in RGB.
    """
    if is_jpeg(image):
        image.draft(None, (max(1, image.width // shrink), max(1, image.height // shrink)))
    halved = any(";16" in str(tile) for tile in image.tile)  # 16-bit color becomes 8-bit in Pillow
    # Of large pictures Pillow warns when it opens them, but of a TIFF when it decodes it.
    warns = image.format == "TIFF" and math.prod(image.size) > (Image.MAX_IMAGE_PIXELS or math.inf)
    with without_warnings() if warns else nullcontext():
        image.load()
    rgb, highest = _to_rgb(image, name, levels, halved=halved)
    turned = _TURNED.get(image_orientation(image))
    if turned is not None:
        if rgb is not image:
            image.close()
        rgb = rgb.transpose(turned)
    return rgb, highest


def upright_rgb(image: Image.Image, name: str, levels: int | None) -> Image.Image:
    """Return an image that somebody else opened or made in RGB and upright; it stays as it is.

    Arguments and errors as in `decoded_upright`.
    """
    image.load()  # which turns a TIFF
    rgb, _ = _to_rgb(image, name, levels)
    turned = _TURNED.get(image_orientation(image))
    return rgb if turned is None else rgb.transpose(turned)


def _to_rgb(
    image: Image.Image, name: str, levels: int | None, *, halved: bool = False
) -> tuple[Image.Image, int | None]:
    """Return an image in RGB, and its highest level if it has or had 16 bits a color."""
    if image.mode.startswith(("I", "F")):
        return _rgb_of_levels(image, name, levels)
    highest = _highest_of_color(image, name, levels) if halved else None
    return _rgb(image, name), highest


def tiles(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield boxes (left, top, right, bottom) that make up an image of this width and height."""
    width, height = size
    across = min(width, _TILE)
    down = max(1, _TILE // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(left + across, width), min(top + down, height)


def levels_note(highest: int) -> str | None:
    """Return what to say if 16-bit images have no higher level than this: they may hold fewer bits.

    A camera's or a scanner's 12 bits in files of 16 are nearly black if 65535 is taken for white.
    """
    if highest > 4095:
        return None
    levels = 2 ** max(highest.bit_length(), 1) - 1
    return (
        f"the 16-bit images have levels up to {highest:,} of 65,535, so they are nearly black; if "
        f"{levels} is white in them, say --levels {levels} (or scale them first, if in color)"
    )


_MODES_AS_THEY_ARE = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"}


def _rgb(image: Image.Image, name: str) -> Image.Image:
    """Return the image in RGB, on white where it is transparent; the very same if it is so."""
    transparent = image.has_transparency_data
    if not transparent and image.mode not in _MODES_AS_THEY_ARE:
        raise SkippedImage(
            f"{name} holds pixels of Pillow's mode {image.mode}, which have no fixed meaning in "
            "RGB; convert it to 8-bit RGB first",
            "format not read",
        )
    if not transparent and image.mode == "RGB":
        return image
    rgb = Image.new("RGB", image.size)
    for box in tiles(image.size):
        part = image.crop(box)
        if transparent:
            part = part.convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), part)
        rgb.paste(part.convert("RGB"), box)
    return rgb


def _rgb_of_levels(
    image: Image.Image, name: str, levels: int | None
) -> tuple[Image.Image, int | None]:
    """Return grey levels of 16 bits, of more or in floats as RGB, and the highest if integers."""
    floats = image.mode.startswith("F")
    parts = (np.asarray(image.crop(box)) for box in tiles(image.size))
    ends = np.array([(part.min(), part.max()) for part in parts])
    low, high = ends[:, 0].min(), ends[:, 1].max()  # NaN if there is one
    white = levels or (1 if floats else _WHITE)
    if not (low >= 0 and high <= white):
        way_on = "scale them first"
        if low >= 0 and np.isfinite(high):
            way_on += f", or let `igpt data prepare` take {math.ceil(high)} for white with --levels"
        raise SkippedImage(
            f"{name} has grey levels from {low:g} to {high:g}, where {white} is white; {way_on}",
            "levels out of range",
        )
    rgb = Image.new("RGB", image.size)
    for box in tiles(image.size):
        part = np.asarray(image.crop(box))
        if floats:
            scaled = np.rint(part * np.float64(255 / white))
        else:
            scaled = (part.astype(np.int64) * 255 + white // 2) // white
        rgb.paste(Image.fromarray(scaled.astype(np.uint8)).convert("RGB"), box)
    return rgb, None if floats else int(high)


def _highest_of_color(image: Image.Image, name: str, levels: int | None) -> int:
    """Return the highest level that 16-bit color may have, of which Pillow keeps the upper half."""
    if levels is not None:
        raise SkippedImage(
            f"{name} holds 16-bit color, of which only 8 bits are read, where --levels {levels} is "
            "for grey; convert it to 8 bits, or leave out --levels",
            "levels out of range",
        )
    highest = np.reshape(image.getextrema(), (-1, 2))[:3].max()  # of red, green and blue
    return 256 * int(highest) + 255


def _comes_in_scans(image: ImageFile.ImageFile) -> bool:
    """Return whether a JPEG's decoder has to keep all of it: no block is whole before the end."""
    file = image.fp
    assert file is not None
    file.seek(2)
    components = 0
    while len(marker := file.read(2)) == 2 and marker[0] == 0xFF:
        kind = marker[1]
        if kind == 0xFF:  # a fill byte
            file.seek(-1, 1)
            continue
        length = int.from_bytes(file.read(2), "big")
        start = file.tell()
        if kind in (0xC2, 0xC6, 0xCA, 0xCE):  # progressive
            return True
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            components = file.read(6)[-1]
        if kind == 0xDA:
            return file.read(1)[0] < components
        file.seek(start + length - 2)
    return True  # Pillow may still make sense of it
