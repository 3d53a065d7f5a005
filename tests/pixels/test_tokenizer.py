import numpy as np
import pytest
import torch
from PIL import Image

from igpt.errors import ConfigError, DataError
from igpt.pixels.orders import reading_order
from igpt.pixels.palette import Palette
from igpt.pixels.preparation import Preparation
from igpt.pixels.tokenizer import ImageTokenizer


def four_color_tokenizer(image_size=2):
    colors = np.array([[-1, -1, -1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
    return ImageTokenizer(Palette(colors), image_size)


BLACK, RED, GREEN, BLUE = [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]


def test_tokens_run_along_the_rows_from_the_top():
    images = np.array([[[RED, GREEN], [BLUE, BLACK]], [[BLACK, BLACK], [RED, RED]]], np.uint8)
    tokens = four_color_tokenizer().encode(images)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == [[1, 2, 3, 0], [0, 0, 1, 1]]


def test_an_image_in_the_palettes_colors_comes_back():
    tokenizer = four_color_tokenizer(5)
    tokens = torch.randint(4, (3, 25), generator=torch.Generator().manual_seed(0))
    images = tokenizer.decode(tokens)
    assert images.shape == (3, 5, 5, 3)
    assert torch.equal(tokenizer.encode(images), tokens)
    np.testing.assert_array_equal(tokenizer.decode(tokens.numpy()), images)


def test_what_is_completed_of_an_image_are_all_but_its_first_rows():
    tokenizer = four_color_tokenizer(5)
    assert tokenizer.half_rows == 2
    assert tokenizer.second_half.tolist() == [[False] * 5] * 2 + [[True] * 5] * 3


ORDERS = ["columns", "spiral", "hilbert", "random:5"]


@pytest.mark.parametrize("order", ORDERS)
def test_in_any_order_images_come_back_and_maps_lie_as_the_image_does(order):
    plain = four_color_tokenizer(5)
    tokenizer = ImageTokenizer(plain.palette, 5, order=order)
    tokens = torch.randint(4, (3, 25), generator=torch.Generator().manual_seed(0))
    images = tokenizer.decode(tokens)
    assert torch.equal(tokenizer.encode(images), tokens)
    np.testing.assert_array_equal(tokenizer.decode(tokens.numpy()), images)
    assert not torch.equal(plain.encode(images), tokens)
    assert torch.equal(plain.encode(images)[:, reading_order(order, 5)], tokens)
    red = (images == RED).all(axis=-1)
    np.testing.assert_array_equal(tokenizer.as_map(tokens == 1).numpy(), red)
    assert torch.equal(tokenizer.positions_of(red[0]), tokens[0] == 1)
    assert tokenizer.prepared(Preparation(size=9)).order == order


@pytest.mark.parametrize("order", ORDERS)
def test_in_any_order_what_is_completed_is_what_is_read_last(order):
    tokenizer = ImageTokenizer(four_color_tokenizer().palette, 5, order=order)
    late = tokenizer.positions_of(tokenizer.second_half)
    assert late.tolist() == [False] * 10 + [True] * 15


def test_an_order_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="no reading order 'spirl'; did you mean 'spiral'"):
        ImageTokenizer(four_color_tokenizer().palette, 5, order="spirl")


def test_a_map_shows_each_position_where_its_pixel_is():
    tokenizer = four_color_tokenizer(3)
    images = np.zeros((2, 3, 3, 3), np.uint8)
    images[1, 2, 1] = GREEN
    shown = tokenizer.as_map((tokenizer.encode(images) == 2).float())
    assert shown.shape == (2, 3, 3)
    assert shown.nonzero().tolist() == [[1, 2, 1]]


def test_no_images_are_no_tokens():
    tokenizer = four_color_tokenizer()
    tokens = tokenizer.encode(np.zeros((0, 2, 2, 3), np.uint8))
    assert tokens.shape == (0, 4)
    assert tokenizer.decode(tokens).shape == (0, 2, 2, 3)


def test_images_of_another_size_are_refused():
    message = "reads 2x2 images, but these are 4x3; tokenizer.squares"
    with pytest.raises(DataError, match=message):
        four_color_tokenizer().encode(np.zeros((1, 3, 4, 3), np.uint8))


@pytest.mark.parametrize(("kind", "channels"), [(float, 3), (np.int64, 3), (np.uint8, 4)])
def test_arrays_of_another_kind_are_refused(kind, channels):
    with pytest.raises(DataError, match=r"pixels should be uint8 \(\.\.\., 3\), got"):
        four_color_tokenizer().encode(np.zeros((1, 2, 2, channels), kind))


def test_tokens_of_another_size_or_palette_are_refused():
    with pytest.raises(DataError, match="a 2x2 image has 4 tokens, but these have 9"):
        four_color_tokenizer().decode(torch.zeros(1, 9, dtype=torch.long))
    with pytest.raises(DataError, match=r"4-color palette lie in \[0, 4\)"):
        four_color_tokenizer().decode(torch.full((1, 4), 4))


def test_files_and_images_of_differing_sizes_are_cropped_and_resized(tmp_path):
    pixels = np.full((6, 9, 3), RED, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "red.png")
    tokenizer = four_color_tokenizer()
    images = [tmp_path / "red.png", Image.new("RGB", (5, 3), "blue"), pixels[:4, :4]]
    assert tokenizer.encode(images).tolist() == [[1] * 4, [3] * 4, [1] * 4]
    assert tokenizer.squares(images).shape == (3, 2, 2, 3)
    for image in (str(tmp_path / "red.png"), images[1], pixels):  # one will do
        assert tokenizer.encode(image).shape == (1, 4)
    assert tokenizer.encode([]).shape == (0, 4)
