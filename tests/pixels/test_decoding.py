import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.pixels.test_images import encoded, random_pixels
from tests.pixels.test_opening import chunk

from igpt.pixels.decoding import DecodingBudget, levels_note
from igpt.pixels.images import opened_image, read_image, read_square, square
from igpt.pixels.opening import SkippedImage

MIB = 2**20
STATUS = Path("/proc/self/status")


def memory(entry):
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(entry)]
    return int(line.split()[1]) * 1024


def peak_of(function):
    """Return how many bytes the process grew by while the function ran."""
    if not STATUS.exists():
        pytest.skip("the kernel does not say how much memory there is in use")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    function()
    return memory("VmHWM") - before


def blurred(width, height, mode="L"):
    noise = Image.fromarray(random_pixels(height // 50, width // 50)).convert(mode)
    return noise.resize((width, height), Image.Resampling.BILINEAR)


# Size


def test_what_is_too_large_is_refused_by_its_header(recwarn):
    data = encoded(Image.new("1", (10_000, 9_000)))
    with pytest.raises(SkippedImage, match=r"poster has 10000x9000 pixels.*--max-pixels") as caught:
        read_image(data, name="poster")
    assert caught.value.reason == "too large"
    assert not recwarn


def test_the_limit_is_on_pixels_and_can_be_raised():
    data = encoded(Image.fromarray(random_pixels(11, 11)))
    with opened_image(data, max_pixels=121) as image:
        assert image.pixels().shape == (11, 11, 3)
    with (
        pytest.raises(SkippedImage, match="at most 120 are decoded"),
        opened_image(data, max_pixels=120) as image,
    ):
        image.square(4)


def test_more_pixels_than_pillow_opens_can_be_asked_for(monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2**20)  # it refuses from twice that on
    assert read_image(encoded(Image.new("L", (1_500, 1_500)))).shape == (1_500, 1_500, 3)
    for options in ({}, {"compression": "tiff_lzw"}):
        data = encoded(Image.new("L", (1_200, 1_200)), "TIFF", **options)
        assert read_image(data).shape == (1_200, 1_200, 3)
    assert not recwarn


def test_jpegs_of_up_to_33_million_pixels_keep_their_very_pixels():
    data = encoded(blurred(5_792, 5_792), "JPEG")
    np.testing.assert_array_equal(read_square(data, 32), square(read_image(data), 32))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_larger_jpeg_is_shrunk_while_it_is_decoded(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(blurred(6_500, 5_500), "JPEG", exif=exif)
    shrunk = []
    assert peak_of(lambda: shrunk.append(read_square(data, 32))) < 100 * MIB  # not 286
    difference = shrunk[0].astype(int) - square(read_image(data), 32)
    assert 0 < abs(difference).max() <= 4


def test_a_photo_of_more_pixels_than_the_limit_is_read_if_fewer_are_decoded():
    data = encoded(Image.new("L", (12_000, 9_000), 60), "JPEG")
    assert (read_square(data, 32) == 60).all()
    with opened_image(data) as image:
        boxes = np.array([[0.0, 0, 4_000, 4_000], [5_000, 8_000, 9_000, 12_000]])
        assert (image.crops(boxes, 32) == 60).all()
    with pytest.raises(SkippedImage, match="a has 12000x9000 pixels"):
        read_image(data, name="a")
    with pytest.raises(SkippedImage, match="a has 12000x9000 pixels"):
        read_square(data, 5_000, name="a")


def test_a_progressive_jpeg_counts_in_full_since_its_decoder_keeps_all_of_it():
    data = encoded(blurred(2_000, 2_000), "JPEG", progressive=True)
    with (
        pytest.raises(SkippedImage, match="has 2000x2000 pixels"),
        opened_image(data, fast_jpeg=True, max_pixels=3_000_000) as image,
    ):
        image.crops(np.array([[0.0, 0, 2_000, 2_000]]), 8)
    with opened_image(data, fast_jpeg=True, max_pixels=4_000_000) as image:
        assert image.crops(np.array([[0.0, 0, 2_000, 2_000]]), 8).shape == (1, 8, 8, 3)


@pytest.mark.parametrize("turned", [False, True])
def test_a_strip_takes_a_few_mebibytes(turned):
    strip = Image.new("RGB", (1, 100_000) if turned else (100_000, 1), (1, 2, 3))
    data = encoded(strip)
    assert peak_of(lambda: read_square(data, 32)) < 8 * MIB
    assert (read_square(data, 32) == [1, 2, 3]).all()


# Memory


def test_threads_that_share_a_budget_stay_below_it_together():
    # 32 kB of 16 million pixels each, of which one fits and four do not.
    data = encoded(Image.fromarray(np.zeros((4_000, 4_000), np.uint16)))
    budget = DecodingBudget(200 * MIB)

    def read(_):
        with opened_image(data, budget=budget) as image:
            return image.square(32)

    def read_all():
        with ThreadPoolExecutor(4) as pool:
            assert len(list(pool.map(read, range(6)))) == 6

    assert len(data) < 64 * 1024
    kept_by_the_allocator = 4 * 32 * MIB  # for each thread, whoever asked for it
    assert peak_of(read_all) < 200 * MIB + kept_by_the_allocator


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_no_mode_takes_more_than_ten_bytes_a_pixel(mode):
    image = Image.new(mode, (4_000, 4_000))
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    del image
    assert peak_of(lambda: read_square(data, 32)) < 10 * 16_000_000


def test_one_image_larger_than_the_budget_is_decoded_alone():
    budget = DecodingBudget(100)
    order = []
    with budget.holding(1_000):
        other = threading.Thread(target=lambda: _hold(budget, 10, order))
        other.start()
        time.sleep(0.05)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def _hold(budget, size, order):
    with budget.holding(size):
        order.append("second")


def test_a_budget_is_free_again_after_a_broken_file():
    budget = DecodingBudget(1)
    data = encoded(Image.fromarray(random_pixels(64, 64)))
    for part in (data[: len(data) // 2], data):
        try:
            with opened_image(part, budget=budget) as image:
                image.square(8)
        except SkippedImage:
            assert part is not data
    with budget.holding(1):
        pass


# Levels


def levels_of(array, *, mode="TIFF", **options):
    with opened_image(encoded(Image.fromarray(array), mode), name="scan", **options) as image:
        return image.pixels()[0, :, 0].tolist()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_the_level_that_is_white_can_be_said(format):
    array = np.array([[0, 8, 9, 2048, 4095]], np.uint16)
    assert levels_of(array, mode=format, levels=4095) == [0, 0, 1, 128, 255]
    assert levels_of(array, mode=format) == [0, 0, 0, 8, 16]


def test_levels_above_the_white_one_are_refused_and_the_way_on_is_named():
    array = np.array([[0, 5000]], np.uint16)
    with pytest.raises(SkippedImage, match=r"scan has grey levels from 0 to 5000.*4095") as caught:
        levels_of(array, levels=4095)
    assert "5000 for white with --levels" in str(caught.value)
    assert caught.value.reason == "levels out of range"


def test_thirty_two_bit_levels_are_read_as_sixteen_or_as_is_said():
    array = np.array([[0, 65535, 65536]], np.int32)
    assert levels_of(array[:, :2]) == [0, 255]
    with pytest.raises(SkippedImage, match=r"scan has grey levels from 0 to 65536.*scale them"):
        levels_of(array)
    assert levels_of(array, levels=65536) == [0, 255, 255]
    with pytest.raises(SkippedImage, match=r"from -1 to 65535.*scale them first$"):
        levels_of(array - 1)


def test_floats_from_zero_to_one_are_read_and_others_as_is_said():
    array = np.array([[0, 0.002, 0.5, 1]], np.float32)
    assert levels_of(array) == [0, 1, 128, 255]
    assert levels_of(array * 3000, levels=3000) == [0, 1, 128, 255]
    with pytest.raises(SkippedImage, match=r"from 0 to 3000, where 1 is white.*take 3000 for"):
        levels_of(array * 3000)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -0.1])
def test_floats_that_no_scale_makes_grey_are_refused(odd):
    with pytest.raises(SkippedImage, match=r"scale them first$"):
        levels_of(np.array([[0, odd]], np.float32))


def test_eight_bits_are_as_they_are():
    assert levels_of(np.array([[0, 7]], np.uint8), levels=4095) == [0, 7]


@pytest.mark.parametrize(
    ("array", "highest"),
    [
        (np.array([[3, 4000]], np.uint16), 4000),
        (np.array([[3, 40]], np.uint8), None),
        (np.array([[0.5]], np.float32), None),
    ],
)
def test_the_highest_level_of_sixteen_bits_is_known(array, highest):
    with opened_image(encoded(Image.fromarray(array), "TIFF")) as image:
        image.square(4)
        assert image.highest_level == highest


def sixteen_bit_color(level):
    """Return a PNG of one pixel whose three channels have this level."""
    png = encoded(Image.new("RGB", (1, 1)))
    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", *[level] * 3)))]
    return png[:8] + b"".join(chunk(*parts) for parts in [*chunks, (b"IEND", b"")])


def test_the_levels_of_sixteen_bit_color_are_looked_at_and_not_scaled():
    with opened_image(sixteen_bit_color(4_000)) as image:
        assert image.pixels().tolist() == [[[15, 15, 15]]]
        assert image.highest_level == 4095
    with opened_image(sixteen_bit_color(65_535)) as image:
        assert image.pixels().tolist() == [[[255, 255, 255]]]
        assert image.highest_level == 65535
    with (
        pytest.raises(SkippedImage, match=r"16-bit color.*convert it to 8 bits"),
        opened_image(sixteen_bit_color(4_000), levels=4095) as image,
    ):
        image.pixels()


def test_a_note_says_that_sixteen_bits_hold_twelve():
    assert "levels up to 3,911 of 65,535" in levels_note(3911)
    assert levels_note(3911).count("say --levels 4095 ")
    assert levels_note(1023).count("say --levels 1023 ")
    assert levels_note(4096) is None


def test_tiles_make_no_difference():
    pixels = random_pixels(3, 700_000)
    for image in (Image.fromarray(pixels), Image.fromarray(pixels.swapaxes(0, 1).copy())):
        image.putalpha(Image.fromarray(random_pixels(*image.size[::-1], seed=1)[..., 0].copy()))
        white = Image.new("RGBA", image.size, "white")
        wanted = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=0)
        np.testing.assert_array_equal(read_image(file.getvalue()), wanted)
