import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from igpt.data.batches import Batch, TokenBatches, evaluation_batches, images_at_size
from igpt.data.order import records_at_step
from igpt.data.store import Records
from igpt.errors import ConfigError, DataError
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture(scope="module")
def tokenizer() -> ImageTokenizer:
    """Black is token 0 and white is token 1."""
    colors = np.array([[-1, -1, -1], [1, 1, 1]], dtype=np.float32)
    return ImageTokenizer(Palette(colors), 4)


def made_up_records(count: int, *, size: int = 4, labelled: bool = True) -> Records:
    """Records whose first `n` pixels are white, where `n` is the number and label of the record."""
    images = np.zeros((count, size * size, 3), dtype=np.uint8)
    for number in range(count):
        images[number, :number] = 255
    return Records(
        name="train",
        images=images.reshape(count, size, size, 3),
        labels=np.arange(count) if labelled else None,
        class_names=None,
    )


def test_a_batch_holds_the_tokens_and_labels_of_the_records_of_its_step(tokenizer):
    batch = TokenBatches(made_up_records(12), tokenizer, batch_size=4, seed=7).at(5)
    numbers = records_at_step(5, records=12, batch_size=4, seed=7)
    assert batch.labels is not None
    assert batch.labels.tolist() == numbers.tolist()
    assert batch.tokens.shape == (4, 16)
    assert batch.tokens.sum(1).tolist() == numbers.tolist()


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("augmentation", ["none", "reflect-crop-flip"])
def test_the_shares_of_the_ranks_make_up_the_batch_of_one(tokenizer, augmentation, ranks):
    def batch(rank: int, ranks: int) -> Batch:
        return TokenBatches(
            made_up_records(12),
            tokenizer,
            batch_size=4,
            seed=0,
            augmentation=augmentation,
            rank=rank,
            ranks=ranks,
        ).at(3)

    whole = batch(0, 1)
    for rank in range(ranks):
        share = batch(rank, ranks)
        torch.testing.assert_close(share.tokens, whole.tokens[rank::ranks])
        torch.testing.assert_close(share.labels, whole.labels[rank::ranks])


def test_a_step_has_the_same_batch_in_whatever_order_steps_are_asked_for(tokenizer):
    batches = TokenBatches(
        made_up_records(12), tokenizer, batch_size=4, seed=0, augmentation="flip"
    )
    forward = [batches.at(step).tokens for step in range(6)]
    backward = [batches.at(step).tokens for step in reversed(range(6))][::-1]
    torch.testing.assert_close(backward, forward)


def test_evaluation_reads_every_record_once_and_in_order(tokenizer):
    batches = list(evaluation_batches(made_up_records(10), tokenizer, batch_size=4))
    assert [len(batch.tokens) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.tokens.sum(1) for batch in batches]).tolist() == list(range(10))
    assert torch.cat([batch.labels for batch in batches]).tolist() == list(range(10))


def test_evaluation_shrinks_records_larger_than_the_model(tokenizer):
    (batch,) = evaluation_batches(made_up_records(2, size=8), tokenizer, batch_size=2)
    assert batch.tokens.shape == (2, 16)


def test_unlabelled_records_give_batches_without_labels(tokenizer):
    records = made_up_records(4, labelled=False)
    assert TokenBatches(records, tokenizer, batch_size=4, seed=0).at(0).labels is None
    assert next(evaluation_batches(records, tokenizer, batch_size=4)).labels is None


def test_tokens_of_another_palette_are_refused_before_any_is_learned_from(tokenizer):
    records = dataclasses.replace(made_up_records(12), token_palette="0123456789ab")
    wanted = f"tokens of palette 0123456789ab.*palette is {tokenizer.palette.fingerprint}"
    with pytest.raises(DataError, match=wanted):
        TokenBatches(records, tokenizer, batch_size=4, seed=0)
    with pytest.raises(DataError, match=wanted):
        next(evaluation_batches(records, tokenizer, batch_size=4))


def test_records_smaller_than_the_model_are_refused(tokenizer):
    small = made_up_records(12, size=2)
    wanted = "images of 2x2 pixels, and 4x4 are wanted; prepare them again with --image-size 4"
    with pytest.raises(DataError, match=wanted):
        TokenBatches(small, tokenizer, batch_size=4, seed=0)
    with pytest.raises(DataError, match=wanted):
        images_at_size(small, 4)


def test_crops_are_not_cropped_again(tokenizer):
    crops = dataclasses.replace(made_up_records(12), cropped=True)
    TokenBatches(crops, tokenizer, batch_size=4, seed=0, augmentation="flip")
    with pytest.raises(ConfigError, match=r"random crops already.*set augmentation=none"):
        TokenBatches(crops, tokenizer, batch_size=4, seed=0, augmentation="random-resize-crop")


@pytest.mark.parametrize(("size", "fits"), [(6, False), (7, True)])
def test_crops_that_would_have_to_be_enlarged_are_refused(tokenizer, size, fits):
    records = made_up_records(12, size=size)  # a crop of 7 pixels is at least 4 * 224 / 384 = 4.08
    refused = pytest.raises(ConfigError, match=r"6x6 .*224/384.*less than the model's 4;.*size 7 ")
    with contextlib.nullcontext() if fits else refused:
        TokenBatches(records, tokenizer, batch_size=4, seed=0, augmentation="random-resize-crop")


def test_a_batch_larger_than_the_split_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="batch_size=13 is more than the 12 train images"):
        TokenBatches(made_up_records(12), tokenizer, batch_size=13, seed=0)
