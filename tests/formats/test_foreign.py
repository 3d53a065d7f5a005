"""What is read off weights under other names; each format's own test has the names."""

from pathlib import Path

import pytest
import torch

from igpt.errors import CheckpointError
from igpt.formats.foreign import ForeignWeights, published_heads
from igpt.model.config import SIZES


def foreign(*, widen=False, **tensors):
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return ForeignWeights(Path("theirs.bin"), shapes, tensors.__getitem__, widen=widen)


def test_published_heads_are_known_and_others_are_not():
    for name in ("igpt-s", "igpt-m", "igpt-l"):
        assert published_heads(SIZES[name].layers, SIZES[name].width) == SIZES[name].heads
    assert published_heads(60, 3072) is None  # the paper does not say
    assert published_heads(2, 8) is None


def test_a_weight_is_taken_once_and_none_may_be_left():
    weights = foreign(a=torch.ones(2), b=torch.ones(3))
    assert torch.equal(weights.take("a", 2), torch.ones(2))
    with pytest.raises(CheckpointError, match=r"theirs\.bin lacks 'a'; is it a whole copy"):
        weights.take("a", 2)
    with pytest.raises(CheckpointError, match="holds 'b', which an image GPT does not have"):
        weights.require_all_taken()
    weights.take("b", 3)
    weights.require_all_taken()


def test_a_weight_of_another_shape_is_refused():
    with pytest.raises(CheckpointError, match=r"'a' of shape \(2,\), where .* need \(3,\)"):
        foreign(a=torch.ones(2)).take("a", 3)
    with pytest.raises(CheckpointError, match="no weight 'a' of 2 axes"):
        foreign(a=torch.ones(2)).shape("a", axes=2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_only_when_asked(dtype):
    half = torch.tensor([1.5, -2.0], dtype=dtype)
    assert torch.equal(foreign(a=half, widen=True).take("a", 2), half.float())
    with pytest.raises(CheckpointError, match=r"'a' in b?float16.*with igpt convert --widen"):
        foreign(a=half).take("a", 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_other_types_are_refused_even_then(dtype):
    with pytest.raises(CheckpointError, match=r"computes what it was trained for in float32$"):
        foreign(a=torch.ones(2, dtype=dtype), widen=True).take("a", 2)


def test_layers_are_counted_by_their_numbers():
    names = ("h0/a", "h1/a", "h1/b", "head", "xh11/")
    weights = foreign(**{name: torch.ones(1) for name in names})
    assert weights.layers(r"h(\d+)/") == 2
    assert foreign().layers(r"h(\d+)/") == 0


def test_a_layer_that_is_missing_or_made_up_is_told_before_a_network_is_built():
    weights = foreign(**{"h0/a": torch.ones(1), "h9999999/a": torch.ones(1)})
    with pytest.raises(CheckpointError, match="weights of 2 layers, and none of layer 1"):
        weights.layers(r"h(\d+)/")


def test_an_image_is_a_square_of_positions():
    assert foreign(wpe=torch.ones(16, 3)).image_size("wpe") == 4
    with pytest.raises(CheckpointError, match="15 positions, which are no square image"):
        foreign(wpe=torch.ones(15, 3)).image_size("wpe")


def test_heads_are_those_of_the_files_or_the_users_or_the_published():
    heads = foreign().heads
    assert heads(3, None, layers=2, width=12) == heads(3, 3, layers=2, width=12) == 3
    assert heads(None, 4, layers=24, width=512) == 4
    assert heads(None, None, layers=24, width=512) == 8
    with pytest.raises(CheckpointError, match="says itself that there are 3 heads, not 4; leave"):
        heads(3, 4, layers=2, width=12)
    with pytest.raises(CheckpointError, match="width 12 are no published size; say so with --head"):
        heads(None, None, layers=2, width=12)
