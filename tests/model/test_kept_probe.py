"""A probe that is kept beside its model."""

import dataclasses
import json

import numpy as np
import pytest
from tests.conftest import random_model, some_probe

import igpt
from igpt.errors import CheckpointError
from igpt.model.kept_probe import KeptProbe
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer


def test_what_was_kept_comes_back_to_the_last_bit(tmp_path):
    probe = some_probe()
    probe.save(tmp_path / "probe")
    again = KeptProbe.load(tmp_path / "probe")
    assert again.settings == probe.settings
    np.testing.assert_array_equal(again.weight, probe.weight)
    np.testing.assert_array_equal(again.intercept, probe.intercept)


def damage_weights(folder):
    content = bytearray((folder / "classifier.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "classifier.safetensors").write_bytes(content)


def edit(folder):
    text = (folder / "classifier.json").read_text()
    (folder / "classifier.json").write_text(text.replace('"layer": 1', '"layer": 2'))


def of_another_format(folder):
    values = json.loads((folder / "classifier.json").read_text())
    del values["checksum"]
    (folder / "classifier.json").write_text(json.dumps({**values, "format": 99}))


def put_others_weights(folder):
    other = dataclasses.replace(some_probe(), weight=np.zeros((2, 24)))
    other.save(folder.parent / "other")
    (folder.parent / "other" / "classifier.safetensors").replace(folder / "classifier.safetensors")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage_weights, "was changed since"),
        (edit, "was changed since"),
        (of_another_format, "of format 99"),
        (put_others_weights, "do not belong together"),
        (lambda folder: (folder / "classifier.safetensors").unlink(), "is missing"),
    ],
)
def test_a_damaged_probe_is_refused(tmp_path, harm, message):
    some_probe().save(tmp_path / "probe")
    harm(tmp_path / "probe")
    with pytest.raises(CheckpointError, match=message):
        KeptProbe.load(tmp_path / "probe")


def test_a_model_finds_the_probe_that_was_saved_with_it(tiny_palette, tmp_path):
    pretrained = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    pretrained.save(tmp_path / "model", probe=some_probe("of where it came from"))
    loaded = igpt.load(tmp_path / "model")
    probe = loaded.kept_probe()
    assert probe.model == loaded.identity
    np.testing.assert_array_equal(probe.weight, some_probe().weight)


def test_a_probe_of_an_earlier_model_is_refused_in_a_line(tiny_palette, tmp_path):
    pretrained = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    pretrained.save(tmp_path / "model", probe=some_probe())
    other = dataclasses.replace(pretrained, model=random_model(seed=1))
    other.save(tmp_path / "other")
    (tmp_path / "model" / "probe").rename(tmp_path / "other" / "probe")
    with pytest.raises(CheckpointError, match="of another model than the one beside it"):
        igpt.load(tmp_path / "other").classify(np.zeros((4, 4, 3), np.uint8))
