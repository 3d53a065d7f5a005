"""One `load` for every kind of model; what each kind holds is tested with its reader."""

from pathlib import Path

import pytest
from tests.conftest import random_model

import igpt
from igpt.errors import CheckpointError, ConfigError
from igpt.formats.convert import convert
from igpt.formats.load import locate
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


def test_the_files_show_the_kind(run, tmp_path):
    assert locate(run) == (run / "model", "igpt")
    assert locate(str(run / "model")) == (run / "model", "igpt")
    convert(run, tmp_path / "theirs")
    assert locate(tmp_path / "theirs") == (tmp_path / "theirs", "huggingface")
    assert locate(FIXTURES / "ar")[1] == "tensorflow"
    assert locate(FIXTURES / "bert" / "model.ckpt-7")[1] == "tensorflow"
    (tmp_path / "theirs" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        locate(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match="holds no model"):
        locate(tmp_path)


def test_a_folder_goes_before_a_hub_name(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert locate("run/model")[1] == "igpt"  # which has the form of a hub name
    with pytest.raises(CheckpointError, match="there is no run/nothing, and since there is"):
        locate("run/nothing")  # at once, without asking the hub


def test_options_that_do_not_go_with_the_source_are_refused(run):
    with pytest.raises(ConfigError, match="says all of that; leave out --palette"):
        igpt.load(run, palette=PALETTE)
    with pytest.raises(ConfigError, match="says all of that; leave out --heads"):
        igpt.load(run, heads=2)
    with pytest.raises(ConfigError, match="--revision goes with a hub name"):
        igpt.load(run, revision="main")
