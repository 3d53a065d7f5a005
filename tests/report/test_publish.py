"""Publishing, on a hub of the tests' own, and the card that goes with a model."""

import dataclasses

import numpy as np
import pytest
import torch
from tests.conftest import random_model
from tests.fake_hub import COMMIT, FakeHub

from igpt.cli import main
from igpt.errors import CheckpointError, ConfigError
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.files import write_json
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.report.publish import model_card, push
from igpt.runs.evaluate import Evaluation
from igpt.runs.probe import LayerProbes, ProbeFit
from igpt.runs.provenance import provenance
from igpt.runs.recipes import RECIPES, with_settings
from igpt.runs.run import DataIdentity, PretrainSettings, RunFolder
from igpt.values import to_dict


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


@pytest.mark.parametrize("token", ["hf_wrong", ""])
def test_pushing_needs_the_right_to(run, hub, token):
    hub.set_token(token)
    with pytest.raises(CheckpointError, match="log in with hf auth login, or set HF_TOKEN") as told:
        push(run, "someone/pixels")
    assert "\n" not in str(told.value)
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


def test_the_card_of_a_classifier_says_how_transformers_differs(tiny_palette, tmp_path):
    classifier = Pretrained(
        model=random_model(classes=2),
        tokenizer=ImageTokenizer(tiny_palette, 4),
        class_names=("left", "top"),
    )
    card = model_card(classifier, tmp_path, name="someone/pixels", to="huggingface")
    assert "one position off" in card
    assert "one position off" not in model_card(classifier, tmp_path, name="someone/pixels")


def test_the_card_says_what_the_run_knows(pretrained, tmp_path):
    run = tmp_path / "run"
    pretrained.save(run / "model")
    recipe = with_settings(RECIPES["cifar10-tiny"], ["training.steps=7"])
    settings = PretrainSettings(
        name="cifar10-tiny", recipe=recipe, split="train", filter="box", palette="",
        data=DataIdentity(path="/home/someone/secret/photos", sha256="abc"),
    )  # fmt: skip
    write_json(run / "recipe.json", {"format": 2, "kind": "pretrain", **to_dict(settings)})
    made = dataclasses.replace(provenance(torch.device("cpu")), commit="c0ffee")
    likelihood = LikelihoodResult(
        objective="autoregressive", images=9, nats_per_pixel=3.16806, bits_per_pixel=4.57,
        nats_per_pixel_from_second=None,
    )  # fmt: skip
    pixels = ProbeFit(setting=1e-3, validation_accuracy=0.4, test_accuracy=0.4161)
    probes = LayerProbes(
        solver="lbfgs", best_layer=3, test_accuracy=0.4709, layers=(), raw_pixels=pixels,
        records={},
    )  # fmt: skip
    folder = RunFolder.open(run)
    folder.write("provenance.json", made)
    folder.write("evaluation.json", Evaluation(splits={"test": likelihood}))
    folder.write("probe.json", probes)
    card = model_card(pretrained, run, name="someone/pixels", license_name="mit")
    assert "\nlicense: mit\n" in card.split("---")[1]
    for said in (
        "# pixels", "library_name: igpt", "3 layers of width 24", 'igpt.load("someone/pixels")',
        "cifar10-tiny", '"steps": 7', "Images: photos", "c0ffee",
        "| nats per pixel, test (9 images) | 3.1681 |",
        "| linear probe, layer 3, test accuracy | 47.09% |",
        "| the same on raw pixels | 41.61% |", "The weights: mit.",
    ):  # fmt: skip
        assert said in card
    assert "secret" not in card
    card = model_card(pretrained, run / "model", name="someone/pixels", to="huggingface")
    assert "ImageGPTForCausalImageModeling" in card
    assert "Their owner has not named one yet." in card
