import json
import math
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.conftest import TINY, random_model, random_tokens

from igpt.errors import CheckpointError, ConfigError, DataError, IgptError
from igpt.files import write_json
from igpt.formats.load import load
from igpt.model.description import model_identity
from igpt.model.pretrained import Pretrained
from igpt.model.weights import write_tensors
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.seals import sealed
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


def test_a_tied_head_is_tied_again(tiny_palette, tmp_path):
    model = random_model(replace(TINY, tied=True))
    Pretrained(model=model, tokenizer=ImageTokenizer(tiny_palette, 4)).save(tmp_path / "model")
    loaded = load(tmp_path / "model").model
    assert loaded.color_head.weight is loaded.token_embedding
    assert torch.equal(loaded(random_tokens()), model(random_tokens()))


@pytest.mark.parametrize("objective", ["masked", "diffusion"])
def test_a_folder_says_what_the_network_was_trained_by_and_in_which_order(
    tiny_palette, tmp_path, objective
):
    built = Pretrained(
        model=random_model(replace(TINY, causal=False, order="random:3")),
        tokenizer=ImageTokenizer(tiny_palette, 4, order="random:3"),
        objective=objective,
    )
    built.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert loaded.learned_by == objective
    assert loaded.tokenizer.order == "random:3"
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    assert torch.equal(loaded.tokenizer.encode(images), built.tokenizer.encode(images))


def test_a_bert_network_is_a_diffusion_network_with_the_same_weights(tiny_palette, tmp_path):
    config = replace(TINY, causal=False)
    bert = Pretrained(model=random_model(config), tokenizer=ImageTokenizer(tiny_palette, 4))
    bert.save(tmp_path / "bert")
    known = load(tmp_path / "bert")
    assert known.learned_by == "masked"
    assert replace(known, objective="diffusion").learned_by == "diffusion"
    fresh = Pretrained.build(config, tiny_palette, objective="diffusion")
    fresh.model.load_state_dict(known.model.state_dict())
    assert torch.equal(fresh.model(random_tokens()), bert.model(random_tokens()))


def test_an_objective_or_order_that_is_not_the_networks_is_refused(tiny_palette):
    with pytest.raises(ConfigError, match=r"objective=diffusion is for .* set model\.causal=false"):
        Pretrained.build(TINY, tiny_palette, objective="diffusion")
    model = random_model(replace(TINY, order="spiral"))
    with pytest.raises(ConfigError, match="in the order spiral, and the tokenizer has raster"):
        Pretrained(model=model, tokenizer=ImageTokenizer(tiny_palette, 4))


def test_a_folder_older_than_the_question_has_the_objective_of_its_shape(folder):
    values = json.loads((folder / "config.json").read_text())
    del values["objective"], values["model"]["order"], values["checksum"]
    write_json(folder / "config.json", sealed(values))
    assert load(folder).learned_by == "autoregressive"
    assert load(folder).tokenizer.order == "raster"


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
    to_format_1(folder)
    with pytest.raises(ConfigError, match="has 16 colors, but the palette has 9; give the palette"):
        load(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="holds no model"):
        load(tmp_path)


def change(folder, **values):
    """Change what a folder's `config.json` says, and its checksum with it."""
    settings = json.loads((folder / "config.json").read_text())
    del settings["checksum"]
    write_json(folder / "config.json", sealed(settings | values))


def to_format_1(folder):
    """Write a folder's `config.json` as an igpt did that kept no checksums."""
    settings = json.loads((folder / "config.json").read_text()) | {"format": 1}
    for name in ("sha256", "crc32c", "checksum"):
        settings.pop(name, None)
    write_json(folder / "config.json", settings)


def test_a_config_of_another_network_is_refused(folder):
    for changed, message in (
        ({"layers": 2}, r"holds 'blocks\.2\..*another configuration"),
        ({"layers": 4}, r"holds 22,\d+ weights, but this network needs 29,\d+, in 4 layers; is it"),
        ({"width": 32}, r"holds 22,\d+ weights, but this network needs"),
        ({"layers": 1, "width": 32}, r"of shape .* but this network needs"),
        ({"bias": True, "layers": 2}, r"lacks 'blocks\.0\..*bias'"),
    ):
        change(folder, model={**to_dict(TINY), **changed})
        with pytest.raises(CheckpointError, match=message):
            load(folder)


def test_a_network_larger_than_its_weights_is_refused_before_it_is_built(folder):
    thin = {"width": 1, "heads": 1, "colors": 2, "image_size": 1}
    for changed in ({"layers": 1024}, {"width": 65536}, {"layers": 1000, **thin}):
        change(folder, model={**to_dict(TINY), **changed})
        with pytest.raises(CheckpointError, match=r"weights, but this network needs"):
            load(folder)
    change(folder, model={**to_dict(TINY), "layers": 10**7})
    with pytest.raises(CheckpointError, match="layers must be at most 1,024, got 10,000,000"):
        load(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {"layer": 3}}, "did you mean 'layers'"),
        ({"model": None}, "is no model's config: model should be an object"),
        ({"class_names": 3}, "is no model's config: class_names should be"),
        ({"format": 99}, "model format 99, but this igpt reads format 2"),
        ({"class_layer": 9}, "layer must lie between 0 and 3"),
        ({"mask_probability": 0.0}, "mask_probability must lie between 0 and 1, got 0.0"),
        ({"model": {**to_dict(TINY), "heads": 2.0}}, r"model.heads should be a whole number"),
        ({"model": {**to_dict(TINY), "causal": "no"}}, r"model.causal should be true or false"),
    ],
)
def test_a_damaged_config_is_told(folder, values, message):
    change(folder, **values)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_a_class_head_from_elsewhere_that_an_old_folder_marks_is_read_with_a_warning(folder):
    change(folder, class_reads_start=False)
    with pytest.warns(UserWarning, match="trained elsewhere: .* one position off"):
        load(folder)
    change(folder, class_reads_start=True)
    load(folder)


def test_weights_that_are_cut_off_or_missing_are_told(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="no whole safetensors file"):
        load(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        load(folder)


# Damage


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "palette.npy"])
def test_a_flipped_bit_is_found_wherever_it_is(folder, name):
    path = folder / name
    whole = path.read_bytes()
    for place in [*range(0, len(whole), max(1, len(whole) // 50)), len(whole) - 2]:
        data = bytearray(whole)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(IgptError) as told:
            load(folder)
        assert "\n" not in str(told.value)
    path.write_bytes(whole)
    load(folder)


def test_a_folder_put_together_from_two_is_refused(folder, tiny_palette, tmp_path):
    for name, other in (
        ("palette.npy", Pretrained.build(TINY, Palette(-tiny_palette.colors))),
        ("model.safetensors", Pretrained.build(TINY, tiny_palette)),
        ("config.json", Pretrained.build(replace(TINY, heads=2), tiny_palette)),
    ):
        other.save(tmp_path / "other")
        mixed = shutil.copytree(folder, tmp_path / name)
        shutil.copy(tmp_path / "other" / name, mixed)
        with pytest.raises(CheckpointError, match="was changed since the model was saved"):
            load(mixed)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_weights_that_are_no_numbers_are_refused(pretrained, tmp_path, number):
    with torch.no_grad():
        pretrained.model.blocks[1].mlp.input.weight[3, 4] = number
    pretrained.save(tmp_path / "model")
    with pytest.raises(
        CheckpointError, match=r"NaN or infinity in 'blocks\.1\.mlp\.input\.weight'"
    ):
        load(tmp_path / "model")


def test_large_weights_are_numbers(pretrained, tmp_path):
    with torch.no_grad():
        pretrained.model.token_embedding.fill_(3e38)  # whose sum is infinite
    pretrained.save(tmp_path / "model")
    load(tmp_path / "model")


def test_weights_of_another_type_are_refused(folder):
    weights = {name: weight.double() for name, weight in load(folder).model.state_dict().items()}
    write_tensors(folder / "model.safetensors", weights)
    to_format_1(folder)
    with pytest.raises(CheckpointError, match=r"in float64, but this network needs float32"):
        load(folder)


def test_a_folder_of_the_format_before_is_read(pretrained, folder):
    to_format_1(folder)
    assert torch.equal(load(folder).model(random_tokens()), pretrained.model(random_tokens()))


def test_identity_tells_models_apart_wherever_they_lie(pretrained, folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "moved")
    loaded = load(moved)
    assert loaded.identity == model_identity(folder) == model_identity(moved)
    loaded.save(tmp_path / "again")
    assert model_identity(tmp_path / "again") == loaded.identity
    with torch.no_grad():
        loaded.model.final_norm.gain[0] += 1
    loaded.save(tmp_path / "trained")
    assert model_identity(tmp_path / "trained") != loaded.identity
    to_format_1(moved)
    assert model_identity(moved) == load(moved).identity
    assert loaded.with_class_head(("a", "b"), None).identity == pretrained.identity == ""


def test_a_model_can_be_loaded_while_a_training_replaces_it(folder, tiny_palette):
    newer = Pretrained(model=random_model(seed=1), tokenizer=ImageTokenizer(tiny_palette, 4))
    older, stop = load(folder), threading.Event()
    identities = {older.identity}

    def train():
        while not stop.wait(0.01):
            newer.save(folder)
            older.save(folder)

    training = threading.Thread(target=train)
    training.start()
    try:
        for _ in range(10):
            loaded = load(folder)
            identities.add(loaded.identity)
            theirs = older if loaded.model.classes else newer
            assert torch.equal(loaded.model.final_norm.gain, theirs.model.final_norm.gain)
    finally:
        stop.set()
        training.join()
    assert len(identities) <= 2


def test_a_failed_save_leaves_the_folder_before(pretrained, folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()

    def full(*_):
        raise DataError("could not write model.safetensors: No space left on device")

    monkeypatch.setattr("igpt.model.pretrained.write_tensors", full)
    with pytest.raises(DataError, match="No space left"):
        pretrained.save(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
