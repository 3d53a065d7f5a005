"""Stores made of a store."""

import numpy as np
import pytest

from igpt.data.config import StoreConfig
from igpt.data.derived import keep_classes, redraw_validation
from igpt.data.prepare import prepare_store
from igpt.errors import DataError


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    config = StoreConfig(image_size=9, placements=2)
    return prepare_store("digits", tmp_path_factory.mktemp("derived") / "digits", config)


def test_the_same_images_are_held_out_otherwise(digits, tmp_path):
    drawn = redraw_validation(digits, tmp_path / "other", seed=5)
    parts = [store.split("train+validation") for store in (digits, drawn)]
    assert len(parts[0]) == len(parts[1])
    images = [np.sort(part.images.reshape(len(part), -1).sum(axis=1)) for part in parts]
    assert (images[0] == images[1]).all()
    held = [set(store.split("validation").names) for store in (digits, drawn)]
    assert held[0] != held[1]
    assert held[1].isdisjoint(drawn.split("train").names)  # placements of a digit stay together
    counts = np.bincount(drawn.split("validation").require_labels())
    assert counts.max() - counts.min() <= 4  # a share of each class
    assert (drawn.split("test").images == digits.split("test").images).all()


def test_a_hold_out_is_a_function_of_the_seed(digits, tmp_path):
    one, same, other = (
        redraw_validation(digits, tmp_path / name, seed=seed)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert one.split("validation").names == same.split("validation").names
    assert one.split("validation").names != other.split("validation").names


def test_some_classes_are_kept_and_numbered_anew(digits, tmp_path):
    kept = keep_classes(digits, tmp_path / "kept", classes=[7, 2])
    assert kept.class_names == ("2", "7")
    for name in digits.splits:
        whole, part = digits.split(name), kept.split(name)
        wanted = np.isin(whole.require_labels(), [2, 7])
        assert (part.images == whole.images[wanted]).all()
        assert (part.require_labels() == (whole.require_labels()[wanted] == 7)).all()
    assert list(kept.account.classes) == ["2", "7"]
    counted = sum(sum(of_class.values()) for of_class in kept.account.classes.values())
    assert counted == sum(split.records for split in kept.splits.values())


def test_classes_that_there_are_not_are_refused(digits, tmp_path):
    with pytest.raises(DataError, match="has no classes"):
        keep_classes(digits, tmp_path / "none", classes=[3, 10])
