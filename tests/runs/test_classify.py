"""From a run to the classes of photographs."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from tests.conftest import SHAPES_RECIPE, write_shapes

import igpt
from igpt.cli import main
from igpt.errors import CheckpointError, ConfigError
from igpt.evaluation.features import extract_features
from igpt.evaluation.probe import LayerProbes
from igpt.formats.convert import convert
from igpt.model.kept_probe import KeptProbe
from igpt.runs.classify import classify_files
from igpt.runs.finetune import FinetuneResult, finetune
from igpt.runs.measure import probe_run
from igpt.runs.pretrain import pretrain
from igpt.runs.run import RunFolder
from igpt.runs.verify import verify


@pytest.fixture(scope="module")
def world(shapes_store, tmp_path_factory):
    """A run that was probed, and one that was fine-tuned from it."""
    folder = tmp_path_factory.mktemp("world")
    colors = np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)
    igpt.Palette(colors).save(folder / "palette.npy")
    given = {"data": shapes_store.path, "device": "cpu"}
    run = pretrain(
        SHAPES_RECIPE, out=folder / "run", palette=folder / "palette.npy", seconds=0.0, **given
    )
    probe_run(run.path, raw=False, **given)
    finetune(run.path, out=folder / "tuned", config=SHAPES_RECIPE.finetune, **given)
    write_shapes(folder / "photos", images=6, size=24, seed=7)
    return folder


@pytest.fixture
def run(world, tmp_path):
    return RunFolder(shutil.copytree(world / "run", tmp_path / "run"))


def run_command(capsys, *arguments):
    """Return exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code, *capsys.readouterr()


def test_a_kept_probe_is_scikit_learns_at_the_same_penalty(world, shapes_store):
    kept = KeptProbe.load(world / "run" / "probe")
    learned = shapes_store.split("train+validation")
    pretrained = igpt.load(world / "run")
    layers = [kept.layer]
    features = extract_features(pretrained, learned, layers=layers)[:, 0].astype(np.float64)
    # with two classes scikit-learn keeps the difference of their weights alone
    theirs = LogisticRegression(C=2 / (kept.penalty * len(learned)), tol=1e-10, max_iter=10_000)
    theirs.fit(features, learned.require_labels())
    test = shapes_store.split("test")
    of_test = extract_features(pretrained, test, layers=layers)[:, 0].astype(np.float64)
    ours = softmax(kept.decision_function(of_test), axis=1)
    np.testing.assert_allclose(ours, theirs.predict_proba(of_test), atol=2e-3)
    result = RunFolder(world / "run").require("probe.json", LayerProbes)
    assert (kept.layer, kept.test_accuracy) == (result.best_layer, result.test_accuracy)
    right = (theirs.predict(of_test) == test.require_labels()).sum()
    assert (kept.test_right, kept.test_images) == (right, len(test))


def test_files_of_the_store_are_classified_as_its_records_are(world, shapes_store):
    test = shapes_store.split("test")
    source = shapes_store.path.parent / "images"
    for name in ("run", "tuned"):
        by_file = classify_files(world / name, [source / name for name in test.names], device="cpu")
        of_records = igpt.load(world / name).classify(test)
        assert [one.class_name for one in by_file.images] == [one.class_name for one in of_records]
        np.testing.assert_allclose(
            [one.probability for one in by_file.images],
            [one.probability for one in of_records],
            rtol=1e-6,
        )
        by_name = {"run": ("probe", 16), "tuned": ("class head", 16)}
        summary = by_file.classifier
        assert (summary.kind, summary.test_images) == by_name[name]
        labels = test.require_labels()
        right = [
            test.class_names[label] == one.class_name
            for label, one in zip(labels, by_file.images, strict=True)
        ]
        assert np.mean(right) == summary.test_accuracy


def test_of_many_classes_the_test_images_are_told_though_no_confusions_are_kept(world, tmp_path):
    run = RunFolder(shutil.copytree(world / "tuned", tmp_path / "tuned"))
    known = run.require("finetune.json", FinetuneResult)
    run.write("finetune.json", replace(known, confusion=None))
    summary = classify_files(run.path, [world / "photos"], device="cpu").classifier
    assert summary.test_images == 16


def test_a_broken_file_is_named_and_counted_while_the_others_go_on(world, tmp_path, capsys):
    photos = shutil.copytree(world / "photos", tmp_path / "photos")
    (photos / "broken.jpg").write_text("no image")
    table = tmp_path / "table.csv"
    command = ["classify", world / "run", photos, "--device", "cpu", "--out", table]
    code, out, _ = run_command(capsys, *command)
    assert code == 0
    assert "skipped 1, classified 6" in out
    assert "broken.jpg is not an image" in out
    assert "by the probe of layer" in out
    rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["file", "class", "probability", "left", "top"]
    assert len(rows) == 7
    for file, name, probability, *each in rows[1:]:
        assert file.startswith(str(photos))
        assert sum(map(float, each)) == pytest.approx(1)
        assert float(probability) == max(map(float, each))
        assert name == rows[0][3 + np.argmax(list(map(float, each)))]
    code, out, _ = run_command(capsys, *command, "--overwrite", "--json", "--top", "1")
    values = json.loads(out)
    assert [len(image["ranking"]) for image in values["images"]] == [1] * 6
    assert values["skipped"][0]["file"] == str(photos / "broken.jpg")
    code, _, err = run_command(capsys, "classify", world / "run", photos / "broken.jpg")
    assert code == 2
    assert "is not an image" in err


def test_a_probe_of_an_earlier_model_is_refused_and_verify_says_so(run, world):
    shutil.rmtree(run.model)
    shutil.copytree(world / "tuned" / "pretrained", run.model)
    assert verify(run.path).whole
    shutil.rmtree(run.model)
    shutil.copytree(world / "tuned" / "model", run.model)
    model = igpt.load(run.path)
    with pytest.raises(CheckpointError, match="fit it again with igpt probe"):
        model.kept_probe()
    (line,) = (file for file in verify(run.path).files if file.name == "probe")
    assert (line.state, "no longer has" in line.note) == ("ok", True)


def test_verify_sees_a_changed_probe(run):
    weights = run.probe / "classifier.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (line,) = (file for file in verify(run.path).files if file.name == "probe")
    assert line.state == "changed"


def test_a_run_that_was_not_probed_says_how(run, world):
    shutil.rmtree(run.probe)
    with pytest.raises(ConfigError, match="fit one: igpt probe RUN --data STORE"):
        classify_files(run.path, [world / "photos"], device="cpu")


def test_a_converted_model_takes_its_probe_along(run, world, tmp_path):
    done = convert(run.path, tmp_path / "igpt", to="igpt")
    assert done.left_out == ()
    assert verify(tmp_path / "igpt").whole
    photos = [world / "photos"]
    ours, theirs = (
        classify_files(path, photos, device="cpu") for path in (run.path, tmp_path / "igpt")
    )
    assert ours == theirs
    done = convert(run.path, tmp_path / "huggingface")
    assert any("kept probe" in text for text in done.left_out)
    assert any("PIL.ImageOps.fit(image, (4, 4)" in text for text in done.left_out)


def test_other_probes_are_not_kept(run, world, shapes_store):
    shutil.rmtree(run.probe)
    given = {"data": shapes_store.path, "device": "cpu", "raw": False}
    probe_run(run.path, solver="ridge", **given)
    probe_run(run.path, untrained=True, **given)
    probe_run(run.path, layers=[1], **given)
    assert not run.probe.exists()


def test_a_bert_classifier_says_that_no_pixels_are_hidden(world, shapes_store, tmp_path):
    bert = replace(SHAPES_RECIPE, model=replace(SHAPES_RECIPE.model, causal=False))
    given = {"data": shapes_store.path, "device": "cpu"}
    base = pretrain(
        bert, out=tmp_path / "base", palette=world / "palette.npy", seconds=0.0, **given
    )
    tuned = finetune(base.path, out=tmp_path / "tuned", config=SHAPES_RECIPE.finetune, **given)
    summary = classify_files(tuned.path, [world / "photos"], device="cpu").classifier
    assert "all pixels are shown, where that was measured under masks" in summary.text
    known = tuned.require("finetune.json", FinetuneResult)
    assert summary.test_accuracy == known.test_accuracy
