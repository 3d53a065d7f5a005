"""Models by their names on the hub, which is one of the tests' own."""

import json
import shutil

import pytest
from tests.conftest import random_model
from tests.fake_hub import COMMIT, FakeHub

from igpt.cli import main
from igpt.errors import CheckpointError
from igpt.formats.hub import fetch
from igpt.formats.huggingface import write_huggingface
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.places import is_hub_name

SMALL = ["config.json", "preprocessor_config.json"]


@pytest.fixture
def hub(tmp_path):
    with FakeHub(cache=tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.fixture
def files(pretrained, tmp_path):
    """The files of a model as `transformers` has it."""
    write_huggingface(pretrained, tmp_path / "out")
    return files_of(tmp_path / "out")


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_of_ours_is_fetched_by_its_name_and_then_needs_no_network(
    pretrained, hub, tmp_path
):
    pretrained.save(tmp_path / "model")
    files = files_of(tmp_path / "model")
    hub.repositories["someone/pixels"] = {**files, "README.md": b"# pixels", "state.bin": b"much"}
    folder = fetch("someone/pixels")
    assert files_of(folder) == files  # and nothing else
    asked = len(hub.requests)
    hub.set_offline()
    assert load("someone/pixels").model.config == pretrained.model.config
    assert len(hub.requests) == asked


def test_of_several_sets_of_weights_one_is_fetched(files, hub):
    hub.repositories["someone/theirs"] = {**files, "pytorch_model.bin": b"the same again"}
    assert sorted(files_of(fetch("someone/theirs"))) == [*SMALL[:1], "model.safetensors", SMALL[1]]


def test_of_weights_in_shards_all_are_fetched(files, hub):
    shards = {"model-1-of-2.safetensors": b"one", "model-2-of-2.safetensors": b"two"}
    index = json.dumps({"weight_map": {name: name for name in shards}}).encode()
    files.pop("model.safetensors")
    files["model.safetensors.index.json"] = index
    hub.repositories["someone/theirs"] = {**files, **shards, "pytorch_model.bin": b"again"}
    assert files_of(fetch("someone/theirs")) == {**files, **shards}


def test_all_files_are_of_the_commit_that_the_revision_meant_at_first(files, hub):
    hub.repositories["someone/theirs"] = files
    assert fetch("someone/theirs", revision="v1").name == COMMIT
    asked = [line for line in hub.requests if "/resolve/" in line]
    assert asked
    assert all(f"/resolve/{COMMIT}/" in line for line in asked)
    with pytest.raises(CheckpointError, match=r"no revision 'v2'; give a branch, tag or commit"):
        fetch("someone/theirs", revision="v2")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "there is no folder someone/model, and no model of that name on the hub"),
        ({}, "the model someone/model has no config.json"),
        ({"config.json": b'{"model_type": "imagegpt"}'}, "someone/model has no weights that can"),
        ({"config.json": b'{"format": 1}'}, r"no weights that can be read \(model\.safetensors\)"),
        ({"config.json": b"{"}, "config.json is damaged"),
        ({"config.json": b"3"}, "config.json is damaged"),
    ],
)
def test_what_the_hub_has_not_is_said_in_a_line(hub, files, message):
    if files is not None:
        hub.repositories["someone/model"] = files
    with pytest.raises(CheckpointError, match=message) as refused:
        load("someone/model")
    assert "\n" not in str(refused.value)


def test_without_network_the_cache_is_what_there_is(files, hub, tmp_path):
    hub.set_offline()
    with pytest.raises(CheckpointError, match=r"could not be reached .* its cache does not have"):
        fetch("someone/theirs")
    hub.set_offline(False)
    hub.repositories["someone/theirs"] = files
    (fetch("someone/theirs") / "model.safetensors").unlink()
    hub.set_offline()
    with pytest.raises(CheckpointError, match=r"could not be reached .* its cache does not have"):
        fetch("someone/theirs")


def test_what_another_library_left_in_the_cache_is_used_without_network(files, hub):
    hub.repositories["someone/theirs"] = files
    fetch("someone/theirs")
    shutil.rmtree(hub.cache / "models--someone--theirs" / "trees", ignore_errors=True)
    hub.set_offline()
    assert load("someone/theirs").palette.size == 16


def test_a_hub_that_breaks_off_is_said_in_a_line_and_what_was_fetched_is_kept(files, hub):
    hub.repositories["someone/theirs"] = files
    hub.broken.append("model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"could not fetch someone/theirs: .*; try again, what"
    ):
        fetch("someone/theirs")
    hub.broken.clear()
    hub.requests.clear()
    load("someone/theirs")
    assert not any("config.json" in line for line in hub.requests)


def test_another_network_is_refused_before_its_weights_are_fetched(hub):
    hub.repositories["someone/gpt2"] = {
        "config.json": b'{"model_type": "gpt2"}', "model.safetensors": b"many gigabytes",
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="someone/gpt2 holds a model of type 'gpt2'"):
        fetch("someone/gpt2")
    assert not any("safetensors" in line for line in hub.requests)


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (403, "GatedRepo", "open only to those whom its owner lets in; ask there, then log in"),
        (
            403,
            "",
            "does not let you fetch someone/closed; log in with hf auth login, or set HF_TOK",
        ),
        (404, "RepoNotFound", "or only a private one.; check the name, or log in"),
        (503, "", "could not fetch someone/closed: Server error .503.*; try again"),
    ],
)
def test_what_the_hub_refuses_is_said_in_a_line(hub, status, code, message):
    hub.refusals["someone/closed"] = status, code
    with pytest.raises(CheckpointError, match=message) as refused:
        fetch("someone/closed")
    assert "\n" not in str(refused.value)


def test_a_name_that_the_hub_cannot_have_is_refused(hub):
    with pytest.raises(CheckpointError, match=r"the hub does not take someone/x--y: .*--"):
        fetch("someone/x--y")


def test_a_name_of_the_hub_has_an_owner():
    assert is_hub_name("openai/imagegpt-small")
    for other in ("imagegpt", "runs/a/model", "./model", "/a/b", "a/"):
        assert not is_hub_name(other)


def test_the_command_converts_a_revision_by_its_name(files, hub, tmp_path, capsys):
    hub.repositories["someone/theirs"] = files
    with pytest.raises(SystemExit) as stop:
        main(["convert", "someone/theirs", str(tmp_path / "ours"), "--revision", "v1"])
    assert stop.value.code == 0
    assert "igpt from huggingface, autoregressive, 3 layers of width 24" in capsys.readouterr().out
