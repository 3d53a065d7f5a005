import dataclasses
import json
import re

import pytest
from tests.conftest import random_model
from tests.report.conftest import DATA, PROVENANCE, new_finetuned, new_run

from igpt.evaluation.proportions import Share
from igpt.files import write_json
from igpt.formats.load import load
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.report.card import model_card
from igpt.report.verdicts import Beside, probe_verdict
from igpt.runs.measure import Evaluation

NAME = "someone/pixels"


@pytest.fixture
def pretrained(tiny_palette):
    return Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))


@pytest.fixture
def classifier(pretrained):
    names = tuple(f"class {number}" for number in range(25))
    return dataclasses.replace(pretrained, model=random_model(classes=25), class_names=names)


def counted(result) -> str:
    """Return a test accuracy on the 16 test images with its count and interval."""
    share = Share.of(result.test_accuracy, 16)
    low, high = share.interval
    between = f"{100 * low:.1f}\N{EN DASH}{high:.1%}"
    return f"{share.value:.2%} ({share.right} of 16; 95 % interval {between})"


def settings_in(card: str) -> dict:
    return json.loads(re.search(r"```json\n(.*)\n```", card, re.DOTALL)[1])


def test_the_card_of_a_real_run_says_what_was_measured(real):
    card = model_card(load(real.autoregressive), real.autoregressive, name=NAME)
    probe = real.probe
    for row in (
        f"| nats per pixel, test (16 images) | {real.likelihood.nats_per_pixel:.4f} |",
        f"| linear probe, layer {probe.best_layer}, test accuracy | {counted(probe)} |",
        f"| the same on raw pixels | {counted(probe.raw_pixels)} |",
        probe_verdict(probe, Beside(untrained=real.untrained)),
    ):
        assert row in card.splitlines()
    assert "autoregressive, for 4x4 images of 16 palette colors: 2 layers of width 16" in card
    assert "Kind: pretrain. Recipe: shapes. Images: store (store " in card


def test_the_card_of_a_search_is_that_of_the_run_it_came_out_with(real, tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "lr-1").symlink_to(real.autoregressive)
    write_json(tmp_path / "search" / "search.json", {"run": "lr-1"})
    model = load(real.autoregressive)
    card = model_card(model, tmp_path / "search", name=NAME)
    assert card == model_card(model, real.autoregressive, name=NAME)
    assert "## How it was made" in card


def test_the_card_of_a_bert_run_says_that_hidden_pixels_were_counted(measured_run, pretrained):
    measured = measured_run.read("evaluation.json", Evaluation).splits["test"]
    masked = dataclasses.replace(measured, objective="masked")
    measured_run.write("evaluation.json", Evaluation(splits={"test": masked}))
    card = model_card(pretrained, measured_run.path, name=NAME)
    assert "| nats per pixel, hidden pixels only, test (1,440 images) | 0.7476 |" in card


def test_the_card_of_a_real_fine_tuning_says_what_it_came_from_and_its_accuracy(real):
    card = model_card(load(real.tuned), real.tuned, name=NAME)
    assert "Kind: finetune, of autoregressive. Images: store (store " in card
    assert f"| fine-tuned, test accuracy | {counted(real.fine_tuning)} |" in card.splitlines()
    assert "Classes: left, top." in card


def test_the_card_holds_every_setting_that_decided_the_weights(run, pretrained, tmp_path):
    settings = settings_in(model_card(pretrained, run.path, name=NAME))
    assert settings["training"]["steps"] == 900
    assert settings["model"]["layers"] == 4
    assert "finetune" not in settings
    tuned = new_finetuned(tmp_path / "tuned", pretrained.palette)
    settings = settings_in(model_card(pretrained, tuned.path, name=NAME))
    assert settings["training"]["steps"] == 300
    assert settings["pixel_coefficient"] == 1.0


def test_the_card_keeps_the_folders_of_the_machine_to_itself(pretrained, tmp_path):
    data = dataclasses.replace(DATA, path="/home/someone/secret/photos")
    run = new_run(tmp_path / "run", pretrained.palette, data=data)
    card = model_card(pretrained, run.path, name=NAME)
    assert "Images: photos (store 57a79cc51254a403)." in card
    assert "secret" not in card
    assert str(tmp_path) not in card


def test_the_card_says_which_code_and_which_machine_made_the_model(run, pretrained):
    card = model_card(pretrained, run.path, name=NAME)
    assert "igpt 0.1.0, commit 66904fb, PyTorch 2.99, on cpu." in card


def test_a_card_without_a_commit_names_none(run, pretrained):
    run.write("provenance.json", dataclasses.replace(PROVENANCE, commit=None))
    card = model_card(pretrained, run.path, name=NAME)
    assert "igpt 0.1.0, PyTorch 2.99, on cpu." in card


def test_the_hub_s_header_names_licence_library_and_task(pretrained, classifier, tmp_path):
    card = model_card(pretrained, tmp_path, name=NAME, license_name="mit")
    header = card.split("---")[1].splitlines()
    for line in (
        "license: mit", "library_name: igpt", "pipeline_tag: unconditional-image-generation",
    ):  # fmt: skip
        assert line in header
    assert "The weights: mit." in card
    card = model_card(classifier, tmp_path, name=NAME, to="huggingface")
    header = card.split("---")[1].splitlines()
    assert "library_name: transformers" in header
    assert "pipeline_tag: image-classification" in header
    assert "Their owner has not named one yet." in card


def test_the_card_of_a_model_folder_says_what_the_model_is(pretrained, tmp_path):
    card = model_card(pretrained, tmp_path, name=NAME)
    assert card.splitlines().count("# pixels") == 1
    assert "How it was made" not in card
    assert "Figures" not in card


@pytest.mark.parametrize("to", ["igpt", "huggingface"])
def test_the_code_of_a_card_is_python(pretrained, classifier, tmp_path, to):
    for model in (pretrained, classifier):
        card = model_card(model, tmp_path, name=NAME, to=to)
        code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
        compile(code, "card", "exec")
        assert f'("{NAME}")' in code


def test_of_many_classes_the_first_are_named(classifier, tmp_path):
    card = model_card(classifier, tmp_path, name=NAME)
    assert "Classes: class 0, class 1, " in card
    assert "class 19 and 5 more." in card


def test_figures_of_pixels_are_for_a_folder_that_predicts_them(real, classifier):
    run = real.autoregressive
    assert "nats per pixel" in model_card(classifier, run, name=NAME)
    assert "nats per pixel" not in model_card(classifier, run, name=NAME, to="huggingface")
    colors = model_card(classifier, real.tuned, name=NAME, to="huggingface", head="colors")
    assert "fine-tuned, test accuracy" in model_card(classifier, real.tuned, name=NAME)
    assert "fine-tuned, test accuracy" not in colors


def test_the_card_of_a_classifier_for_transformers_says_how_they_differ(classifier, tmp_path):
    theirs = model_card(classifier, tmp_path, name=NAME, to="huggingface")
    assert "loads the same. But transformers feeds a classifier no start embedding" in theirs
    assert "start embedding" not in model_card(classifier, tmp_path, name=NAME)
