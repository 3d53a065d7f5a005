"""Every file of a run, store, model or palette, and every damage to it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.conftest import SHAPES_RECIPE

import igpt
from igpt.cli import main
from igpt.errors import ConfigError
from igpt.files import write_json
from igpt.pixels.palette import Palette
from igpt.runs.finetune import finetune
from igpt.runs.measure import evaluate_run, probe_run
from igpt.runs.palette import fit_palette_file
from igpt.runs.pretrain import pretrain
from igpt.runs.verify import verify


@pytest.fixture(scope="module")
def world(shapes_store, tmp_path_factory):
    """A store, a palette, a pretraining run that was measured and a fine-tuning run."""
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(shapes_store.path, folder / "store")
    fit_palette_file(folder / "store", folder / "palette.npy", size=16, image_size=4)
    given = {"data": folder / "store", "device": "cpu"}
    run = pretrain(
        replace(SHAPES_RECIPE, snapshots=1), palette=folder / "palette.npy", out=folder / "run",
        **given,
    )  # fmt: skip
    evaluate_run(run.path, **given)
    probe_run(run.path, raw=False, **given)
    finetune(run.path, out=folder / "tuned", config=SHAPES_RECIPE.finetune, **given)
    return folder


@pytest.fixture
def copy(world, tmp_path):
    """Return a copy of a part of it, to be damaged; a run's store stays where it was."""

    def copied(name):
        if name.endswith(".npy"):
            for ending in ("npy", "json", "png"):
                shutil.copy(world / f"palette.{ending}", tmp_path)
            return tmp_path / name
        return shutil.copytree(world / name, tmp_path / name.replace("/", "-"))

    return copied


def states(path):
    return {file.name: file.state for file in verify(path).files}


PARTS = {"store": "store", "run": "run", "tuned": "run", "run/model": "model",
         "palette.npy": "palette"}  # fmt: skip
UNCHECKED = {"log.txt"}


@pytest.mark.parametrize("part", PARTS)
def test_what_was_just_made_is_whole(world, part):
    verified = verify(world / part)
    assert verified.whole
    assert verified.kind == PARTS[part]
    assert {file.name for file in verified.files if file.state != "ok"} <= UNCHECKED


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "removed"])
def test_damage_to_any_file_is_found(copy, part, damage):
    path = copy(part)
    folder = path if path.is_dir() else path.parent
    generator = np.random.default_rng(0)
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        if file.name in UNCHECKED:
            continue
        whole = file.read_bytes()
        place = int(generator.integers(len(whole)))
        if damage == "flipped":
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        elif damage == "cut":
            file.write_bytes(whole[: place // 2])
        elif damage == "emptied":
            file.write_bytes(b"")
        else:
            file.unlink()
        assert not is_whole(path) or (damage == "removed" and may_be_missing(file)), file
        file.write_bytes(whole)
    assert verify(path).whole


def is_whole(path):
    try:
        return verify(path).whole
    except ConfigError:  # what it was cannot be told any more
        return False


def may_be_missing(file):
    """Say whether a file is one that a run, or a palette, may do without."""
    return file.suffix in (".png", ".json") and file.name not in ("config.json", "state.json")


@pytest.mark.parametrize("part", ["store", "run", "run/model", "palette.npy"])
def test_the_fault_is_told_of_its_file_alone(copy, part):
    path = copy(part)
    name, wrong = {
        "store": ("train/images.npy", "changed"), "run": ("metrics.jsonl", "changed"),
        "run/model": ("model.safetensors", "changed"), "palette.npy": ("palette.npy", "changed"),
    }[part]  # fmt: skip
    file = path / name if path.is_dir() else path
    before = states(path)
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)
    after = states(path)
    assert after.pop(name) == wrong
    assert before.pop(name) == "ok"
    if part == "palette.npy":
        assert after.pop("palette.json") == "changed"  # it is no longer that of this palette
        before.pop("palette.json")
    assert after == before


def test_a_file_of_nobody_is_unknown_and_no_fault(copy):
    path = copy("store")
    (path / "train" / "notes.txt").write_text("mine")
    verified = verify(path)
    assert verified.whole
    assert states(path)["train/notes.txt"] == "unknown"
    assert "unknown  train/notes.txt: nothing tells what it held" in verified.table()


def test_a_result_of_an_earlier_model_is_said_to_be_and_is_no_fault(copy):
    path = copy("run")
    changed = igpt.load(path)
    with torch.no_grad():
        changed.model.position_embedding += 0.5
    changed.save(path / "model")
    verified = verify(path)
    assert verified.whole
    notes = {file.name: file.note for file in verified.files if file.note}
    assert notes["probe.json"] == "measured of a model that the run no longer has"
    assert notes["evaluation.json"] == "measured of a model that the run no longer has (test)"


def test_what_a_run_should_have_by_now_is_missing(copy):
    path = copy("run")
    shutil.rmtree(path / "model")
    shutil.rmtree(path / "snapshots" / "step-000006")
    found = states(path)
    for name in ("model", "snapshots/step-000006"):
        assert found[f"{name}/model.safetensors"] == "missing"


def test_the_store_of_a_run_is_verified_too(world, copy):
    path = copy("run")
    store = str(world / "store")
    assert states(path)[store] == "ok"
    images = world / "store" / "test" / "images.npy"
    whole = images.read_bytes()
    images.write_bytes(whole[:-1] + b"x")
    assert states(path)[f"{store}/test/images.npy"] == "changed"
    images.write_bytes(whole)
    moved = (world / "store").rename(world / "moved")
    assert states(path)[store] == "unknown"
    moved.rename(world / "store")


def test_a_model_of_numbers_that_are_none_is_not_whole(copy):
    path = copy("run/model")
    model = igpt.load(path)
    with torch.no_grad():
        model.model.position_embedding[0, 0] = torch.nan
    model.save(path)
    note = next(file.note for file in verify(path).files if file.state == "changed")
    assert "NaN or infinity in 'position_embedding'" in note


def test_what_an_earlier_igpt_wrote_is_unknown(copy):
    path = copy("run/model")
    values = json.loads((path / "config.json").read_text())
    for name in ("checksum", "sha256", "crc32c"):
        del values[name]
    write_json(path / "config.json", {**values, "format": 1})
    assert set(states(path).values()) == {"unknown"}
    assert verify(path).whole


def test_the_command_ends_with_0_1_or_2(copy, capsys):
    path = copy("run/model")

    def igpt(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["verify", *map(str, arguments)])
        return stop.value.code, capsys.readouterr()

    code, printed = igpt(path)
    assert code == 0
    assert printed.out.splitlines() == [
        "  ok       config.json", "  ok       model.safetensors", "  ok       palette.npy",
        f"{path}, a model: 3 ok",
    ]  # fmt: skip
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (path / "palette.npy").unlink()
    code, printed = igpt(path)
    assert code == 1
    assert "  changed  model.safetensors: its checksum differs" in printed.out
    assert f"{path}, a model: 1 ok, 1 changed, 1 missing" in printed.out
    code, printed = igpt(path, "--json")
    assert code == 1
    assert [file["state"] for file in json.loads(printed.out)["files"]] == [
        "ok", "changed", "missing",
    ]  # fmt: skip
    code, printed = igpt(path.parent)
    assert (code, printed.out) == (2, "")


def test_what_is_no_work_of_ours_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "a.npy"):
        with pytest.raises(ConfigError, match="is no run, store, model folder of igpt's own or"):
            verify(path)
    Palette(np.zeros((2, 3), np.float32)).save(tmp_path / "a.npy")
    assert states(tmp_path / "a.npy") == {"a.npy": "unknown"}
