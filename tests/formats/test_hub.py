"""Names on the hub and publishing there, on a hub of the tests."""

import dataclasses
import warnings
from dataclasses import dataclass

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from tests.conftest import random_model
from tests.formats.fake_hub import COMMIT, TOKEN, FakeHub

from igpt.cli import main
from igpt.evaluation.likelihood import LikelihoodResult
from igpt.files import write_json
from igpt.formats.huggingface import write_huggingface
from igpt.model.pretrained import Pretrained
from igpt.pixels.images import write_png
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.report.publish import model_card
from igpt.runs.evaluate import Evaluation
from igpt.runs.probe import LayerProbes, ProbeFit
from igpt.runs.provenance import provenance
from igpt.runs.recipes import RECIPES, with_settings
from igpt.runs.run import DataIdentity, PretrainSettings, RunFolder
from igpt.values import to_dict


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.fixture
def hub():
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def igpt(hub, tmp_path, monkeypatch, capsys):
    """Run the command here, with this hub, an empty cache and the tests' token."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)

    def run(*arguments, token=TOKEN, offline=False):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        monkeypatch.setenv("HF_TOKEN", token)
        capsys.readouterr()
        with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
            warnings.simplefilter("ignore")  # the library's own, about tokens
            main([str(argument) for argument in arguments])
        told = capsys.readouterr()
        return Done(stop.value.code, told.out, told.err)

    return run


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_pushed_can_be_loaded_by_its_name_and_then_without_network(
    pretrained, igpt, hub, tmp_path
):
    pretrained.save(tmp_path / "run" / "model")
    done = igpt("push", "run", "someone/pixels", "--license", "cc-by-4.0")
    assert done.returncode == 0, done.stderr
    assert f"someone/pixels: {hub.url}/someone/pixels/commit/{COMMIT}" in done.stdout
    assert sorted(hub.repositories["someone/pixels"]) == [
        "README.md", "config.json", "model.safetensors", "palette.npy",
    ]  # fmt: skip
    done = igpt("convert", "someone/pixels", "copy", "--to", "igpt")
    assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "copy") == files_of(tmp_path / "run" / "model")

    write_png(tmp_path / "a.png", np.full((4, 4, 3), 90, np.uint8))
    asked = len(hub.requests)
    done = igpt("complete", "someone/pixels", "a.png", "--out", "completed", offline=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "completed" / "completions.png").is_file()
    assert len(hub.requests) == asked


def test_a_folder_of_transformers_is_loaded_by_its_name_and_revision(
    pretrained, igpt, hub, tmp_path
):
    write_huggingface(pretrained, tmp_path / "out")
    hub.repositories["someone/theirs"] = files_of(tmp_path / "out")
    done = igpt("convert", "someone/theirs", "ours", "--revision", "v1")
    assert done.returncode == 0, done.stderr
    assert "igpt from huggingface, autoregressive, 3 layers of width 24, 4 heads" in done.stdout
    # all files are of the commit that the first of them was of
    assert any(f"/resolve/{COMMIT}/model.safetensors" in line for line in hub.requests)
    done = igpt("convert", "someone/theirs", "other", "--revision", "v2")
    assert done.returncode == 2
    assert "has no revision 'v2'; give a branch, tag or commit" in done.stderr


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "there is no folder someone/model, and no model of that name on the hub"),
        ({}, "the model someone/model on the hub has no config.json"),
        (
            {"config.json": b'{"model_type": "imagegpt"}'},
            "someone/model has no weights that can",
        ),
        ({"config.json": b'{"format": 1}'}, "the model someone/model lacks palette.npy"),
    ],
)
def test_what_the_hub_has_not_is_told_in_a_line(igpt, hub, files, message):
    if files is not None:
        hub.repositories["someone/model"] = files
    done = igpt("convert", "someone/model", "copy")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_network_the_cache_is_what_there_is(igpt):
    done = igpt("convert", "someone/model", "copy", offline=True)
    assert done.returncode == 2
    assert "could not be reached to look for a model of that name, and its cache" in done.stderr


def test_pushing_needs_the_right_to(pretrained, igpt, hub, tmp_path):
    pretrained.save(tmp_path / "run" / "model")
    for token in ("hf_wrong", ""):
        done = igpt("push", "run", "someone/pixels", token=token)
        assert done.returncode == 2
        assert "log in with hf auth login, or set HF_TOKEN" in done.stderr
        assert "Traceback" not in done.stderr
    assert hub.repositories == {}
    done = igpt("push", "run", "pixels")
    assert done.returncode == 2
    assert "a model on the hub is named owner/model, got 'pixels'" in done.stderr


def test_pushing_without_a_hub_is_told(pretrained, igpt, tmp_path, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", unreachable)
    pretrained.save(tmp_path / "run" / "model")
    done = igpt("push", "run", "someone/pixels")
    assert done.returncode == 2
    assert "could not reach the hub to publish someone/pixels: no route" in done.stderr


def test_a_name_or_licence_that_the_hub_does_not_take_is_told(pretrained, igpt, hub, tmp_path):
    pretrained.save(tmp_path / "run" / "model")
    for name in ("someone/x--y", "someone/x.", "a/b/c"):
        done = igpt("push", "run", name)
        assert done.returncode == 2
        assert f"a model on the hub is named owner/model, got '{name}'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    hub.faults.append("license must be one of apache-2.0, mit")
    done = igpt("push", "run", "someone/pixels", "--license", "nonsense")
    assert done.returncode == 2
    assert "does not take the model card of someone/pixels" in done.stderr
    assert "license must be one of" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_hub_that_breaks_off_is_told_and_what_was_fetched_is_kept(
    pretrained, igpt, hub, tmp_path
):
    write_huggingface(pretrained, tmp_path / "out")
    hub.repositories["someone/theirs"] = files_of(tmp_path / "out")
    hub.broken.append("model.safetensors")
    done = igpt("convert", "someone/theirs", "ours")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("igpt: could not fetch model.safetensors of ")
    assert "try again, what was fetched is kept" in done.stderr
    done = igpt("convert", "someone/theirs", "ours", offline=True)
    assert done.returncode == 2
    assert "has no weights that can be read" in done.stderr
    assert "offline, in the cache" in done.stderr
    hub.broken.clear()
    assert igpt("convert", "someone/theirs", "ours").returncode == 0


def test_another_network_is_refused_before_its_weights_are_fetched(igpt, hub):
    hub.repositories["someone/gpt2"] = {
        "config.json": b'{"model_type": "gpt2"}', "model.safetensors": b"many gigabytes",
    }  # fmt: skip
    done = igpt("convert", "someone/gpt2", "ours")
    assert "someone/gpt2 holds a model of type 'gpt2'" in done.stderr
    assert not any("safetensors" in line for line in hub.requests)
    for config in (b"{", b"3"):
        hub.repositories["someone/broken"] = {"config.json": config}
        done = igpt("convert", "someone/broken", "ours")
        assert done.returncode == 2
        assert "config.json is" in done.stderr


def test_a_dry_run_publishes_nothing(pretrained, igpt, hub, tmp_path):
    pretrained.save(tmp_path / "run" / "model")
    done = igpt("push", "run", "someone/pixels", "--dry-run", "look", "--to", "huggingface")
    assert done.returncode == 0, done.stderr
    assert hub.requests == []
    assert {path.name for path in (tmp_path / "look").iterdir()} == {
        "README.md", "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip


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
