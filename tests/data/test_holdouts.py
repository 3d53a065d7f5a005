import numpy as np
import pytest

from igpt.data.holdouts import hold_out


@pytest.mark.parametrize(
    ("images", "fraction", "count"),
    [(50_000, 0.1, 5_000), (20, 0.1, 2), (3, 0.1, 1), (1, 0.1, 0), (2, 0.9, 1), (20, 0.0, 0)],
)
def test_exactly_the_fraction_is_held_out(images, fraction, count):
    kept, held = hold_out(np.arange(images), None, fraction, seed=0)
    assert len(held) == count
    assert sorted([*kept, *held]) == list(range(images))


def test_what_is_held_out_depends_on_the_seed_alone():
    groups = np.arange(100)
    first = hold_out(groups, None, 0.1, seed=0)[1].tolist()
    assert first == hold_out(groups, None, 0.1, seed=0)[1].tolist()
    assert first != hold_out(groups, None, 0.1, seed=1)[1].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_each_class_gives_its_share_to_within_an_image(seed):
    labels = np.random.default_rng(seed).choice(7, size=500, p=np.arange(1, 8) / 28)
    _, held = hold_out(np.arange(500), labels, 0.1, seed)
    shares = np.bincount(labels) * 0.1
    given = np.bincount(labels[held], minlength=7)
    assert len(held) == 50
    assert (np.abs(given - shares) < 1).all()


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_every_class_keeps_an_image(fraction):
    labels = np.array([0] * 20 + [1] * 2 + [2, 3, 4])
    kept, held = hold_out(np.arange(25), labels, fraction, seed=0)
    assert set(labels[kept]) == {0, 1, 2, 3, 4}
    assert len(held) == min(round(25 * fraction), 20)


@pytest.mark.parametrize("seed", range(5))
def test_images_of_one_group_stay_together(seed):
    groups = np.random.default_rng(seed).integers(0, 60, size=100)
    kept, held = hold_out(groups, groups % 4, 0.2, seed)
    assert not set(groups[kept]) & set(groups[held])
    assert 10 <= len(held) <= 20
