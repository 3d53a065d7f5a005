"""One `load` for every kind of model; what each kind holds is tested with its reader."""

import numpy as np
import pytest
from tests.conftest import random_model
from tests.formats.test_tensorflow import FIXTURES, PALETTE

import igpt
from igpt.data.batches import images_at_size
from igpt.errors import CheckpointError, ConfigError
from igpt.formats.convert import convert
from igpt.formats.load import locate
from igpt.model.config import SIZES, published_heads
from igpt.model.pretrained import Pretrained
from igpt.objectives.classification import class_logits
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture
def run(tiny_palette, tmp_path):
    pretrained = Pretrained(
        model=random_model(classes=2),
        tokenizer=ImageTokenizer(tiny_palette, 4),
        class_names=("left", "top"),
    )
    pretrained.save(tmp_path / "run" / "model")
    return tmp_path / "run"


def test_the_kind_is_told_by_the_files(run, tmp_path):
    assert locate(run) == (run / "model", "igpt")
    assert locate(str(run / "model")) == (run / "model", "igpt")
    convert(run, tmp_path / "theirs")
    assert locate(tmp_path / "theirs") == (tmp_path / "theirs", "huggingface")
    assert locate(FIXTURES / "ar")[1] == "tensorflow"
    assert locate(FIXTURES / "bert" / "model.ckpt-7")[1] == "tensorflow"
    (tmp_path / "theirs" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is no model's config"):
        locate(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="holds no model"):
        locate(tmp_path)


def test_a_folder_goes_before_a_hub_name(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert locate("run/model")[1] == "igpt"  # which has the form of a hub name
    with pytest.raises(CheckpointError, match="there is no run/nothing, and since there is"):
        locate("run/nothing")  # at once, without asking the hub


def test_options_that_do_not_go_with_the_source_are_refused(run):
    with pytest.raises(ConfigError, match="tells all by itself; leave out --palette"):
        igpt.load(run, palette=PALETTE)
    with pytest.raises(ConfigError, match="tells all by itself; leave out --heads"):
        igpt.load(run, heads=2)
    with pytest.raises(ConfigError, match="--revision goes with a hub name"):
        igpt.load(run, revision="main")


def test_published_heads_are_known_and_others_are_not():
    for name in ("igpt-s", "igpt-m", "igpt-l"):
        assert published_heads(SIZES[name].layers, SIZES[name].width) == SIZES[name].heads
    assert published_heads(60, 3072) is None  # the paper does not tell
    assert published_heads(2, 8) is None


def test_conversion_tells_what_it_wrote_and_what_it_left_out(run, tmp_path):
    done = convert(run, tmp_path / "classes")
    assert (done.read, done.written, done.classes) == ("igpt", "huggingface", 2)
    assert any("color head" in part for part in done.left_out)
    done = convert(run, tmp_path / "colors", head="colors")
    assert (done.classes, len(done.left_out)) == (None, 1)
    done = convert(FIXTURES / "bert", tmp_path / "bert", palette=PALETTE)
    assert (done.read, done.written, done.left_out) == ("tensorflow", "igpt", ())
    assert not igpt.load(tmp_path / "bert").model.config.causal
    done = convert(run, tmp_path / "copy", to="igpt")
    assert igpt.load(tmp_path / "copy").class_names == ("left", "top")


def test_conversion_overwrites_nothing_and_leaves_nothing_half_done(run, tmp_path):
    with pytest.raises(ConfigError, match="is there already"):
        convert(run, run)
    with pytest.raises(ConfigError, match="--head goes with --to huggingface"):
        convert(run, tmp_path / "out", to="igpt", head="colors")
    with pytest.raises(ConfigError, match="always causal"):
        convert(FIXTURES / "bert", tmp_path / "out", to="huggingface", palette=PALETTE)
    assert not (tmp_path / "out").exists()


def test_a_class_head_of_theirs_is_replaced_by_one_that_reads_the_start(run):
    loaded = igpt.load(run)
    theirs = Pretrained(
        model=loaded.model, tokenizer=loaded.tokenizer, class_names=("a", "b"),
        class_reads_start=False,
    )  # fmt: skip
    assert theirs.with_class_head(("a", "b", "c"), None).class_reads_start


def test_prediction_feeds_a_head_as_it_was_trained(run, shapes_store):
    loaded = igpt.load(run)
    records = shapes_store.split("test")
    tokens = loaded.tokenizer.encode(images_at_size(records, 4))
    for start in (True, False):
        pretrained = Pretrained(
            model=loaded.model, tokenizer=loaded.tokenizer, class_names=("left", "top"),
            class_reads_start=start,
        )  # fmt: skip
        wanted = class_logits(loaded.model, tokens, start=start)
        assert np.array_equal(igpt.predict(pretrained, records), wanted.argmax(dim=1).numpy())
