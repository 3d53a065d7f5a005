import dataclasses

import numpy as np
import pytest
from tests.conftest import TINY, random_model

from igpt.errors import ConfigError, DataError
from igpt.evaluation.likelihood import image_losses
from igpt.evaluation.outliers import OWN, compare_losses, foreign_images, foreign_set
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer


def share_of_pairs(foreign, own):
    """How often a foreign score is above an own one, by counting; ties are half."""
    pairs = [(f > o) + 0.5 * (f == o) for f in foreign for o in own]
    return sum(pairs) / len(pairs)


def test_an_auroc_is_a_share_of_pairs_counted_by_hand():
    own, foreign = np.array([2.0, 2.5, 3.0]), np.array([1.0, 2.5, 4.0, 2.75])
    row = foreign_set("them", foreign, own, typical=2.5)
    # above 2.0: three of four; above 2.5: two and a tie; above 3.0: one
    assert row.auroc_loss == pytest.approx((3 + 2.5 + 1) / 12)
    # distances: own 0.5, 0, 0.5; foreign 1.5, 0, 1.5, 0.25
    assert row.auroc_typicality == pytest.approx((2 + 3.5 + 2) / 12)


def test_aurocs_are_those_of_counting_pairs():
    generator = np.random.default_rng(0)
    own, foreign = generator.integers(0, 9, 20) / 2, generator.integers(2, 12, 30) / 2
    row = foreign_set("them", foreign, own, typical=2.25)
    assert row.auroc_loss == pytest.approx(share_of_pairs(foreign, own))
    assert row.auroc_typicality == pytest.approx(
        share_of_pairs(abs(foreign - 2.25), abs(own - 2.25))
    )


def test_images_that_are_likelier_than_the_own_are_missed_by_loss_and_seen_by_typicality():
    own, flat = np.array([2.0, 2.2, 2.4, 2.6]), np.array([0.3, 0.5])
    row = foreign_set("them", flat, own, typical=2.3)
    assert (row.auroc_loss, row.auroc_typicality) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("foreign", "own", "typical"),
    [([], [1.0], 1.0), ([1.0], [], 1.0), ([np.inf], [1.0], 1.0), ([1.0], [1.0], np.nan)],
)
def test_losses_that_say_nothing_are_refused(foreign, own, typical):
    with pytest.raises(ConfigError, match="takes finite losses of both kinds"):
        foreign_set("them", np.array(foreign, float), np.array(own, float), typical=typical)


@pytest.mark.parametrize("size", [4, 8, 12])
def test_foreign_images_are_what_their_names_say(size):
    own = np.random.default_rng(1).integers(0, 256, (500, size, size, 3), dtype=np.uint8)
    sets = foreign_images(own, seed=3)
    assert list(sets) == ["noise", "flat", "digits", "shuffled"]
    for name, made in sets.items():
        count = 360 if name == "digits" and size <= 8 else 500  # which fit in one way only
        assert (made.shape, made.dtype) == ((count, size, size, 3), np.uint8)
        different = len(np.unique(made.reshape(count, -1), axis=0))
        assert different > 0.95 * count, name
    assert 126 < sets["noise"].mean() < 129
    assert (sets["flat"] == sets["flat"][:, :1, :1]).all()
    assert (sets["digits"] == sets["digits"][..., :1]).all()  # grey
    assert sets["digits"].max(axis=(1, 2, 3)).min() > 50  # something on each
    shuffled = sets["shuffled"].reshape(500, -1, 3)
    for before, after in zip(own.reshape(500, -1, 3), shuffled, strict=True):
        assert sorted(before.tolist()) == sorted(after.tolist())
    assert (sets["shuffled"] != own).any(axis=(1, 2, 3)).all()


def test_foreign_images_are_a_function_of_the_seed():
    own = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    once, again, other = (foreign_images(own, seed=seed) for seed in (3, 3, 4))
    for name in once:
        assert np.array_equal(once[name], again[name])
        assert not np.array_equal(once[name], other[name])


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


def test_own_images_given_as_foreign_are_told_apart_by_chance(pretrained, shapes_store):
    others = {"the same": shapes_store.split("test")}
    compared = compare_losses(pretrained, shapes_store, others=others, images=16, seed=1)
    names = [row.name for row in compared.result.foreign]
    assert names == ["noise", "flat", "digits", "shuffled", "the same"]
    same = compared.result.foreign[-1]
    assert (same.auroc_loss, same.auroc_typicality) == pytest.approx((0.5, 0.5))
    assert same.nats_per_pixel == compared.result.own.nats_per_pixel


def test_other_images_may_not_have_the_name_of_those_measured_anyway(pretrained, shapes_store):
    for name in ("noise", OWN):
        with pytest.raises(ConfigError, match=f"{name}' is what images that are measured anyway"):
            compare_losses(pretrained, shapes_store, others={name: shapes_store.split("test")})


def test_losses_are_of_images_drawn_by_the_seed(pretrained, shapes_store):
    compared = compare_losses(pretrained, shapes_store, images=12, seed=1)
    every = image_losses(pretrained, shapes_store.split("test"))
    assert len(every) == 16
    np.testing.assert_allclose(np.intersect1d(every.round(4), compared.own.round(4)).size, 12)
    result = compared.result
    assert (result.own.images, result.validation_images) == (12, 12)
    assert result.own.nats_per_pixel == pytest.approx(compared.own.mean())
    assert result.own.standard_deviation == pytest.approx(compared.own.std())
    assert result == compare_losses(pretrained, shapes_store, images=12, seed=1).result


def test_images_smaller_than_the_networks_are_refused_by_name(tiny_palette, shapes_store):
    large = random_model(dataclasses.replace(TINY, image_size=12))
    pretrained = Pretrained(model=large, tokenizer=ImageTokenizer(tiny_palette, 12))
    with pytest.raises(DataError, match=f"{shapes_store.path}.* are images of 8x8 pixels"):
        compare_losses(pretrained, shapes_store)
