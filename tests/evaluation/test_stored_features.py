import dataclasses
import json

import numpy as np
import pytest
from tests.conftest import TINY, random_model

from igpt.data.store import Records
from igpt.errors import CheckpointError
from igpt.evaluation.features import extract_features
from igpt.evaluation.stored_features import stored_features
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.fixture
def splits(shapes_store):
    return [shapes_store.split(name) for name in ("train", "validation")]


def test_features_of_all_splits_follow_one_another(pretrained, splits, tmp_path):
    found = stored_features(pretrained, splits, tmp_path / "new" / "f.npy", layers=[0, 2])
    wanted = np.concatenate([extract_features(pretrained, s, layers=[0, 2]) for s in splits])
    np.testing.assert_array_equal(found, wanted)
    assert isinstance(found, np.memmap)


def test_an_interrupted_extraction_goes_on(pretrained, splits, tmp_path):
    file, note = tmp_path / "f.npy", tmp_path / "f.json"
    wanted = np.array(stored_features(pretrained, splits, file, layers=[1]))
    marked = np.lib.format.open_memmap(file, mode="r+")
    marked[:] = 7
    note.write_text(json.dumps(json.loads(note.read_text()) | {"done": 60}))
    found = stored_features(pretrained, splits, file, layers=[1])
    assert (found[:60] == 7).all()
    np.testing.assert_array_equal(found[60:], wanted[60:])


def test_features_of_anything_else_are_made_anew(pretrained, splits, tmp_path):
    file = tmp_path / "f.npy"
    stored_features(pretrained, splits, file, layers=[1])
    others = dataclasses.replace(pretrained, model=random_model(seed=5))
    for network, parts, layers in (
        (others, splits, [1]), (others, splits[::-1], [1]), (others, splits[::-1], [3]),
    ):  # fmt: skip
        found = stored_features(network, parts, file, layers=layers)
        wanted = np.concatenate([extract_features(network, s, layers=layers) for s in parts])
        np.testing.assert_array_equal(found, wanted)


def test_another_network_stopped_in_its_first_part_leaves_nothing_to_go_on_with(
    pretrained, splits, tmp_path
):
    class Stopped(Records):
        def chosen(self, numbers):
            raise KeyboardInterrupt

    file = tmp_path / "f.npy"
    wanted = np.array(stored_features(pretrained, splits, file, layers=[1]))
    other = dataclasses.replace(pretrained, model=random_model(seed=5))
    stopped = [Stopped(**vars(split)) for split in splits]
    with pytest.raises(KeyboardInterrupt):
        stored_features(other, stopped, file, layers=[1])
    np.testing.assert_array_equal(stored_features(pretrained, splits, file, layers=[1]), wanted)


def test_the_same_weights_in_another_shape_are_another_network(pretrained, splits, tmp_path):
    file = tmp_path / "f.npy"
    stored_features(pretrained, splits, file, layers=[1])
    shape = dataclasses.replace(TINY, heads=2)
    other = dataclasses.replace(pretrained, model=random_model(shape))
    found = stored_features(other, splits, file, layers=[1])
    wanted = np.concatenate([extract_features(other, s, layers=[1]) for s in splits])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(b""),
        lambda file: np.save(file, np.zeros((3, 1, 24), np.float32)),
        lambda file: np.save(file, np.load(file).astype(np.float64)),
    ],
)
def test_a_file_that_is_not_the_whole_array_is_made_anew(pretrained, splits, tmp_path, damage):
    file = tmp_path / "f.npy"
    wanted = np.array(stored_features(pretrained, splits, file, layers=[1]))
    damage(file)
    np.testing.assert_array_equal(stored_features(pretrained, splits, file, layers=[1]), wanted)


def test_a_damaged_note_is_said(pretrained, splits, tmp_path):
    stored_features(pretrained, splits, tmp_path / "f.npy", layers=[1])
    (tmp_path / "f.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        stored_features(pretrained, splits, tmp_path / "f.npy", layers=[1])
