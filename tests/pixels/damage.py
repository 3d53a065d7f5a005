"""Image files that were damaged on purpose, and a process that reads them with its eyes open.

    python -m tests.pixels.damage FIRST COUNT

Reads the damaged files number FIRST and following, and prints as JSON what became of them: how many
were read, how many were left out for which reason, what no reader of ours may let through, the
longest time that one took and the most memory that the process had.
"""

import io
import json
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from igpt.pixels.decoding import DecodingBudget
from igpt.pixels.images import opened_image
from igpt.pixels.opening import SkippedImage

SECONDS = 20
ADDRESS_SPACE = 6 * 2**30
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 20_000, 0x7FFFFFFF, 0xFFFFFFFF, 100_000)


class Hangs(BaseException):
    """Raised where reading takes too long; nothing that catches exceptions catches it."""


def whole_files() -> list[bytes]:
    """Return small files of every format that is usual, in most of its kinds."""
    generator = np.random.default_rng(0)
    noise = Image.fromarray(generator.integers(256, size=(24, 20, 3), dtype=np.uint8))
    image = noise.resize((40, 48))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a picture"
    grey16 = Image.fromarray(generator.integers(65536, size=(20, 30)).astype(np.uint16))
    floats = Image.fromarray(generator.random((20, 30), np.float32))
    kinds = [
        (image, "PNG", {"exif": exif}),
        (image.convert("RGBA"), "PNG", {}),
        (image.convert("P"), "PNG", {"transparency": 3}),
        (image.convert("1"), "PNG", {}),
        (grey16, "PNG", {}),
        (image, "PNG", {"save_all": True, "append_images": [noise.resize((40, 48))]}),
        (image, "JPEG", {"exif": exif}),
        (image, "JPEG", {"progressive": True}),
        (image.convert("L"), "JPEG", {}),
        (image.convert("CMYK"), "JPEG", {"subsampling": 0}),
        (image, "MPO", {"save_all": True, "append_images": [image]}),
        (image.convert("P"), "GIF", {}),
        (image.convert("P"), "GIF", {"save_all": True, "append_images": [noise.convert("P")]}),
        (image, "BMP", {}),
        (image.convert("P"), "BMP", {}),
        (image.convert("1"), "BMP", {}),
        (image, "TIFF", {"exif": exif}),
        (image, "TIFF", {"compression": "tiff_lzw"}),
        (image, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (image, "TIFF", {"compression": "jpeg"}),
        (image.convert("1"), "TIFF", {"compression": "group4"}),
        (image.convert("RGBA"), "TIFF", {"compression": "packbits"}),
        (grey16, "TIFF", {}),
        (floats, "TIFF", {"compression": "tiff_lzw"}),
        (image, "WEBP", {"exif": exif}),
        (image.convert("RGBA"), "WEBP", {"lossless": True}),
        (image, "WEBP", {"save_all": True, "append_images": [noise.resize((40, 48))]}),
        (image, "PPM", {}),
        (image.convert("L"), "PPM", {}),
        (image.convert("1"), "PPM", {}),
        (floats, "PPM", {}),
        (image, "JPEG2000", {}),
        (image, "SGI", {}),
        (image, "TGA", {"compression": "tga_rle"}),
    ]
    Image.init()
    newer = [(image, "AVIF", {"exif": exif}), (image, "QOI", {})]  # not in every Pillow
    kinds += [kind for kind in newer if kind[1] in Image.SAVE]
    files = []
    for picture, format, options in kinds:
        file = io.BytesIO()
        picture.save(file, format=format, **options)
        files.append(file.getvalue())
    files.append(b"P3 2 2 255 " + b"12 0 255 " * 4)
    return files


def damaged(files: list[bytes], number: int) -> bytes:
    """Return damaged file number `number`, a pure function of it."""
    generator = np.random.default_rng((13, number))
    data = bytearray(files[number % len(files)])
    for _ in range(generator.integers(1, 4)):
        at = int(generator.integers(len(data)))
        kind = generator.integers(7)
        if kind == 0:  # flipped bits
            for position in generator.integers(len(data), size=generator.integers(1, 9)):
                data[position] ^= 1 << int(generator.integers(8))
        elif kind == 1:  # cut off
            data = data[: max(1, at)]
        elif kind == 2:  # a piece overwritten
            length = int(generator.integers(1, 40))
            data[at : at + length] = generator.bytes(length)[: len(data) - at]
        elif kind == 3:  # a piece taken out or doubled
            stop = at + int(generator.integers(1, 40))
            data[at:stop] = data[at:stop] * int(generator.choice([0, 2, 5]))
        elif kind == 4:  # a piece of another file
            other = files[int(generator.integers(len(files)))]
            start = int(generator.integers(len(other)))
            data[at:at] = other[start : start + 200]
        else:  # a field of the header
            at = int(generator.integers(min(len(data), 120)))
            value = int(generator.choice(EXTREMES))
            field = generator.choice(["B", "<H", ">H", "<I", ">I"])
            size = struct.calcsize(field)
            data[at : at + size] = struct.pack(field, value & (256**size - 1))[: len(data) - at]
        data = data or bytearray(b"\0")
    if generator.random() < 0.7:
        data = with_right_checksums(data)
    return bytes(data)


def with_right_checksums(png: bytearray) -> bytearray:
    """Make the checksums of a PNG right again, so that the damage is not seen by them alone."""
    start = 8
    while png[:4] == b"\x89PNG" and start + 12 <= len(png):
        (length,) = struct.unpack_from(">I", png, start)
        stop = start + 8 + length
        if stop + 4 > len(png):
            break
        struct.pack_into(">I", png, stop, zlib.crc32(png[start + 4 : stop]))
        start = stop + 4
    return png


def read_all(first: int, count: int) -> dict:
    """Read so many damaged files, and return what became of them."""
    files, outcome, wrong, slowest = whole_files(), Counter(), [], 0.0
    budget = DecodingBudget()
    for number in range(first, first + count):
        data = damaged(files, number)
        signal.alarm(SECONDS)
        began = time.perf_counter()
        try:
            with opened_image(data, name=f"{number}.tga", budget=budget) as image:
                shape = image.square(8).shape
                assert shape == (8, 8, 3)
            outcome["read"] += 1
        except SkippedImage as error:
            outcome[error.reason] += 1
            if "\n" in str(error):
                wrong.append(f"{number}: {error}")
        except BaseException:
            wrong.append(f"{number}: {traceback.format_exc()}")
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - began)
    peak = [line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line]
    return {
        "outcome": outcome,
        "wrong": wrong,
        "slowest_seconds": slowest,
        "peak_bytes": int(peak[0].split()[1]) * 1024,
    }


def main() -> None:
    """Read what the command line says, in a process that may not take more memory than it says."""

    def hangs(*_: object) -> None:
        raise Hangs

    signal.signal(signal.SIGALRM, hangs)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        result = read_all(*(int(argument) for argument in sys.argv[1:]))
    result["wrong"] += [f"warning: {warning.message}" for warning in leaked]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
