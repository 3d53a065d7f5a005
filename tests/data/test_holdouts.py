import numpy as np
import pytest

from igpt.data.holdouts import hold_out, same_files
from igpt.data.sources import SourceImage, SourceSplit


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


def split_of(files) -> SourceSplit:
    return SourceSplit(images=len(files), image=lambda i: SourceImage(f"{i}", files[i]))


def test_copies_of_a_file_are_known_wherever_they_lie(tmp_path):
    generator = np.random.default_rng(0)
    first, second = (generator.bytes(100_000) for _ in range(2))
    other_end = first[:-1] + bytes([first[-1] ^ 1])  # the same length and middle
    (tmp_path / "copy").write_bytes(first)
    files = [first, second, tmp_path / "copy", other_end, tmp_path / "gone", second, b"", b""]
    alike = same_files(split_of(files), np.arange(8))
    assert alike.tolist() == [0, 1, 0, 3, 4, 1, 6, 6]


def test_files_are_numbered_among_those_asked_for():
    assert same_files(split_of([b"a", b"b", b"b", b"a"]), np.array([1, 2, 3])).tolist() == [0, 0, 2]
