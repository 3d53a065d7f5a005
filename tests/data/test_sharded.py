"""A store of many shards reads like one of one, and its preparation goes on where it stopped."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from igpt.cli import main
from igpt.data.batches import TokenBatches, evaluation_batches
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.store import RecordStore
from igpt.errors import CheckpointError, DataError
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.runs.verify import verify


def prepare(source, out, *, shard_images=None, workers=None, **settings) -> RecordStore:
    config = StoreConfig(**{"image_size": 8} | settings)
    return prepare_store(str(source), out, config, shard_images=shard_images, workers=workers)


def shades(records) -> list[int]:
    return records.images[:, 0, 0, 0].tolist()


def files(store):
    """The bytes of every file of a store."""
    return {
        path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in store.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def whole(class_folders, tmp_path) -> RecordStore:
    """Sixteen records for training, and two in each of the other splits, each in one piece."""
    (class_folders / "cat" / "05a.png").write_bytes(b"broken")
    return prepare(class_folders, tmp_path / "whole")


@pytest.fixture
def sharded(whole, class_folders, tmp_path) -> RecordStore:
    """The same, five images a shard."""
    return prepare(class_folders, tmp_path / "sharded", shard_images=5)


def test_the_shards_of_a_split_are_the_split(whole, sharded):
    assert [shard.records for shard in sharded.splits["train"].shards] == [4, 5, 5, 2]
    assert not sharded.splits["test"].shards
    for name in ("train", "validation", "test", "train+validation"):
        one, many = whole.split(name), sharded.split(name)
        assert many.images.shape == one.images.shape
        np.testing.assert_array_equal(np.asarray(many.images), one.images)
        np.testing.assert_array_equal(many.labels, one.labels)
        assert many.names == one.names
        for numbers in ([15, 0, 5, 5], np.arange(len(one))[::-1]):
            if max(numbers) < len(one):
                np.testing.assert_array_equal(many.images[numbers], one.images[numbers])
        drawn, expected = many.sample(6, seed=3), one.sample(6, seed=3)
        np.testing.assert_array_equal(drawn.images, expected.images)
        assert drawn.names == expected.names
    assert sharded.account == whole.account
    assert sharded.class_names == whole.class_names


def test_a_split_of_one_shard_is_written_as_it_always_was(whole, sharded, class_folders, tmp_path):
    assert sorted(files(whole.path)) == sorted(
        ["store.json"]
        + [
            f"{split}/{name}.npy"
            for split in whole.splits
            for name in ("images", "labels", "names")
        ]
    )
    as_many = prepare(class_folders, tmp_path / "as-many", shard_images=17)
    assert files(as_many.path) == files(whole.path)
    alike = {name for name in files(whole.path) if name.startswith(("test/", "validation/"))}
    assert {name: files(sharded.path)[name] for name in alike}.items() <= files(whole.path).items()


def test_pixels_of_shards_are_mapped_and_not_copied(sharded):
    images = sharded.split("train").images
    assert all(isinstance(part, np.memmap) for part in images.parts)
    assert images[6].base is not None
    assert np.shares_memory(images[5:8], images.parts[1])


def test_a_network_learns_from_the_same_batches(whole, sharded, tiny_palette):
    tokenizer = ImageTokenizer(tiny_palette, 4)
    one, many = (
        TokenBatches(
            store.split("train"), tokenizer, batch_size=6, seed=3, augmentation="random-resize-crop"
        )
        for store in (whole, sharded)
    )
    for step in range(5):
        assert torch.equal(one.at(step).tokens, many.at(step).tokens)
        assert torch.equal(one.at(step).labels, many.at(step).labels)
    of_all = [
        [
            batch.tokens
            for batch in evaluation_batches(store.split("train"), tokenizer, batch_size=7)
        ]
        for store in (whole, sharded)
    ]
    assert all(map(torch.equal, *of_all))


def test_the_records_do_not_depend_on_shards_or_workers(class_folders, tmp_path):
    shards = prepare(class_folders, tmp_path / "a", shard_images=3, crops=2, enlarge=True)
    one = prepare(class_folders, tmp_path / "b", workers=1, crops=2, enlarge=True)
    assert [shard.records for shard in shards.splits["train"].shards] == [6, 6, 6, 6, 6, 2]
    np.testing.assert_array_equal(
        np.asarray(shards.split("train").images), one.split("train").images
    )


def test_a_shard_of_broken_files_is_empty_and_the_others_are_read(tmp_path, save_image):
    for number in range(9):
        path = save_image(tmp_path / "source" / f"{number}.png", number)
        if 3 <= number < 6:
            path.write_bytes(b"broken")
    store = prepare(
        tmp_path / "source", tmp_path / "store", shard_images=3, test_fraction=0.0,
        validation_fraction=0.0,
    )  # fmt: skip
    assert [shard.records for shard in store.splits["train"].shards] == [3, 0, 3]
    assert shades(store.split("train")) == [0, 1, 2, 6, 7, 8]
    assert store.account.images_skipped == 3


# Damage


def test_a_damaged_shard_is_refused_and_named(sharded, capsys):
    file = sharded.path / "train" / "00002" / "images.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"train/00002/images\.npy was changed since the store was"):
        RecordStore.open(sharded.path).split("train")
    states = {known.name: known.state for known in verify(sharded.path).files}
    assert states.pop("train/00002/images.npy") == "changed"
    assert set(states.values()) == {"ok"}
    with pytest.raises(SystemExit) as stop:
        main(["data", "verify", str(sharded.path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert "train/00002/images.npy was changed (its checksum differs); restore it, or" in line


@pytest.mark.parametrize("name", ["train/00001/labels.npy", "train/00003/names.npy", "store.json"])
def test_every_file_is_held_against_its_checksum(sharded, name, capsys):
    file = sharded.path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError):
        RecordStore.open(sharded.path)
    with pytest.raises(SystemExit) as stop:
        main(["data", "verify", str(sharded.path)])
    assert stop.value.code == 2
    assert name in capsys.readouterr().err


def test_a_missing_shard_is_named(sharded, capsys):
    shutil.rmtree(sharded.path / "train" / "00001")
    with pytest.raises(SystemExit) as stop:
        main(["data", "verify", str(sharded.path)])
    assert stop.value.code == 2
    assert "train/00001/images.npy is missing, and so are 2 more" in capsys.readouterr().err


def test_a_whole_store_is_verified_in_a_line(sharded, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["data", "verify", str(sharded.path)])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"{sharded.path}, a store: 19 ok\n"


# Going on

PREPARE_SLOWLY = """
import sys, time
from igpt.data.batches import TokenBatches, evaluation_batches
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.pixels.images import OpenedImage
square = OpenedImage.square
def slow_square(*arguments):
    time.sleep(0.1)
    return square(*arguments)
OpenedImage.square = slow_square
config = StoreConfig(image_size=8, drop_duplicates=True)
prepare_store(sys.argv[1], sys.argv[2], config, shard_images=3, workers=1)
"""


def killed_midway(source, out, shards: int) -> None:
    """Start a preparation in a process of its own, and kill it once some shards are there."""
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE_SLOWLY, str(source), str(out)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob(".preparing/train-*.json"))) < shards:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_killed_preparation_goes_on_and_keeps_the_shards_that_are_there(class_folders, tmp_path):
    out = tmp_path / "store"
    killed_midway(class_folders, out, shards=2)
    with pytest.raises(DataError, match="is a store that is not finished; give the command"):
        RecordStore.open(out)
    there = {path: path.stat().st_mtime_ns for path in out.glob("train/0000[01]/*")}
    assert len(there) == 6

    store = prepare(class_folders, out, shard_images=3, drop_duplicates=True)
    assert {path: path.stat().st_mtime_ns for path in there} == there
    undisturbed = prepare(class_folders, tmp_path / "b", shard_images=3, drop_duplicates=True)
    assert files(store.path) == files(undisturbed.path)
    assert not list(out.glob(".*"))


def test_another_command_does_not_go_on_with_what_was_begun(class_folders, tmp_path, save_image):
    out = tmp_path / "store"
    killed_midway(class_folders, out, shards=1)
    options = {"shard_images": 3, "drop_duplicates": True}
    for changes, differing in (
        ({"image_size": 4}, "options"), ({"shard_images": 4}, "shard_images"),
        ({"drop_duplicates": False}, "options"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=rf"beginnings of another store \({differing} differed"):
            prepare(class_folders, out, **options | changes)
    added = save_image(class_folders / "cat" / "new.png", 9)
    with pytest.raises(DataError, match=r"beginnings of another store \(images differed"):
        prepare(class_folders, out, **options)
    added.unlink()
    prepare(class_folders, out, **options)


def test_a_damaged_note_of_what_was_begun_is_told_of(class_folders, tmp_path):
    out = tmp_path / "store"
    killed_midway(class_folders, out, shards=1)
    numbers = out / ".preparing" / "train.npy"
    numbers.write_bytes(numbers.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"train\.npy was changed since it was written; remove"):
        prepare(class_folders, out, shard_images=3, drop_duplicates=True)


def test_what_is_stopped_by_a_full_disk_goes_on_later(class_folders, tmp_path, monkeypatch):
    out, calls = tmp_path / "store", []
    save = np.save

    def save_on_a_full_disk(*arguments):
        calls.append(arguments)
        if len(calls) == 9:
            raise OSError(28, "No space left on device")
        return save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", save_on_a_full_disk)
        with pytest.raises(DataError, match="No space left on device; free some space"):
            prepare(class_folders, out, shard_images=3)
    there = sorted(path.name for path in (out / "train").iterdir())
    assert 0 < len(there) < 6
    assert prepare(class_folders, out, shard_images=3).splits["train"].records == 16


def test_two_processes_are_not_at_work_on_one_store(class_folders, tmp_path):
    out = tmp_path / "store"
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE_SLOWLY, str(class_folders), str(out)],
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob(".preparing/train-*.json")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with pytest.raises(CheckpointError, match=rf"written to by process {process.pid} on "):
            prepare(class_folders, out, shard_images=3, drop_duplicates=True)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    RecordStore.open(out)


def test_an_empty_folder_may_be_given_for_shards_too(class_folders, tmp_path):
    (tmp_path / "store").mkdir()
    prepare(class_folders, tmp_path / "store", shard_images=3)
    assert sorted(os.listdir(tmp_path / "store")) == ["store.json", "test", "train", "validation"]
    with pytest.raises(DataError, match="File exists"):
        prepare(class_folders, tmp_path / "store", shard_images=3)
