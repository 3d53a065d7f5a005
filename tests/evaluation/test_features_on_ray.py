"""Features that the processes of a Ray cluster extract are those of this one, bit for bit."""

import importlib.util

import numpy as np
import pytest
from tests.conftest import random_model

from igpt.errors import ConfigError
from igpt.evaluation.features import extract_features
from igpt.evaluation.stored_features import stored_features
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.features import write_features

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of Ray's, which are many
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra igpt[ray]"),
]


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.mark.slow
def test_features_of_a_store_are_those_of_this_process(pretrained, shapes_store, tmp_path):
    pretrained.save(tmp_path / "model")
    given = {"data": shapes_store.path, "layers": [0, 2], "device": "cpu"}
    write_features(tmp_path / "model", out=tmp_path / "here.npz", **given)
    write_features(tmp_path / "model", out=tmp_path / "there.npz", ray="local", **given)
    with np.load(tmp_path / "here.npz") as here, np.load(tmp_path / "there.npz") as there:
        assert here.files == there.files
        for name in here.files:
            np.testing.assert_array_equal(here[name], there[name])


@pytest.mark.slow
def test_features_on_disk_are_extracted_there_too(pretrained, shapes_store, tmp_path):
    splits = [shapes_store.split(name) for name in ("train", "validation")]
    found = stored_features(pretrained, splits, tmp_path / "f.npy", layers=[1], ray="local")
    wanted = np.concatenate([extract_features(pretrained, part, layers=[1]) for part in splits])
    np.testing.assert_array_equal(found, wanted)


def test_a_cluster_is_for_stores(tmp_path):
    with pytest.raises(ConfigError, match="--ray is for the features of a store"):
        write_features(tmp_path, [tmp_path], out=tmp_path / "a.npz", ray="local")
