"""docs/files.md names every key that a run writes, and none that there is not."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import igpt
from igpt.files import read_json
from igpt.runs.along import along_run
from igpt.runs.finetune import finetune
from igpt.runs.measure import (
    evaluate_run,
    few_labels_run,
    masks_run,
    outliers_run,
    probe_run,
)
from igpt.runs.palette import fit_palette_file
from igpt.runs.pretrain import pretrain
from igpt.runs.resume import resume
from igpt.runs.search import search_pretraining
from tests.conftest import SHAPES_RECIPE

PAGE = (Path(__file__).parents[1] / "docs" / "files.md").read_text()
OF_EVERY_RESULT = ("made_from", "checksum")
ELSEWHERE = {
    "mfu": "on GPUs",
    "loss_scale": "in float16",
    "skipped": "in float16",
}
"""Keys that the page has and a small run on a CPU does not write, and where they are."""


def documented():
    """Return the keys that the page's tables have, by file."""
    keys = {}
    for section in re.split("^##+ ", PAGE, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        rows = re.findall(r"^\| (`.*?`) \|", text, flags=re.MULTILINE)
        if name := re.fullmatch("`(.*)`", title):
            keys[name[1]] = {key for row in rows for key in re.findall("`(.*?)`", row)}
    return keys


def written(value, path=""):
    """Yield the key of every value in nested lists and objects."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from written(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from written(inner, f"{path}[]")
    else:
        yield path


def covers(key, path):
    """Whether a documented key is that of a value, or of the object that it lies in."""
    return path == key or path.startswith((f"{key}.", f"{key}["))


@pytest.fixture(scope="module")
def files(shapes_store, tmp_path_factory):
    """What small runs of every kind wrote, as objects, by file."""
    folder = tmp_path_factory.mktemp("runs")
    fit_palette_file(shapes_store.path, folder / "palette.npy", size=16, image_size=4)
    new = {"data": shapes_store.path, "palette": folder / "palette.npy", "device": "cpu"}
    data = {"data": shapes_store.path, "device": "cpu"}
    recipe = replace(SHAPES_RECIPE, snapshots=1, online_probe_images=8)
    ar = pretrain(recipe, out=folder / "ar", **new).path
    bert = replace(recipe, model=replace(recipe.model, causal=False))
    bert = pretrain(bert, out=folder / "bert", **new).path
    evaluate_run(ar, **data)
    evaluate_run(bert, **data)
    probe_run(ar, concatenate=2, **data)
    probe_run(ar, solver="ridge", **data)
    few_labels_run(ar, labels_per_class=[2], subsets=2, finetune_steps=1, **data)
    masks_run(finetune(bert, out=folder / "bert-ft", config=recipe.finetune, **data).path, **data)
    outliers_run(ar, images=8, **data)
    along_run(ar, **data)
    finetune(ar, out=folder / "ar-ft", config=recipe.finetune, **data)
    resume(pretrain(SHAPES_RECIPE, out=folder / "longer", **new).path, steps=14, device="cpu")
    search_pretraining(recipe, name="shapes", out=folder / "search", rates=[0.01, 0.003], **new)
    found = {}
    for file in folder.rglob("*.json*"):
        if file.suffix == ".jsonl":
            objects = [json.loads(line) for line in file.read_text().splitlines()]
        else:
            objects = [read_json(file)]
        found.setdefault(file.name, []).extend(objects)
    return found


def keys_of(objects):
    return {path for value in objects for path in written(value)}


def test_every_file_of_results_has_a_table(files):
    elsewhere = {"config.json", "state.json"}  # of model/ and state/, whose modules tell
    alike = {name for name in files if re.fullmatch(r"probe-\w+\.json", name)}
    assert files.keys() - elsewhere - alike == documented().keys()
    assert all(f"`{name}`" in PAGE for name in alike)


def test_every_key_that_is_written_is_documented(files):
    unknown = {
        f"{name}: {path}"
        for name, keys in documented().items()
        for path in keys_of(files[name])
        if not any(covers(key, path) for key in {*keys, *OF_EVERY_RESULT})
    }
    assert unknown == set()


def test_no_key_is_documented_that_is_not_there(files):
    for name, keys in documented().items():
        paths = keys_of(files[name])
        gone = {key for key in keys if not any(covers(key, path) for path in paths)}
        assert gone <= ELSEWHERE.keys(), f"{name}: {sorted(gone)}"


def test_losses_of_chance_are_those_that_the_questions_name():
    text = (Path(__file__).parents[1] / "docs" / "questions.md").read_text()
    assert "6.24 for 512 colors, 4.16 for 64, 2.77\nfor 16" in text
    assert np.round(np.log([512, 64, 16]), 2).tolist() == [6.24, 4.16, 2.77]
    assert igpt.RECIPES["cifar10-tiny"].training.steps == 2700
