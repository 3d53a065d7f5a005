"""docs/files.md names every key that a run writes, and none that there is not."""

import json
import re

import numpy as np
import pytest

import igpt
from igpt.files import read_json
from tests.pages import ROOT

pytestmark = pytest.mark.timeout(900)  # all that the pages show is run first
PAGE = (ROOT / "docs" / "files.md").read_text()
OF_EVERY_RESULT = ("made_from", "checksum")
ELSEWHERE = {
    "mfu": "on GPUs",
    "loss_scale": "in float16",
    "skipped": "in float16",
}
"""Keys that the page has and a small run on a CPU does not write, and where they are."""
OTHERS = {
    "config.json": "of model/, whose module has it",
    "preprocessor_config.json": "of a model for transformers",
    "state.json": "of state/, whose module has it",
    "store.json": "has a table of its own",
    "start.json": "what igpt start chose",
    "summary.json": "what igpt start printed",
}
"""Files of JSON that are no results, and what they are."""


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
def files(ran):
    """What runs of every kind wrote where all that the pages show was run, as objects, by file."""
    found = {}
    for file in [*ran.rglob("*.json"), *ran.rglob("*.jsonl")]:
        if file.is_relative_to(ran / "claims"):
            continue  # igpt claims makes pages of these
        if file.suffix == ".jsonl":
            objects = [json.loads(line) for line in file.read_text().splitlines()]
        else:
            objects = [read_json(file)]
        name = "palette.json" if file.with_suffix(".npy").exists() else file.name
        found.setdefault(name, []).extend(objects)
    return found


def keys_of(objects):
    return {path for value in objects for path in written(value)}


def test_every_file_of_results_has_a_table(files):
    alike = {name for name in files if re.fullmatch(r"probe-\w+\.json", name)}
    assert files.keys() - OTHERS.keys() - alike == documented().keys()
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


def test_losses_of_chance_are_those_that_are_named():
    text = (ROOT / "docs" / "guides" / "loss.md").read_text()
    assert "6.24 for 512 colors, 4.16 for 64, 2.77\nfor 16" in text
    assert np.round(np.log([512, 64, 16]), 2).tolist() == [6.24, 4.16, 2.77]
    assert igpt.RECIPES["cifar10-tiny"].training.steps == 2700
