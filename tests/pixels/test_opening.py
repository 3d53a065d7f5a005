import io
import os
import pickle
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tests.pixels.test_images import encoded, random_pixels

from igpt.pixels.images import opened_image, read_image
from igpt.pixels.opening import SkippedImage, readable_endings


def refusal(source, name="photo.png"):
    with pytest.raises(SkippedImage) as caught:
        read_image(source, name=name)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    "format",
    ["PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "SGI"],
)
def test_a_picture_is_known_by_what_is_in_it_whatever_it_is_called(format):
    image = Image.new("RGB", (4, 4), (255, 0, 0))
    options = {"lossless": True} if format == "WEBP" else {}
    assert (read_image(encoded(image, format, **options), name="x.jpg") == [255, 0, 0]).all()


@pytest.mark.parametrize("format", ["TGA", "PCX", "DIB"])
def test_a_format_that_anything_could_begin_like_is_read_by_its_ending_only(format):
    data = encoded(Image.new("RGB", (4, 4), (255, 0, 0)), format)
    assert (read_image(data, name=f"x.{format}") == [255, 0, 0]).all()
    assert refusal(data, "x.png").reason in ("not an image", "format not read")


@pytest.mark.parametrize(
    ("start", "format"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "EPS"),
        (b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(40), "WMF"),
        (b"SIMPLE  =                    T" + b" " * 2850, "FITS"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
        (b"\x00\x00\x01\x00\x01\x00" + bytes(40), "ICO"),
    ],
)
def test_formats_that_are_no_pictures_are_named_and_never_opened(start, format, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)  # no Ghostscript
    error = refusal(start)
    assert error.reason == "format not read"
    assert f"photo.png is in the format {format}, which is not read; convert it" in str(error)


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"<svg></svg>", b"GIF", b"not a picture"])
def test_what_pillow_does_not_know_is_no_image(data):
    assert refusal(data).reason == "not an image"


def test_a_heic_photo_says_what_to_install_or_is_read():
    with_extra = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pixels = np.full((64, 48, 3), (200, 40, 90), np.uint8)
    with_extra.from_pillow(Image.fromarray(pixels)).save(file, quality=-1)
    read = read_image(file.getvalue(), name="IMG_1.HEIC")
    assert read.shape == pixels.shape
    assert abs(read.astype(int) - pixels).max() <= 6


def test_a_heic_photo_without_the_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # cannot be imported
    error = refusal(b"\0\0\0\x18ftypheic" + bytes(40), "IMG_1.HEIC")
    assert error.reason == "format not read"
    assert "IMG_1.HEIC is in the format HEIF" in str(error)
    assert "pip install 'igpt[heif]'" in str(error)


def test_a_broken_heic_photo_is_refused():
    pytest.importorskip("pillow_heif")
    assert refusal(b"\0\0\0\x18ftypheic" + bytes(40)).reason == "broken"


def test_the_endings_are_those_of_what_is_read():
    endings = readable_endings()
    assert {".jpg", ".jfif", ".png", ".jp2", ".tif", ".pgm", ".tga", ".heic"} <= endings
    assert not {".eps", ".ps", ".pdf", ".wmf", ".fits", ".h5", ".ico", ".mpg"} & endings


def test_every_reason_is_told_apart(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "half.png").write_bytes(encoded(Image.new("RGB", (64, 64)))[:60])
    os.mkfifo(tmp_path / "pipe.png")
    reasons = [
        refusal(tmp_path / name).reason
        for name in ("gone.png", "empty.png", "half.png", "pipe.png")
    ]
    assert reasons == ["unreadable", "broken", "broken", "unreadable"]


def test_a_file_is_called_by_its_path_or_as_is_said(tmp_path):
    path = tmp_path / "gone.png"
    with pytest.raises(SkippedImage, match=f"could not read {path}:"):
        read_image(path)
    assert str(refusal(path, "cats/gone.png")).startswith("could not read cats/gone.png:")
    with pytest.raises(SkippedImage, match="the image is empty"):
        read_image(b"")


def test_a_refusal_can_cross_to_another_process():
    error = pickle.loads(pickle.dumps(SkippedImage("too small", "too small")))
    assert (str(error), error.reason) == ("too small", "too small")


def test_no_header_is_worth_a_warning(tmp_path):
    # A TIFF whose Exif part lies outside of the file: Pillow warns when it gets there.
    exif = Image.Exif()
    exif[0x010E] = "a"
    data = bytearray(encoded(Image.fromarray(random_pixels(8, 8)), "TIFF", exif=exif))
    start = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<HHII", data, start + 2 + 12 * (entries - 1), 0x8769, 4, 1, len(data) - 3)
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        read_image(bytes(data))
    assert not leaked


# PNG


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunks(png, *chunks, before=b"IDAT"):
    at = png.index(before) - 4
    return png[:at] + b"".join(chunk(kind, body) for kind, body in chunks) + png[at:]


HUGE = zlib.compress(bytes(2**21))


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"zTXt", b"workflow\0\0" + HUGE),
        (b"iTXt", b"workflow\0\1\0\0\0" + HUGE),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + HUGE),
        (b"zTXt", b"Raw profile type exif\0\0" + HUGE),
        (b"tEXt", b"workflow\0" + bytes(2**21)),
        (b"iCCP", b"profile\0\0" + HUGE),
        (b"iCCP", b"profile\0\7"),
        (b"acTL", bytes(8)),
        (b"prVt", bytes(100)),
    ],
)
def test_texts_and_profiles_do_not_cost_the_pixels(kind, body, before, recwarn):
    pixels = random_pixels(20, 30)
    png = with_chunks(encoded(Image.fromarray(pixels)), (kind, body), before=before)
    np.testing.assert_array_equal(read_image(png), pixels)
    assert not recwarn


def test_nobody_elses_limit_on_texts_is_changed():
    limits = PngImagePlugin.MAX_TEXT_CHUNK, Image.MAX_IMAGE_PIXELS
    read_image(with_chunks(encoded(Image.new("L", (9, 9))), (b"zTXt", b"workflow\0\0" + HUGE)))
    assert limits == (PngImagePlugin.MAX_TEXT_CHUNK, Image.MAX_IMAGE_PIXELS)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
EXIF = (
    b"\nexif\n      26\n"
    + b"4578696600004d4d002a00000008000101120003000000010006000000000000"
    + b"\n"
)


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(EXIF)),
        (b"tEXt", b"Raw profile type exif\0" + EXIF),
    ],
)
def test_texts_that_say_how_the_camera_was_held_are_heeded(kind, body, before):
    pixels = random_pixels(4, 6)
    png = with_chunks(
        encoded(Image.fromarray(pixels)), (b"tEXt", b"Comment\0hello"), (kind, body), before=before
    )
    with opened_image(png) as image:
        assert (image.width, image.height) == (4, 6)
        np.testing.assert_array_equal(image.pixels(), np.rot90(pixels, -1))


def test_exif_behind_the_pixels_of_a_png_turns_it():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = random_pixels(4, 6)
    png = with_chunks(
        encoded(Image.fromarray(pixels)), (b"eXIf", exif.tobytes()[6:]), before=b"IEND"
    )
    np.testing.assert_array_equal(read_image(png), np.rot90(pixels, -1))


def test_a_png_in_many_pieces_is_put_together():
    pixels = random_pixels(50, 70)
    png = encoded(Image.fromarray(pixels))
    start = png.index(b"IDAT") - 4
    (length,) = struct.unpack_from(">I", png, start)
    body = png[start + 8 : start + 8 + length]
    parts = [body[at : at + 999] for at in range(0, length, 999)]
    cut = b"".join(chunk(b"IDAT", part) for part in parts)
    png = png[:start] + chunk(b"tEXt", b"a\0b") + cut + png[start + length + 12 :]
    np.testing.assert_array_equal(read_image(png), pixels)


def test_what_is_missing_or_wrong_in_the_pixels_of_a_png_is_no_matter_of_texts():
    png = with_chunks(encoded(Image.fromarray(random_pixels(40, 40))), (b"tEXt", b"a\0b"))
    assert refusal(png[:2000]).reason == "broken"
    assert refusal(png.replace(b"IHDR", b"IH\0R")).reason == "broken"
