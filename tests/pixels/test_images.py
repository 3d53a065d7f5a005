import contextlib
import errno
import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from igpt.errors import DataError
from igpt.pixels.images import (
    image_grid,
    opened_image,
    read_image,
    read_square,
    read_whole_png,
    resize_images,
    square,
    to_grey,
    write_png,
)
from igpt.pixels.opening import SkippedImage


def random_pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(256, size=(*shape, 3), dtype=np.uint8)


def encoded(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def test_a_png_is_read_as_it_was_written(tmp_path):
    pixels = random_pixels(5, 7)
    write_png(tmp_path / "a.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)
    np.testing.assert_array_equal(read_image((tmp_path / "a.png").read_bytes()), pixels)


UPRIGHT = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
STORED = {  # how a camera that wrote this orientation stores the upright image
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.swapaxes(0, 1),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_an_image_is_upright_whatever_way_the_camera_was_held(orientation, format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    np.testing.assert_array_equal(read_image(encoded(image, format, exif=exif)), UPRIGHT)


def test_grey_levels_stand_in_all_three_channels():
    grey = random_pixels(4, 6)[..., 0]
    read = read_image(encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(read, np.stack([grey] * 3, axis=-1))


def test_one_bit_is_black_or_white():
    bits = Image.fromarray(random_pixels(4, 6)[..., 0]).convert("1")
    read = read_image(encoded(bits))
    np.testing.assert_array_equal(read[..., 1], np.where(np.asarray(bits), 255, 0))


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 51), (128, 153)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_laid_on_white(mode, alpha, expected):
    image = Image.new(mode, (2, 2), (51,) * (len(mode) - 1) + (alpha,))
    assert abs(read_image(encoded(image)).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "transparency", [1, b"\xff\x00"], ids=["one transparent index", "an alpha for each index"]
)
def test_indexed_colors_are_looked_up_and_the_transparent_one_is_white(transparency):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = read_image(encoded(image, transparency=transparency))
    assert read.tolist() == [[[10, 20, 30], [255, 255, 255]]]


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_a_color_that_the_file_calls_transparent_is_white(mode):
    black = (0, 0, 0) if mode == "RGB" else 0
    image = Image.new(mode, (2, 1), black)
    assert (read_image(encoded(image)) == 0).all()
    assert (read_image(encoded(image, transparency=black)) == 255).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(format):
    levels = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    read = read_image(encoded(Image.fromarray(levels), format))
    assert read[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert read.shape == (1, 6, 3)


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    read = read_image(encoded(image, "JPEG", quality=100))
    assert abs(read.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(format):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "lime", "blue")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert (read_image(data) == [255, 0, 0]).all()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_file_is_refused_in_one_line(format, tmp_path):
    path = tmp_path / "half.img"
    data = encoded(Image.fromarray(random_pixels(64, 64)), format)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"half\.img is (broken|not an image)") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_no_damage_raises_anything_but_a_data_error():
    generator = np.random.default_rng(0)
    image = Image.fromarray(random_pixels(16, 16))
    for format in ("PNG", "JPEG", "GIF", "WEBP", "TIFF"):
        whole = np.frombuffer(encoded(image, format), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[generator.integers(len(whole), size=5)] = generator.integers(256, size=5)
            with contextlib.suppress(DataError):
                assert read_image(damaged.tobytes()).ndim == 3


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "notes.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"notes\.png is not an image.*PNG or JPEG"):
        read_image(tmp_path / "notes.png")
    with pytest.raises(DataError, match="row 7 is empty"):
        read_image(b"", name="row 7")


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"could not read .*gone\.png: No such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="Is a directory"):
        read_image(tmp_path)


def test_an_image_of_a_mode_without_meaning_in_rgb_is_refused():
    image = Image.new("LAB", (2, 2))
    with pytest.raises(SkippedImage, match=r"scan holds pixels of Pillow's mode LAB.*8-bit RGB"):
        read_image(encoded(image, "TIFF"), name="scan")


@pytest.mark.parametrize("turned", [False, True])
def test_a_square_is_the_middle_of_the_image_in_its_own_proportions(turned):
    pixels = random_pixels(20, 50)
    small = Image.fromarray(pixels).resize((20, 8), Image.Resampling.BOX)
    middle = np.asarray(small)[:, 6:14]
    if turned:
        pixels, middle = pixels.swapaxes(0, 1), middle.swapaxes(0, 1)
    assert abs(square(np.ascontiguousarray(pixels), 8).astype(int) - middle).max() <= 1


def test_the_square_of_a_file_is_that_of_its_pixels():
    for shape in ((20, 50), (50, 20), (8, 8), (8, 30), (3, 5)):
        pixels = random_pixels(*shape)
        for filter in ("box", "bicubic"):
            read = read_square(encoded(Image.fromarray(pixels)), 8, filter)
            np.testing.assert_array_equal(read, square(pixels, 8, filter))


@pytest.mark.parametrize("filter", ["box", "bilinear", "lanczos"])
@pytest.mark.parametrize(("side", "size"), [(1, 30), (20, 32), (40, 30)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_long_strip_is_as_if_it_were_resized_whole(turned, side, size, filter):
    ratio = 3_000  # enough for the whole to become larger than what is resized whole
    pixels = random_pixels(side, ratio * side) // 2 + 64  # no filter's overshoot is clipped
    shape = (ratio * size, size)
    start = (ratio * size - size) // 2
    if turned:
        pixels, shape = np.ascontiguousarray(pixels.swapaxes(0, 1)), (size, ratio * size)
    whole = Image.fromarray(pixels).resize(shape, Image.Resampling[filter.upper()])
    corner = (0, start) if turned else (start, 0)
    middle = np.asarray(whole.crop((*corner, corner[0] + size, corner[1] + size)))
    assert abs(square(pixels, size, filter).astype(int) - middle).max() <= 1


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory as Linux tells it")
@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1)])
def test_a_strip_of_few_bytes_takes_little_memory(tmp_path, shape):
    """Resized whole to 224 pixels it would be 5 billion pixels, to 32 a hundred million."""
    path = tmp_path / "strip.png"
    write_png(path, np.zeros((*shape, 3), np.uint8))
    assert path.stat().st_size < 1000
    code = f"""
from igpt.pixels.images import read_square
def peak():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024
before = peak()
for size in (32, 224):
    assert read_square({str(path)!r}, size).shape == (size, size, 3)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64  # MiB


def test_the_default_filter_averages_areas():
    pixels = random_pixels(8, 8)
    means = pixels.reshape(4, 2, 4, 2, 3).mean(axis=(1, 3))
    assert abs(square(pixels, 4) - means).max() <= 1


@pytest.mark.parametrize("filter", ["box", "bilinear", "hamming", "bicubic", "lanczos"])
def test_every_filter_keeps_a_plain_color(filter):
    pixels = np.full((13, 9, 3), 77, np.uint8)
    assert (square(pixels, 5, filter) == 77).all()
    assert square(pixels, 5, filter).shape == (5, 5, 3)


def test_images_of_the_right_size_stay_as_they_are():
    images = random_pixels(3, 8, 8)
    np.testing.assert_array_equal(resize_images(images, 8), images)


def test_images_are_resized_whole_unless_a_box_of_each_is_given():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[:, :2, :2] = 200
    assert resize_images(images, 2)[1, :, :, 0].tolist() == [[200, 0], [0, 0]]
    boxes = np.array([[0.0, 0, 2, 2], [0, 1, 2, 3]])
    assert resize_images(images, 2, boxes=boxes)[:, :, :, 0].tolist() == [
        [[200, 200], [200, 200]], [[200, 0], [200, 0]]
    ]  # fmt: skip


def test_an_image_of_the_right_height_is_only_cropped():
    pixels = random_pixels(6, 9)
    np.testing.assert_array_equal(square(pixels, 6), pixels[:, 1:7])


def test_grey_is_pillows_luminance():
    pixels = random_pixels(200, 200)
    luminance = np.asarray(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(to_grey(pixels), np.stack([luminance] * 3, axis=-1))


def test_a_grid_puts_each_image_in_its_row_and_column():
    images = random_pixels(2, 3, 4, 5)
    grid = image_grid(images, scale=2, gap=1, background=9)
    assert grid.shape == (2 * 8 + 1, 3 * 10 + 2, 3)
    np.testing.assert_array_equal(grid[9:17:2, 22:32:2], images[1, 2])
    np.testing.assert_array_equal(grid[10:17:2, 23:32:2], images[1, 2])
    assert (grid[8] == 9).all()
    assert (grid[:, [10, 21]] == 9).all()


def test_a_grid_needs_no_gap():
    images = random_pixels(1, 2, 4, 5)
    np.testing.assert_array_equal(image_grid(images, gap=0), np.hstack(images[0]))


def test_a_full_disk_leaves_the_old_png_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_png(path, random_pixels(4, 4))
    before = path.read_bytes()

    def full(self, data):
        self.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"could not write .*a\.png: No space left"):
        write_png(path, random_pixels(4, 4, seed=1))
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == before


# Crops


def smooth_jpeg(width=500, height=375, **options):
    """Noise in blocks of a dozen pixels, blurred, as a JPEG."""
    noise = Image.fromarray(random_pixels(height // 12, width // 12))
    return encoded(noise.resize((width, height), Image.Resampling.BICUBIC), "JPEG", **options)


def crops_of(file, boxes, size, *filters, **options):
    with opened_image(file, **options) as image:
        return image.crops(np.array(boxes, dtype=np.float64), size, *filters)


@pytest.mark.parametrize(("filter", "reach"), [("box", 0), ("bilinear", 1), ("lanczos", 3)])
@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_crop_at_whole_pixels_is_the_resized_part(filter, reach, format):
    # A wider filter sees what lies around the box, which cutting first takes away.
    inside = slice(reach, 16 - reach)
    file = encoded(Image.fromarray(random_pixels(60, 80)), format)
    crops = crops_of(file, [[5, 10, 45, 50], [0, 0, 60, 60]], 16, filter)
    whole = Image.open(io.BytesIO(file)).convert("RGB")
    for crop, corners in zip(crops, [(10, 5, 50, 45), (0, 0, 60, 60)], strict=True):
        part = whole.crop(corners).resize((16, 16), Image.Resampling[filter.upper()])
        np.testing.assert_array_equal(crop[inside, inside], np.asarray(part)[inside, inside])


def test_a_crop_at_fractions_of_pixels_is_near_that_of_the_enlarged_image():
    pixels = np.asarray(Image.open(io.BytesIO(smooth_jpeg(96, 72))))
    box = np.array([3.25, 10.5, 51.25, 58.5])
    file = encoded(Image.fromarray(pixels))
    (crop,) = crops_of(file, [box], 8, "box")
    top, left, bottom, right = (int(edge) for edge in box * 4)
    fourfold = pixels.repeat(4, axis=0).repeat(4, axis=1)[top:bottom, left:right].astype(float)
    wanted = fourfold.reshape(8, 24, 8, 24, 3).mean(axis=(1, 3))
    assert np.abs(crop - wanted).mean() < 4


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("fast_jpeg", [False, True])
def test_boxes_lie_in_the_upright_image(orientation, fast_jpeg):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = smooth_jpeg(120, 80, exif=exif)
    upright = read_image(file)
    with opened_image(file, fast_jpeg=fast_jpeg) as image:
        assert (image.height, image.width) == upright.shape[:2]
        (crop,) = image.crops(np.array([[8.0, 16.0, 72.0, 80.0]]), 4)
    wanted = Image.fromarray(upright[8:72, 16:80]).resize((4, 4), Image.Resampling.BOX)
    assert np.abs(crop.astype(int) - np.asarray(wanted)).max() <= (4 if fast_jpeg else 0)


@pytest.mark.parametrize(("filter", "decibels"), [("box", 25), ("bilinear", 38), ("bicubic", 38)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_fast_option_is_near_the_exact_one(filter, decibels, mode):
    image = Image.open(io.BytesIO(smooth_jpeg())).convert(mode)
    file = encoded(image, "JPEG", quality=95)
    boxes = [[10.3, 20.7, 270.9, 281.3], [100.0, 230.0, 360.2, 490.2]]
    exact, fast = (
        crops_of(file, boxes, 32, filter, fast_jpeg=fast_jpeg) for fast_jpeg in (False, True)
    )
    assert not np.array_equal(exact, fast)
    error = np.mean((exact.astype(float) - fast) ** 2)
    assert 10 * np.log10(255**2 / error) > decibels


@pytest.mark.parametrize(
    ("side", "shrunk"), [(127, 1), (128, 2), (255, 2), (256, 4), (300, 4), (512, 8)]
)
def test_the_decoder_shrinks_as_far_as_the_smallest_crop_keeps_twice_its_size(
    side, shrunk, monkeypatch
):
    drafted = []
    draft = JpegImagePlugin.JpegImageFile.draft

    def watched(image, mode, size):
        before = image.width
        done = draft(image, mode, size)
        drafted.append(round(before / image.width))
        return done

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", watched)
    boxes = [[0, 0, side, side], [0, 0, 520, 520]]
    crops_of(smooth_jpeg(601, 599), boxes, 32, fast_jpeg=True)
    assert drafted == [shrunk]


def test_other_formats_are_cut_exactly_by_the_fast_option_too():
    file = encoded(Image.fromarray(random_pixels(300, 300)))
    box = [1.5, 2.5, 290.1, 291.1]
    exact, fast = (crops_of(file, [box], 32, fast_jpeg=fast) for fast in (False, True))
    np.testing.assert_array_equal(exact, fast)


@pytest.mark.parametrize("fast_jpeg", [False, True])
def test_half_a_jpeg_gives_no_crops(fast_jpeg):
    file = smooth_jpeg()
    with pytest.raises(DataError, match=r"photo is broken \(.*truncated"):
        crops_of(file[: len(file) // 2], [[0, 0, 50, 50]], 8, name="photo", fast_jpeg=fast_jpeg)


def test_every_changed_bit_and_cut_of_a_png_of_ours_is_found(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8))
    whole = path.read_bytes()
    assert read_whole_png(path) == whole
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(DataError, match=r"a\.png"):
            read_whole_png(path)
    for kept in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(DataError, match=r"a\.png is no whole PNG file"):
            read_whole_png(path)
