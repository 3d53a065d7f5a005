"""A model of one kind written as another."""

from pathlib import Path

import pytest
from tests.conftest import random_model, some_probe

import igpt
from igpt.errors import ConfigError, DataError
from igpt.formats.convert import convert
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures" / "tensorflow"
PALETTE = FIXTURES / "kmeans_centers.npy"


@pytest.fixture
def run(tiny_palette, tmp_path):
    pretrained = Pretrained(
        model=random_model(classes=2),
        tokenizer=ImageTokenizer(tiny_palette, 4),
        class_names=("left", "top"),
    )
    pretrained.save(tmp_path / "run" / "model")
    return tmp_path / "run"


def test_conversion_says_what_it_wrote_and_what_it_left_out(run, tmp_path):
    done = convert(run, tmp_path / "classes")
    assert (done.read, done.written, done.classes) == ("igpt", "huggingface", 2)
    assert "color head" in done.left_out[0]
    assert "one position off" in done.left_out[1]
    done = convert(run, tmp_path / "colors", head="colors")
    assert done.classes is None
    assert "class head" in done.left_out[0]
    assert "stretches a photo to a square" in done.left_out[1]
    done = convert(FIXTURES / "bert", tmp_path / "bert", palette=PALETTE)
    assert (done.read, done.written, done.left_out) == ("tensorflow", "igpt", ())
    assert not igpt.load(tmp_path / "bert").model.config.causal
    done = convert(run, tmp_path / "copy", to="igpt")
    assert igpt.load(tmp_path / "copy").class_names == ("left", "top")


def test_conversion_overwrites_nothing_and_leaves_nothing_half_done(run, tmp_path):
    with pytest.raises(DataError, match="File exists"):
        convert(run, run)
    with pytest.raises(ConfigError, match="--head goes with --to huggingface"):
        convert(run, tmp_path / "out", to="igpt", head="colors")
    with pytest.raises(ConfigError, match="always causal"):
        convert(FIXTURES / "bert", tmp_path / "out", to="huggingface", palette=PALETTE)
    assert not (tmp_path / "out").exists()


def test_a_kept_probe_goes_along_where_there_is_room_and_it_is_of_the_model(run, tmp_path):
    (run / "recipe.json").write_text("{}")  # a folder that passes for a run
    some_probe(igpt.load(run).identity).save(run / "probe")
    assert convert(run, tmp_path / "copy", to="igpt").left_out == ()
    assert igpt.load(tmp_path / "copy").kept_probe() is not None
    left_out = convert(run, tmp_path / "theirs").left_out
    assert "the kept probe (--to igpt takes it along)" in left_out
    some_probe("of an earlier model").save(run / "probe")
    (why,) = convert(run, tmp_path / "again", to="igpt").left_out
    assert why.startswith("the kept probe (")
    assert "is a probe of another model than the one beside it" in why
    assert igpt.load(tmp_path / "again").kept_probe() is None
