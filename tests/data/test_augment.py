from typing import get_args

import numpy as np
import pytest
from PIL import Image

from igpt.data.augment import Augmentation, augment, crop_boxes
from igpt.randomness import Stream, stream


def random_images(batch: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)


@pytest.mark.parametrize("augmentation", get_args(Augmentation))
@pytest.mark.parametrize("ranks", [2, 4])
def test_any_number_of_ranks_sees_the_same_batch(augmentation, ranks):
    images = random_images(8, 16)
    whole = augment(images, augmentation, image_size=8, seed=3, step=5)
    for rank in range(ranks):
        share = augment(
            images[rank::ranks], augmentation, image_size=8, seed=3, step=5, rank=rank, ranks=ranks
        )
        np.testing.assert_array_equal(share, whole[rank::ranks])


@pytest.mark.parametrize("augmentation", ["random-resize-crop", "reflect-crop-flip", "flip"])
def test_draws_depend_on_the_seed_and_the_step_and_nothing_else(augmentation):
    images = random_images(8, 8)

    def at(seed: int, step: int) -> np.ndarray:
        return augment(images, augmentation, image_size=8, seed=seed, step=step)

    np.testing.assert_array_equal(at(0, 1), at(0, 1))
    assert not np.array_equal(at(0, 1), at(0, 2))
    assert not np.array_equal(at(0, 1), at(1, 1))


def test_none_leaves_images_of_the_right_size_as_they_are():
    images = random_images(3, 8)
    np.testing.assert_array_equal(augment(images, "none", image_size=8, seed=0, step=0), images)


def test_none_shrinks_the_whole_of_larger_images():
    images = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    images[:, :2, :2] = 200
    shrunk = augment(images, "none", image_size=2, seed=0, step=0, filter="box")
    assert shrunk[0, :, :, 0].tolist() == [[200, 0], [0, 0]]


def test_flip_mirrors_about_half_of_the_images_and_changes_no_other():
    images = random_images(400, 4)
    flipped = augment(images, "flip", image_size=4, seed=0, step=0)
    kept = (flipped == images).all(axis=(1, 2, 3))
    mirrored = (flipped == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all()
    assert 150 < mirrored.sum() < 250


def test_reflect_crop_flip_gives_each_of_its_162_crops():
    image = random_images(1, 12)[0]
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    possible = {
        source[top : top + 12, left : left + 12].tobytes()
        for source in (padded, padded[:, ::-1])
        for top in range(9)
        for left in range(9)
    }
    images = np.repeat(image[None], 3000, axis=0)
    made = augment(images, "reflect-crop-flip", image_size=12, seed=0, step=0)
    assert {crop.tobytes() for crop in made} == possible
    assert len(possible) == 162


def test_random_resize_crop_keeps_between_224_384ths_and_224_256ths_of_the_side():
    # On a ramp from 0 to 255, the shades of a crop's edges tell where the crop was cut.
    ramp = np.linspace(0, 255, 384).round().astype(np.uint8)
    images = np.empty((300, 384, 384, 3), dtype=np.uint8)
    images[:] = ramp[None, None, :, None]
    crops = augment(images, "random-resize-crop", image_size=32, seed=0, step=0, filter="box")
    first, last = crops[:, 0, 0, 0].astype(float), crops[:, 0, -1, 0].astype(float)
    share = (last - first) / 255 * 32 / 31
    assert share.min() == pytest.approx(224 / 384, abs=0.02)
    assert share.max() == pytest.approx(224 / 256, abs=0.02)
    assert first.min() < 10
    assert last.max() > 245


def test_random_resize_crop_looks_like_the_two_resizes_of_the_paper():
    noise = random_images(1, 12)[0]
    image = np.asarray(Image.fromarray(noise).resize((384, 384), Image.Resampling.BICUBIC))
    made = augment(image[None], "random-resize-crop", image_size=32, seed=1, step=0, filter="box")

    draws = stream(Stream.AUGMENTATION, 1, 0).random(3)  # those of augment()
    length = 256 + int(129 * draws[0])
    top, left = (int((length - 223) * draw) for draw in draws[1:])
    resized = np.asarray(Image.fromarray(image).resize((length, length), Image.Resampling.BOX))
    crop = Image.fromarray(resized[top : top + 224, left : left + 224])
    expected = np.asarray(crop.resize((32, 32), Image.Resampling.BOX))
    assert np.abs(made[0].astype(int) - expected).mean() < 1


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (60, 61), (224, 2000)])
def test_boxes_lie_where_the_paper_crops_the_resized_image(height, width):
    boxes = crop_boxes(np.random.default_rng(7), height, width, 500)
    draws = np.random.default_rng(7)
    lengths, tops = [], []
    for box in boxes:
        for_length, for_top, for_left = draws.random(), draws.random(), draws.random()
        length = 256 + int(129 * for_length)
        new_height, new_width = (
            round(side * length / min(height, width)) for side in (height, width)
        )
        top = int((new_height - 224 + 1) * for_top)
        left = int((new_width - 224 + 1) * for_left)
        lengths.append(length)
        tops.append(top / (new_height - 224))
        down, across = height / new_height, width / new_width
        wanted = [top * down, left * across, (top + 224) * down, (left + 224) * across]
        np.testing.assert_allclose(box, wanted, rtol=1e-12, atol=1e-12)
    assert (min(lengths), max(lengths)) == (256, 384)
    assert (min(tops), max(tops)) == (0, 1)
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [height, width]).all()


def test_the_first_boxes_are_the_same_however_many_follow():
    few, many = (crop_boxes(np.random.default_rng(0), 40, 60, count) for count in (2, 9))
    np.testing.assert_array_equal(few, many[:2])
