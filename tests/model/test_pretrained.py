import json

import numpy as np
import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.values import to_dict


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(
        model=random_model(classes=2),
        tokenizer=ImageTokenizer(tiny_palette, 4),
        class_names=("left", "top"),
        class_layer=1,
    )


@pytest.fixture
def folder(pretrained, tmp_path):
    pretrained.save(tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


def test_a_loaded_model_is_the_saved_one(pretrained, folder):
    for path in (folder, folder.parent, str(folder)):
        loaded = load(path)
        assert loaded.model.config == TINY
        assert loaded.class_names == ("left", "top")
        assert loaded.class_layer == 1
        assert np.array_equal(loaded.palette.colors, pretrained.palette.colors)
        assert torch.equal(loaded.model(random_tokens()), pretrained.model(random_tokens()))
        assert all(parameter.requires_grad for parameter in loaded.model.parameters())


def test_others_may_read_the_weights(folder):
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1  # safetensors by itself would write for us alone


def test_nothing_in_the_folder_is_pickled(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "palette.npy",
    ]
    assert np.load(folder / "palette.npy", allow_pickle=False).dtype == np.float32


def test_a_class_head_starts_at_zero_on_the_same_network(pretrained):
    tuned = pretrained.with_class_head(("a", "b", "c"), None)
    assert (tuned.model.class_head.weight == 0).all()
    assert tuned.model.class_head.weight.shape == (3, 24)
    assert torch.equal(tuned.model(random_tokens()), pretrained.model(random_tokens()))


def test_a_network_comes_in_evaluation_mode(pretrained, folder):
    built = Pretrained.build(TINY, pretrained.palette)
    for network in (built, load(folder), built.with_class_head(("a", "b"), None)):
        network.model.set_dropout(0.5)
        assert torch.equal(network.model(random_tokens()), network.model(random_tokens()))


def test_a_palette_of_another_size_is_refused(tiny_palette, folder):
    with pytest.raises(ConfigError, match="has 512 colors, but the palette has 16"):
        Pretrained.build(type(TINY)(layers=1, width=8, heads=1), tiny_palette)
    Palette(np.zeros((9, 3), dtype=np.float32)).save(folder / "palette.npy")
    with pytest.raises(ConfigError, match="has 16 colors, but the palette has 9; give the palette"):
        load(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no model"):
        load(tmp_path)


def change(path, **values):
    settings = json.loads(path.read_text())
    settings.update(values)
    path.write_text(json.dumps(settings))


def test_a_config_of_another_network_is_refused(folder):
    change(folder / "config.json", model={**to_dict(TINY), "layers": 2})
    with pytest.raises(CheckpointError, match=r"holds 'blocks\.2\..*another configuration"):
        load(folder)
    change(folder / "config.json", model={**to_dict(TINY), "layers": 4})
    with pytest.raises(CheckpointError, match=r"lacks 'blocks\.3\."):
        load(folder)
    change(folder / "config.json", model={**to_dict(TINY), "width": 32})
    with pytest.raises(CheckpointError, match=r"of shape .* but this network needs"):
        load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"layer": 3}}, "did you mean 'layers'"),
        ({"model": None}, "is no model's config: model should be an object"),
        ({"class_names": 3}, "is no model's config: class_names should be"),
        ({"format": 99}, "model format 99, but this igpt reads format 1"),
    ],
)
def test_a_damaged_config_is_told(folder, values, message):
    change(folder / "config.json", **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_class_head_from_elsewhere_that_an_old_folder_marks_is_read_with_a_warning(folder):
    change(folder / "config.json", class_reads_start=False)
    with pytest.warns(UserWarning, match="trained elsewhere: .* one position off"):
        load(folder)
    change(folder / "config.json", class_reads_start=True)
    load(folder)


def test_weights_that_are_cut_off_or_missing_are_told(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="no whole safetensors file"):
        load(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load(folder)


def test_a_failed_save_leaves_the_folder_before(pretrained, folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()

    def full(*_):
        raise DataError("could not write model.safetensors: No space left on device")

    monkeypatch.setattr("igpt.model.pretrained.write_tensors", full)
    with pytest.raises(DataError, match="No space left"):
        pretrained.save(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
