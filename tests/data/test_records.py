import errno
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

import igpt.data.records
from igpt.data.records import RecordStore, holdout, prepare_store
from igpt.errors import ConfigError, DataError
from igpt.pixels.images import write_png


def shades(records) -> list[int]:
    """The shade of every record, which tells which image it was made from."""
    return records.images[:, 0, 0, 0].tolist()


def bomb() -> bytes:
    """A PNG file of a few bytes that says it is 100,000 x 100,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(
        ">I", zlib.crc32(header)
    )  # fmt: skip


@pytest.fixture
def broken_folders(class_folders):
    """The class folders with a truncated file, a text and a decompression bomb among them."""
    whole = (class_folders / "cat" / "00.png").read_bytes()
    (class_folders / "cat" / "00a.png").write_bytes(whole[: len(whole) // 2])
    (class_folders / "cat" / "05a.jpg").write_text("not an image")
    (class_folders / "dog" / "19a.png").write_bytes(bomb())
    return class_folders


# What a store holds


def test_every_image_is_in_one_split_with_its_own_label(class_folders, tmp_path):
    store = prepare_store(str(class_folders), tmp_path / "store", image_size=8)
    assert store.counts == {"train": 16, "validation": 2, "test": 2}
    splits = [store.split(name) for name in store.counts]
    assert sorted(shade for split in splits for shade in shades(split)) == list(range(20))
    for split in splits:
        assert shades(split) == sorted(shades(split))  # the order of the source
        assert (split.require_labels() == (np.array(shades(split)) >= 10)).all()
        assert split.class_names == ("cat", "dog")


def test_a_store_opened_is_the_store_that_was_prepared(broken_folders, tmp_path):
    store = prepare_store(str(broken_folders), tmp_path / "store", image_size=4, filter="bicubic")
    assert RecordStore.open(tmp_path / "store") == store
    assert store.filter == "bicubic"
    assert store.split("train").images.shape == (store.counts["train"], 4, 4, 3)


def test_preparing_again_with_the_same_seed_gives_the_same_store(class_folders, tmp_path):
    def held_out(name: str, seed: int) -> list[int]:
        store = prepare_store(str(class_folders), tmp_path / name, image_size=8, seed=seed)
        return shades(store.split("validation"))

    assert held_out("a", 0) == held_out("b", 0) != held_out("c", 1)


def test_splits_of_the_source_are_kept_and_not_held_out_again(tmp_path, save_image):
    for shade, split in enumerate(["train", "validation", "test"]):
        for number in range(3):
            save_image(tmp_path / "source" / split / f"{number}.png", shade)
    store = prepare_store(str(tmp_path / "source"), tmp_path / "store", image_size=8)
    assert [shades(store.split(name)) for name in store.counts] == [[0] * 3, [1] * 3, [2] * 3]


def test_fractions_of_zero_hold_nothing_out(class_folders, tmp_path):
    store = prepare_store(
        str(class_folders),
        tmp_path / "store",
        image_size=8,
        validation_fraction=0.0,
        test_fraction=0.0,
    )
    assert store.splits == ("train",)
    with pytest.raises(DataError, match=r"has no test split, only train; .* test fraction above 0"):
        store.split("test")
    with pytest.raises(DataError, match="has no validation split"):
        store.split("train+validation")


def test_validation_folds_back_into_train(class_folders, tmp_path):
    store = prepare_store(str(class_folders), tmp_path / "store", image_size=8)
    both = store.split("train+validation")
    assert shades(both) == shades(store.split("train")) + shades(store.split("validation"))
    assert (both.require_labels() == (np.array(shades(both)) >= 10)).all()


def test_a_split_nobody_heard_of_is_refused(class_folders, tmp_path):
    store = prepare_store(str(class_folders), tmp_path / "store", image_size=8)
    with pytest.raises(DataError, match="no split 'valiation'; did you mean 'validation'"):
        store.split("valiation")


def test_images_without_classes_make_records_without_labels(tmp_path, save_image):
    for shade in range(4):
        save_image(tmp_path / "source" / f"{shade}.png", shade)
    train = prepare_store(str(tmp_path / "source"), tmp_path / "store", image_size=8).split("train")
    assert train.labels is None
    with pytest.raises(DataError, match="train split of this store has no labels"):
        train.require_labels()


def test_no_digit_is_in_two_splits_however_often_it_is_placed(tmp_path):
    store = prepare_store("digits", tmp_path / "store", image_size=8, placements=2, limit=200)
    assert store.counts == {"train": 180, "validation": 20, "test": 200}
    seen: set[bytes] = set()
    for name in store.counts:
        digits = {image.tobytes() for image in store.split(name).images}
        assert not digits & seen
        seen |= digits


def test_a_limit_draws_from_all_of_the_source(class_folders, tmp_path):
    store = prepare_store(
        str(class_folders), tmp_path / "store", image_size=8, limit=10, test_fraction=0.0
    )
    assert store.counts == {"train": 9, "validation": 1}
    assert set(store.split("train").require_labels()) == {0, 1}


def test_records_are_read_from_the_disk_when_asked_for(class_folders, tmp_path):
    store = prepare_store(str(class_folders), tmp_path / "store", image_size=8)
    assert isinstance(store.split("train").images, np.memmap)


# Crops of the training images


def test_each_training_image_becomes_several_crops_and_no_other_does(broken_folders, tmp_path):
    source = str(broken_folders)
    plain = prepare_store(source, tmp_path / "plain", image_size=4)
    store = prepare_store(source, tmp_path / "store", image_size=4, crops=3, fast_jpeg=True)
    assert RecordStore.open(tmp_path / "store") == store
    assert (store.crops, store.fast_jpeg) == (3, True)
    assert "3 crops of each training image" in store.summary()
    assert store.skipped == plain.skipped == 3  # a broken file counts once
    assert store.counts == plain.counts | {"train": 3 * plain.counts["train"]}
    assert store.checksums["test"] == plain.checksums["test"]
    train = store.split("train")
    assert shades(train) == [shade for shade in shades(plain.split("train")) for _ in range(3)]
    assert (train.require_labels() == plain.split("train").require_labels().repeat(3)).all()
    held = {shade for name in ("validation", "test") for shade in shades(store.split(name))}
    assert not held & set(shades(train))


def test_crops_are_the_same_whenever_they_are_made_and_whatever_is_held_out(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (6, 24, 36, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        write_png(tmp_path / "source" / f"{number}.png", pixels)

    def crops(name: str, **options) -> list[bytes]:
        store = prepare_store(
            str(tmp_path / "source"), tmp_path / name, image_size=8, crops=2, **options
        )
        return [image.tobytes() for image in store.split("train").images]

    whole = crops("a", validation_fraction=0.0, test_fraction=0.0)
    assert len(set(whole)) == 12
    assert crops("b", validation_fraction=0.0, test_fraction=0.0) == whole
    assert set(crops("c", test_fraction=0.5)) < set(whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crops": -1}, "crops must be at least 1, or 0 for centered squares, got -1"),
        ({"fast_jpeg": True}, "--fast-jpeg is for crops alone; set --crops"),
        ({"image_size": 8, "crops": 1}, r"png is 8x8, and 224/384 .* less than --image-size 8"),
    ],
)
def test_crops_that_cannot_be_made_are_refused(class_folders, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        prepare_store(str(class_folders), tmp_path / "store", **{"image_size": 4, **options})
    assert not (tmp_path / "store").exists()


def test_small_images_are_enlarged_for_their_crops_if_that_is_wished(class_folders, tmp_path):
    store = prepare_store(
        str(class_folders), tmp_path / "store", image_size=16, crops=2, enlarge=True
    )
    assert store.split("train").images.shape == (32, 16, 16, 3)


def test_digits_have_no_files_to_cut_crops_from(tmp_path):
    with pytest.raises(ConfigError, match="cut from image files, and digits has none; leave out"):
        prepare_store("digits", tmp_path / "store", image_size=12, crops=2)


def test_crops_are_not_cropped_again(class_folders, tmp_path):
    store = prepare_store(str(class_folders), tmp_path / "store", image_size=4, crops=1)
    store.check_augmentation("flip", "augmentation")
    with pytest.raises(ConfigError, match=r"random crops already.*set finetune\.augmentation=none"):
        store.check_augmentation("random-resize-crop", "finetune.augmentation")
    squares = prepare_store(str(class_folders), tmp_path / "squares", image_size=4)
    squares.check_augmentation("random-resize-crop", "augmentation")


# What is held out


@pytest.mark.parametrize(
    ("records", "fraction", "count"),
    [(50_000, 0.1, 5_000), (20, 0.1, 2), (3, 0.1, 1), (1, 0.1, 0), (2, 0.9, 1), (20, 0.0, 0)],
)
def test_exactly_the_fraction_is_held_out(records, fraction, count):
    kept, held = holdout(records, fraction, seed=0)
    assert len(held) == count
    assert sorted([*kept, *held]) == list(range(records))


def test_what_is_held_out_depends_on_the_seed_alone():
    assert holdout(100, 0.1, seed=0)[1].tolist() == holdout(100, 0.1, seed=0)[1].tolist()
    assert holdout(100, 0.1, seed=0)[1].tolist() != holdout(100, 0.1, seed=1)[1].tolist()


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_that_leaves_nothing_is_refused(fraction):
    with pytest.raises(ConfigError, match=r"must lie in \[0, 1\)"):
        holdout(10, fraction, seed=0)


# Images that cannot be used


def test_broken_files_are_skipped_and_counted(broken_folders, tmp_path):
    store = prepare_store(str(broken_folders), tmp_path / "store", image_size=8)
    assert store.skipped == 3
    assert sum(store.counts.values()) == 20
    for name, message in zip(("00a", "05a", "19a"), sorted(store.first_skipped), strict=True):
        assert name in message
    for name in store.counts:
        split = store.split(name)
        assert (split.require_labels() == (np.array(shades(split)) >= 10)).all()


def test_broken_files_are_refused_if_strict(broken_folders, tmp_path):
    with pytest.raises(DataError, match=r"00a\.png.*leave out --strict to skip"):
        prepare_store(
            str(broken_folders),
            tmp_path / "store",
            image_size=8,
            strict=True,
            validation_fraction=0.0,
            test_fraction=0.0,
        )
    assert not (tmp_path / "store").exists()


def test_a_source_of_broken_files_alone_is_refused(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.png").write_text("not an image")
    with pytest.raises(DataError, match=r"no training image .* could be read; the first: .*a\.png"):
        prepare_store(str(tmp_path / "source"), tmp_path / "store", image_size=8)


def test_images_smaller_than_a_record_are_refused_unless_enlarged(tmp_path, save_image):
    save_image(tmp_path / "source" / "a.png", 7, width=20, height=30)
    with pytest.raises(DataError, match=r"a\.png is 20x30, smaller than --image-size 32; "):
        prepare_store(str(tmp_path / "source"), tmp_path / "store", image_size=32)
    store = prepare_store(str(tmp_path / "source"), tmp_path / "store", image_size=32, enlarge=True)
    assert (store.split("train").images == 7).all()
    assert store.split("train").images.shape == (1, 32, 32, 3)


# Whole or not there


def test_a_folder_in_use_is_not_overwritten(class_folders, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="already there and not empty"):
        prepare_store(str(class_folders), tmp_path / "store", image_size=8)
    assert (tmp_path / "store" / "thesis.txt").read_text() == "precious"


def test_an_empty_folder_may_be_given(class_folders, tmp_path):
    (tmp_path / "store").mkdir()
    prepare_store(str(class_folders), tmp_path / "store", image_size=8)
    RecordStore.open(tmp_path / "store")


@pytest.mark.parametrize(
    ("failure", "raised", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DataError, "No space left on device"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
    ],
)
def test_failing_midway_leaves_nothing(
    class_folders, tmp_path, monkeypatch, failure, raised, message
):
    calls = []
    square = igpt.data.records.square

    def failing_square(*arguments):
        calls.append(arguments)
        if len(calls) == 10:
            raise failure
        return square(*arguments)

    monkeypatch.setattr(igpt.data.records, "square", failing_square)
    with pytest.raises(raised, match=message):
        prepare_store(str(class_folders), tmp_path / "store", image_size=8)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_is_one_line(class_folders, tmp_path, monkeypatch):
    path_open = Path.open

    def open_on_a_full_disk(path, mode="r", *arguments, **options):
        full = path.name == "images.npy" and mode == "wb"
        return path_open(Path("/dev/full") if full else path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_on_a_full_disk)
    with pytest.raises(DataError, match=r"could not write .*store: No space left on device; free"):
        prepare_store(str(class_folders), tmp_path / "store", image_size=8)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


PREPARE_SLOWLY = """
import sys, time
from pathlib import Path
import igpt.data.records as records
square = records.square
def slow_square(*arguments):
    time.sleep(0.5)
    return square(*arguments)
records.square = slow_square
records.prepare_store(sys.argv[1], Path(sys.argv[2]), image_size=8)
"""


def test_a_killed_preparation_leaves_no_store_and_can_be_run_again(class_folders, tmp_path):
    out = tmp_path / "store"
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE_SLOWLY, str(class_folders), str(out)],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*/train/images.npy")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".*"))  # it left its half-written folder
    with pytest.raises(DataError, match="store does not exist"):
        RecordStore.open(out)

    prepare_store(str(class_folders), out, image_size=8)
    assert sum(RecordStore.open(out).counts.values()) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "store"]


# Stores that are not whole


@pytest.fixture
def store_folder(class_folders, tmp_path):
    return prepare_store(str(class_folders), tmp_path / "store", image_size=8).path


@pytest.mark.parametrize("kept", [0, 40, 128, 2000])
@pytest.mark.parametrize("name", ["images.npy", "labels.npy"])
def test_a_truncated_file_is_refused(store_folder, name, kept):
    path = store_folder / "train" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: min(kept, len(whole) - 1)])
    with pytest.raises(DataError, match=rf"train/{name} is missing or damaged"):
        RecordStore.open(store_folder)


def test_a_missing_file_is_refused(store_folder):
    (store_folder / "test" / "images.npy").unlink()
    with pytest.raises(DataError, match=r"test/images\.npy is missing or damaged"):
        RecordStore.open(store_folder)


def test_a_file_that_contradicts_the_description_is_refused(store_folder):
    np.save(store_folder / "train" / "images.npy", np.zeros((3, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"should hold uint8 \(16, 8, 8, 3\) but holds uint8 \(3,"):
        RecordStore.open(store_folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 1}', "\udcff"])
def test_a_damaged_description_is_refused(store_folder, text):
    (store_folder / "store.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"store\.json is damaged"):
        RecordStore.open(store_folder)


def test_a_store_of_a_later_format_is_refused(store_folder):
    description = json.loads((store_folder / "store.json").read_text())
    (store_folder / "store.json").write_text(json.dumps(description | {"format": 99}))
    with pytest.raises(DataError, match="format 99, and this igpt reads format 1"):
        RecordStore.open(store_folder)


def test_a_folder_that_is_no_store_is_refused(class_folders):
    with pytest.raises(DataError, match=r"holds no store\.json; make a record store there"):
        RecordStore.open(class_folders)
