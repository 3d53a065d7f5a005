import errno
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

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.reading import file_records
from igpt.data.sources import SourceImage
from igpt.data.store import RecordStore
from igpt.errors import ConfigError, DataError
from igpt.pixels.images import OpenedImage, write_png


def prepare(source, out, *, image_size=8, **settings) -> RecordStore:
    return prepare_store(str(source), out, StoreConfig(image_size=image_size, **settings))


def counts(store) -> dict[str, int]:
    return {name: split.records for name, split in store.splits.items()}


def shades(records) -> list[int]:
    """The shade of every record, which tells which image it was made from."""
    return records.images[:, 0, 0, 0].tolist()


def crops_of(path: Path, config: StoreConfig, number: int = 0) -> np.ndarray:
    return file_records(SourceImage(path.name, path), number, config, cropped=True)[0]


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
    store = prepare(class_folders, tmp_path / "store")
    assert counts(store) == {"train": 16, "validation": 2, "test": 2}
    splits = [store.split(name) for name in store.splits]
    assert sorted(shade for split in splits for shade in shades(split)) == list(range(20))
    for split in splits:
        assert shades(split) == sorted(shades(split))  # the order of the source
        assert (split.require_labels() == (np.array(shades(split)) >= 10)).all()
        assert split.class_names == ("cat", "dog")


def test_classes_are_called_what_they_are_renamed_to(class_folders, tmp_path):
    plain, renamed = prepare(class_folders, tmp_path / "plain"), ("cat", "puppy")
    store = prepare(class_folders, tmp_path / "renamed", rename=("dog=puppy",))
    assert store.class_names == renamed
    assert list(store.account.classes) == list(renamed)
    assert store.split("train").labels.tolist() == plain.split("train").labels.tolist()
    with pytest.raises(ConfigError, match="renamed as old=new, got 'dog'"):
        prepare(class_folders, tmp_path / "other", rename=("dog",))
    with pytest.raises(ConfigError, match="no class is called 'cow'"):
        prepare(class_folders, tmp_path / "other", rename=("cow=calf",))


def test_a_store_opened_is_the_store_that_was_prepared(broken_folders, tmp_path):
    store = prepare(
        broken_folders, tmp_path / "store", image_size=4, filter="bicubic", test_fraction=0.2
    )
    assert RecordStore.open(tmp_path / "store") == store
    assert store.config == StoreConfig(
        image_size=4, filter="bicubic", validation_fraction=0.1, test_fraction=0.2
    )
    assert store.split("train").images.shape == (counts(store)["train"], 4, 4, 3)


def test_preparing_again_with_the_same_seed_gives_the_same_store(class_folders, tmp_path):
    def held_out(name: str, seed: int) -> list[int]:
        store = prepare(class_folders, tmp_path / name, seed=seed)
        return shades(store.split("validation"))

    assert held_out("a", 0) == held_out("b", 0) != held_out("c", 1)


def test_splits_of_the_source_are_kept_and_not_held_out_again(tmp_path, save_image):
    for shade, split in enumerate(["train", "validation", "test"]):
        for number in range(3):
            save_image(tmp_path / "source" / split / f"{number}.png", shade)
    store = prepare(tmp_path / "source", tmp_path / "store")
    assert [shades(store.split(name)) for name in store.splits] == [[0] * 3, [1] * 3, [2] * 3]


@pytest.fixture
def split_folders(tmp_path, save_image):
    """Twenty images to learn from and, of other shades, five in `val/`."""
    for split, shades_of_it in (("train", range(20)), ("val", range(100, 105))):
        for shade in shades_of_it:
            save_image(tmp_path / "source" / split / f"{shade}.png", shade)
    return tmp_path / "source"


def test_the_account_says_which_split_is_which_and_what_is_held_out(split_folders, tmp_path):
    store = prepare(split_folders, tmp_path / "store")
    assert store.account.notes == (
        "val of the source is the validation split",
        "there is no test split; if results are reported of val, as ImageNet's are, --split "
        "test=val makes it that",
        "held out from train for test: 2 images",
    )
    assert (store.config.validation_fraction, store.config.test_fraction) == (0.0, 0.1)


def test_what_is_held_out_is_told_as_it_came_out(tmp_path, save_image):
    for number in range(6):
        save_image(tmp_path / "source" / f"{number % 3}" / f"{number}.png", number)
    fractions = {"test_fraction": 0.2, "validation_fraction": 0.0}
    store = prepare(tmp_path / "source", tmp_path / "store", **fractions)
    assert store.account.notes == ("held out from train for test: 1 image, of 1 of the 3 classes",)
    (name,) = store.split("test").names
    (tmp_path / "source" / name).write_text("not an image")
    store = prepare(tmp_path / "source", tmp_path / "broken", **fractions)
    assert list(store.splits) == ["train"]
    assert store.account.notes == (
        "held out from train for test: none, since 1 image could not be read",
    )


def test_the_paper_s_splits_of_imagenet_come_of_one_choice(split_folders, tmp_path):
    store = prepare(split_folders, tmp_path / "store", split=("test=val",), validation_fraction=0.2)
    assert counts(store) == {"train": 16, "validation": 4, "test": 5}
    assert shades(store.split("test")) == list(range(100, 105))
    assert store.account.notes == (
        "val of the source is the test split",
        "held out from train for validation: 4 images",
    )


def test_a_split_of_the_source_that_is_set_aside_is_held_out_instead(split_folders, tmp_path):
    options = {"split": ("validation=none",), "validation_fraction": 0.1, "test_fraction": 0.0}
    store = prepare(split_folders, tmp_path / "store", **options)
    assert counts(store) == {"train": 18, "validation": 2}
    assert max(shades(store.split("validation"))) < 100
    assert store.account.ignored == {"images outside of the splits": 5}


def test_a_fraction_that_has_no_use_is_refused(split_folders, tmp_path):
    message = (
        r"--validation-fraction 0\.04 has no use, since val of the source is the validation split; "
        "leave it out, .* --split validation=none, or make it the test split with --split test=val"
    )
    with pytest.raises(ConfigError, match=message):
        prepare(split_folders, tmp_path / "store", validation_fraction=0.04)
    with pytest.raises(ConfigError, match=r"test of the source is the test split; .* test=none$"):
        prepare("digits", tmp_path / "store", image_size=12, test_fraction=0.2)
    told = {"test_fraction": 0.2, "split": ("test=none",), "placements": 1}
    digits = prepare("digits", tmp_path / "digits", image_size=12, **told)
    assert counts(digits)["test"] == 287  # a fifth of the 1,437 that are there to learn from
    assert digits.account.ignored == {"images outside of the splits": 360}
    assert not (tmp_path / "store").exists()
    assert (
        "validation" in prepare(split_folders, tmp_path / "store", validation_fraction=0.0).splits
    )


def test_labels_are_left_out_if_that_is_wished(class_folders, tmp_path):
    store = prepare(class_folders, tmp_path / "store", no_labels=True)
    assert store.class_names is None
    assert store.account.classes == {}
    assert all(store.split(name).labels is None for name in store.splits)


def test_a_file_that_lies_there_twice_is_in_one_split(tmp_path, save_image):
    for number in range(40):
        save_image(tmp_path / "source" / f"{number}.png", number // 2)
    store = prepare(tmp_path / "source", tmp_path / "store", test_fraction=0.3)
    assert sorted(shade for name in store.splits for shade in shades(store.split(name))) == [
        number // 2 for number in range(40)
    ]
    sets = [set(shades(store.split(name))) for name in store.splits]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 20


def test_fractions_of_zero_hold_nothing_out(class_folders, tmp_path):
    store = prepare(class_folders, tmp_path / "store", validation_fraction=0.0, test_fraction=0.0)
    assert list(store.splits) == ["train"]
    with pytest.raises(DataError, match=r"has no test split, only train; .* test fraction above 0"):
        store.split("test")
    with pytest.raises(DataError, match="has no validation split"):
        store.split("train+validation")


def test_images_without_classes_make_records_without_labels(tmp_path, save_image):
    for shade in range(4):
        save_image(tmp_path / "source" / f"{shade}.png", shade)
    train = prepare(tmp_path / "source", tmp_path / "store").split("train")
    assert train.labels is None
    with pytest.raises(DataError, match=r"train records of .*store have no labels"):
        train.require_labels()


def test_no_digit_is_in_two_splits_however_often_it_is_placed(tmp_path):
    store = prepare("digits", tmp_path / "store", placements=2, limit=200)
    assert counts(store) == {"train": 180, "validation": 20, "test": 200}
    seen: set[bytes] = set()
    for name in store.splits:
        digits = {image.tobytes() for image in store.split(name).images}
        assert not digits & seen
        seen |= digits


def test_a_limit_draws_from_all_of_the_source(class_folders, tmp_path):
    store = prepare(class_folders, tmp_path / "store", limit=10, test_fraction=0.0)
    assert counts(store) == {"train": 9, "validation": 1}
    assert set(store.split("train").require_labels()) == {0, 1}


# Crops of the training images


def test_each_training_image_becomes_several_crops_and_no_other_does(broken_folders, tmp_path):
    plain = prepare(broken_folders, tmp_path / "plain", image_size=4)
    store = prepare(broken_folders, tmp_path / "store", image_size=4, crops=3, fast_jpeg=True)
    assert RecordStore.open(tmp_path / "store") == store
    assert store.split("train").cropped
    assert not store.split("test").cropped
    assert "3 crops of each training image" in store.summary()
    assert store.account.images_skipped == plain.account.images_skipped == 3  # once each
    assert counts(store) == counts(plain) | {"train": 3 * counts(plain)["train"]}
    assert store.splits["test"] == plain.splits["test"]
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
        store = prepare(tmp_path / "source", tmp_path / name, crops=2, **options)
        return [image.tobytes() for image in store.split("train").images]

    whole = crops("a", validation_fraction=0.0, test_fraction=0.0)
    assert len(set(whole)) == 12
    assert crops("b", validation_fraction=0.0, test_fraction=0.0) == whole
    assert set(crops("c", test_fraction=0.5)) < set(whole)


def test_crops_smaller_than_a_record_are_refused(class_folders, tmp_path):
    message = r"png is 8x8, and the smallest crop, 224/384 of .* than --image-size 5; "
    with pytest.raises(DataError, match=message):
        prepare(class_folders, tmp_path / "store", image_size=5, crops=1, test_fraction=0.0)
    assert not (tmp_path / "store").exists()


def test_small_images_are_enlarged_for_their_crops_if_that_is_wished(class_folders, tmp_path):
    store = prepare(class_folders, tmp_path / "store", image_size=16, crops=2, enlarge=True)
    assert store.split("train").images.shape == (32, 16, 16, 3)


def test_digits_have_no_files_to_cut_crops_from(tmp_path):
    with pytest.raises(ConfigError, match="cut from image files, and digits has none; leave out"):
        prepare("digits", tmp_path / "store", image_size=12, crops=2)


def test_crops_depend_on_the_seed_the_image_and_their_number_alone(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    write_png(tmp_path / "noise.png", noise)

    def crops(count: int, *, number: int = 0, seed: int = 0) -> np.ndarray:
        config = StoreConfig(image_size=8, crops=count, seed=seed)
        return crops_of(tmp_path / "noise.png", config, number)

    few, many = crops(2), crops(5)
    assert few.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(few, many[:2])
    assert len({crop.tobytes() for crop in many}) == 5
    assert not np.array_equal(few, crops(2, seed=1))
    assert not np.array_equal(few, crops(2, number=1))


def test_crops_reach_both_ends_of_the_longer_side(tmp_path):
    ramp = np.linspace(0, 255, 600).round().astype(np.uint8)
    write_png(tmp_path / "wide.png", np.broadcast_to(ramp[:, None], (60, 600, 3)))
    crops = crops_of(tmp_path / "wide.png", StoreConfig(image_size=8, crops=400))
    assert crops[:, :, 0].min() < 6  # a center square would show 115 to 140
    assert crops[:, :, -1].max() > 249


# Images that cannot be used


def test_broken_files_are_skipped_and_counted(broken_folders, tmp_path):
    store = prepare(broken_folders, tmp_path / "store")
    assert store.account.images_skipped == 3
    assert store.account.read == sum(counts(store).values()) == 20
    examples = sorted(example for kind in store.account.skipped for example in kind.examples)
    for name, message in zip(("cat/00a", "cat/05a", "dog/19a"), examples, strict=True):
        assert message.startswith(name)
    for name in store.splits:
        split = store.split(name)
        assert (split.require_labels() == (np.array(shades(split)) >= 10)).all()


def test_broken_files_are_refused_if_strict(broken_folders, tmp_path):
    with pytest.raises(DataError, match=r"00a\.png.*leave out --strict to skip"):
        prepare(
            broken_folders,
            tmp_path / "store",
            strict=True,
            validation_fraction=0.0,
            test_fraction=0.0,
        )
    assert not (tmp_path / "store").exists()


def test_a_source_of_broken_files_alone_is_refused(tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.png").write_text("not an image")
    with pytest.raises(
        DataError, match=r"no training image .* could be read; one of them: .*a\.png"
    ):
        prepare(tmp_path / "source", tmp_path / "store")


def test_a_source_of_images_smaller_than_a_record_is_refused_unless_enlarged(tmp_path, save_image):
    save_image(tmp_path / "source" / "a.png", 7, width=20, height=30)
    message = r"a\.png is 20x30, and its shorter side is less than --image-size 32; .*--enlarge"
    with pytest.raises(DataError, match=message):
        prepare(tmp_path / "source", tmp_path / "store", image_size=32)
    store = prepare(tmp_path / "source", tmp_path / "store", image_size=32, enlarge=True)
    assert (store.split("train").images == 7).all()
    assert store.split("train").images.shape == (1, 32, 32, 3)


# Whole or not there


def test_a_folder_in_use_is_not_overwritten(class_folders, tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="File exists"):
        prepare(class_folders, tmp_path / "store")
    assert (tmp_path / "store" / "thesis.txt").read_text() == "precious"


def test_an_empty_folder_may_be_given(class_folders, tmp_path):
    (tmp_path / "store").mkdir()
    prepare(class_folders, tmp_path / "store")
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
    square = OpenedImage.square

    def failing_square(*arguments):
        calls.append(arguments)
        if len(calls) == 10:
            raise failure
        return square(*arguments)

    monkeypatch.setattr(OpenedImage, "square", failing_square)
    with pytest.raises(raised, match=message):
        prepare(class_folders, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_is_one_line(class_folders, tmp_path, monkeypatch):
    path_open = Path.open

    def open_on_a_full_disk(path, mode="r", *arguments, **options):
        full = path.name == "images.npy" and mode == "wb"
        return path_open(Path("/dev/full") if full else path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_on_a_full_disk)
    with pytest.raises(DataError, match=r"could not write .*store: No space left on device; free"):
        prepare(class_folders, tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


PREPARE_SLOWLY = """
import sys, time
from pathlib import Path
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.pixels.images import OpenedImage
square = OpenedImage.square
def slow_square(*arguments):
    time.sleep(0.5)
    return square(*arguments)
OpenedImage.square = slow_square
prepare_store(sys.argv[1], Path(sys.argv[2]), StoreConfig(image_size=8))
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

    prepare(class_folders, out)
    assert sum(counts(RecordStore.open(out)).values()) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "store"]
