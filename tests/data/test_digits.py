import numpy as np
import pytest

from igpt.data.config import SourceConfig
from igpt.data.digits import placed_digits
from igpt.data.sources import open_source
from igpt.errors import ConfigError


def test_no_digit_is_in_both_splits_and_each_split_has_its_share_of_every_kind():
    splits = placed_digits(8, placements=1, seed=0)
    train, test = splits["train"], splits["test"]
    assert (len(train), len(test)) == (1437, 360)
    digits = [{split.image(index).name for index in range(len(split))} for split in splits.values()]
    assert len(digits[0]) == 1437
    assert not digits[0] & digits[1]
    assert np.bincount(test.labels).tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]


def test_placements_of_a_digit_show_it_in_different_places():
    train = open_source("digits", SourceConfig(placements=3), image_size=16).splits["train"]
    assert (len(train), train.copies) == (1437, 3)
    assert train.image(0).read().shape == (3, 16, 16, 3)
    first, second, _ = train.image(0).read()
    assert not np.array_equal(first, second)
    assert sorted(first.ravel()) == sorted(second.ravel())  # moved, and nothing else


def test_digits_are_white_on_black_in_three_equal_channels():
    train = placed_digits(8, placements=1, seed=0)["train"]
    images = np.concatenate([train.image(index).read() for index in range(100)])
    assert images.max() == 255
    assert np.median(images[:, :, 0]) == 0  # ink seldom touches the left edge
    assert (images == images[..., :1]).all()


def test_digits_depend_on_the_seed_alone():
    def first(seed: int) -> np.ndarray:
        return placed_digits(32, placements=2, seed=seed)["train"].image(0).read()

    np.testing.assert_array_equal(first(0), first(0))
    assert not np.array_equal(first(0), first(1))


@pytest.mark.parametrize(("image_size", "placements"), [(7, 1), (8, 0)])
def test_digits_that_have_no_place_are_refused(image_size, placements):
    with pytest.raises(ConfigError, match="at least 8 and at least 1 placement"):
        open_source("digits", SourceConfig(placements=placements), image_size=image_size)
