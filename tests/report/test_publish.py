"""Publishing, on a hub of the tests' own."""

import dataclasses

import numpy as np
import pytest
from tests.conftest import random_model, some_probe
from tests.fake_hub import COMMIT, FakeHub

from igpt.cli import main
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.report.publish import push


@pytest.fixture
def hub(tmp_path):
    with FakeHub(cache=tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.fixture
def run(pretrained, tmp_path):
    pretrained.save(tmp_path / "run" / "model")
    return tmp_path / "run"


def test_what_is_pushed_can_be_loaded_by_its_name(pretrained, run, hub):
    done = push(run, "someone/pixels", license_name="cc-by-4.0")
    assert done == f"someone/pixels: {hub.url}/someone/pixels/commit/{COMMIT}"
    published = hub.repositories["someone/pixels"]
    assert b"\nlicense: cc-by-4.0\n" in published.pop("README.md")
    assert published == {path.name: path.read_bytes() for path in (run / "model").iterdir()}
    assert np.array_equal(load("someone/pixels").palette.colors, pretrained.palette.colors)


def test_a_kept_probe_is_pushed_and_fetched_too(pretrained, hub, tmp_path):
    pretrained.save(tmp_path / "model", probe=some_probe())
    assert "left out" not in push(tmp_path / "model", "someone/pixels")
    probe = load("someone/pixels").kept_probe()
    assert np.array_equal(probe.weight, some_probe().weight)


@pytest.mark.parametrize("token", ["hf_wrong", ""])
def test_pushing_needs_the_right_to(run, hub, token):
    hub.set_token(token)
    with pytest.raises(
        CheckpointError, match="log in with hf auth login, or set HF_TOKEN"
    ) as refused:
        push(run, "someone/pixels")
    assert "\n" not in str(refused.value)
    assert hub.repositories == {}


def test_pushing_without_a_hub_is_refused(run, hub):
    hub.set_offline()
    with pytest.raises(CheckpointError, match=r"could not publish someone/pixels: .*offline"):
        push(run, "someone/pixels")


@pytest.mark.parametrize("name", ["pixels", "someone/x--y", "someone/x.", "a/b/c"])
def test_a_name_that_the_hub_cannot_have_is_refused(run, hub, name):
    with pytest.raises(ConfigError, match=f"a model on the hub is named owner/model, got '{name}'"):
        push(run, name)
    assert hub.requests == []


def test_a_licence_that_the_hub_does_not_take_is_refused_in_a_line(run, hub):
    hub.faults.append("license must be one of apache-2.0, mit")
    message = "the hub does not take someone/pixels: .*README.* license must be one of"
    with pytest.raises(CheckpointError, match=message) as refused:
        push(run, "someone/pixels", license_name="nonsense")
    assert "\n" not in str(refused.value)


def test_a_dry_run_by_the_command_publishes_nothing(run, hub, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["push", str(run), "someone/pixels", "--to", "huggingface", "--dry-run",
              str(tmp_path / "look")])  # fmt: skip
    assert stop.value.code == 0
    assert "look: what would be published as someone/pixels" in capsys.readouterr().out
    assert hub.requests == []
    assert {path.name for path in (tmp_path / "look").iterdir()} == {
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip


def test_a_dry_run_replaces_nothing(run, hub, tmp_path):
    (tmp_path / "look" / "before").mkdir(parents=True)
    with pytest.raises(DataError, match="look: File exists; choose another place"):
        push(run, "someone/pixels", dry_run=tmp_path / "look")


@pytest.fixture
def tuned(pretrained, tmp_path):
    names = ("left", "top")
    classifier = dataclasses.replace(pretrained, model=random_model(classes=2), class_names=names)
    classifier.save(tmp_path / "tuned" / "model")
    return tmp_path / "tuned"


def test_what_transformers_cannot_hold_is_said_and_the_other_head_can_be_chosen(
    tuned, hub, tmp_path, capsys
):
    done = push(tuned, "someone/pixels", to="huggingface", dry_run=tmp_path / "look")
    assert "\nleft out: the color head (--head colors writes that instead); " in done
    with pytest.raises(SystemExit):
        main(["push", str(tuned), "someone/pixels", "--to", "huggingface", "--head", "colors",
              "--dry-run", str(tmp_path / "colors")])  # fmt: skip
    assert "left out: the class head (--head classes writes that" in capsys.readouterr().out
    card = (tmp_path / "colors" / "README.md").read_text()
    assert "ImageGPTForCausalImageModeling.from_pretrained" in card
    assert "Classes:" not in card
    assert load(tmp_path / "colors").class_names is None


def test_a_head_is_for_transformers_alone(tuned, hub):
    with pytest.raises(ConfigError, match="--head goes with --to huggingface"):
        push(tuned, "someone/pixels", head="classes")
    assert hub.requests == []
