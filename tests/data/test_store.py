import dataclasses
import hashlib
import json
import shutil
import zlib

import numpy as np
import pytest

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.store import RecordStore
from igpt.errors import ConfigError, DataError
from igpt.files import write_json
from igpt.seals import sealed


@pytest.fixture
def store(class_folders, tmp_path) -> RecordStore:
    """Twenty records of 8x8 pixels: 16 for training, and two in each of the other splits."""
    return prepare_store(str(class_folders), tmp_path / "store", StoreConfig(image_size=8))


def shades(records) -> list[int]:
    return records.images[:, 0, 0, 0].tolist()


def test_validation_folds_back_into_train(store):
    both = store.split("train+validation")
    assert shades(both) == shades(store.split("train")) + shades(store.split("validation"))
    assert (both.require_labels() == (np.array(shades(both)) >= 10)).all()


def test_a_split_nobody_heard_of_is_refused(store):
    with pytest.raises(DataError, match="no split 'valiation'; did you mean 'validation'"):
        store.split("valiation")


def test_records_are_read_from_the_disk_when_asked_for(store):
    assert isinstance(store.split("train").images, np.memmap)


def test_every_record_keeps_the_name_of_its_file(store):
    for name in ("train", "test", "train+validation"):
        split = store.split(name)
        assert split.names == [
            f"{'cat' if shade < 10 else 'dog'}/{shade:02}.png" for shade in shades(split)
        ]
        some = split.chosen(np.array([1, 0]))
        assert some.names == split.names[1::-1]


def test_a_sample_stands_for_all_classes_and_begins_a_larger_one(store):
    train = store.split("train")
    few, more = train.sample(4, seed=1), train.sample(12, seed=1)
    assert set(more.require_labels()) == {0, 1}
    assert shades(few) == shades(more)[:4] == shades(train.sample(4, seed=1))
    assert shades(few) != shades(train.sample(4, seed=2))
    assert few.names == more.names[:4]


@pytest.mark.parametrize("count", [None, 16, 99])
def test_a_sample_of_all_is_all_in_order(store, count):
    assert shades(store.split("train").sample(count)) == shades(store.split("train"))


def test_what_is_looked_at_is_drawn_over_all_classes(store):
    train = store.split("train")
    for seed in range(5):
        shown = train.varied(6, seed)
        assert len(set(shown.tolist())) == 6
        labels = train.labels[shown]
        for first in (0, 2, 4):  # of two classes
            assert sorted(labels[first : first + 2].tolist()) == [0, 1]
    assert train.varied(6, 1).tolist() == train.varied(99, 1).tolist()[:6]
    assert train.varied(6, 1).tolist() != train.varied(6, 2).tolist()
    assert sorted(train.varied(99).tolist()) == list(range(16))


def test_without_labels_any_records_are_looked_at(store):
    unlabelled = dataclasses.replace(store.split("train"), labels=None)
    assert len(set(unlabelled.varied(6).tolist())) == 6


# Settings


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"split": ("test",)}, "a split is given as test=validation, got 'test'"),
        ({"validation_fraction": -0.1}, r"must lie in \[0, 1\), got -0.1"),
        ({"test_fraction": 1.0}, r"must lie in \[0, 1\), got 1.0"),
        ({"test_fraction": float("nan")}, r"must lie in \[0, 1\)"),
        ({"crops": -1}, "crops must be at least 1, or 0 for centered squares, got -1"),
        ({"fast_jpeg": True}, "--fast-jpeg is for crops alone; set --crops"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        StoreConfig(**{"image_size": 8} | setting)


def test_a_filter_that_pillow_lacks_is_refused():
    config = StoreConfig(image_size=8)
    object.__setattr__(config, "filter", "boxy")  # the types are checked in tests, not at large
    with pytest.raises(ConfigError, match="there is no filter 'boxy'; did you mean 'box'"):
        config.__post_init__()


# Stores that are not whole


@pytest.mark.parametrize("kept", [0, 40, 128, 2000])
@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "names.npy"])
def test_a_truncated_file_is_refused(store, name, kept):
    path = store.path / "train" / name
    whole = path.read_bytes()
    path.write_bytes(whole[: min(kept, len(whole) - 1)])
    with pytest.raises(DataError, match=rf"train/{name} is not a whole .*prepare the store"):
        RecordStore.open(store.path)


def test_a_missing_file_is_refused(store):
    (store.path / "test" / "images.npy").unlink()
    with pytest.raises(DataError, match=r"could not read .*test/images\.npy: No such file"):
        RecordStore.open(store.path)


def test_a_file_that_contradicts_the_description_is_refused(store):
    np.save(store.path / "train" / "images.npy", np.zeros((3, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=r"should hold uint8 \(16, 8, 8, 3\) but holds uint8 \(3,"):
        RecordStore.open(store.path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 4}', "\udcff"])
def test_a_damaged_description_is_refused(store, text):
    (store.path / "store.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"store\.json is damaged"):
        RecordStore.open(store.path)


def change(store, **values):
    """Change what `store.json` says, and its checksum with it."""
    description = json.loads((store.path / "store.json").read_text())
    del description["checksum"]
    write_json(store.path / "store.json", sealed(description | values))


@pytest.mark.parametrize("version", [2, 99])
def test_a_store_of_another_format_is_refused(store, version):
    change(store, format=version)
    with pytest.raises(
        DataError, match=rf"format {version}, and this igpt reads format 5; prepare it again"
    ):
        RecordStore.open(store.path)


def test_a_folder_that_is_no_store_is_refused(class_folders):
    with pytest.raises(DataError, match=r"holds no store\.json; make a record store there"):
        RecordStore.open(class_folders)


# Damage


def flip(path, place):
    """Turn one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def read_all(path):
    store = RecordStore.open(path)
    for name in store.splits:
        store.split(name)


def test_the_description_has_the_checksum_of_every_file(store):
    for name, split in store.splits.items():
        files = sorted((store.path / name).iterdir())
        assert split.sha256 == {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files
        }
        assert len(files) == 3


@pytest.mark.parametrize(
    "name", ["store.json", "train/images.npy", "train/labels.npy", "test/names.npy"]
)
def test_a_flipped_bit_is_found_wherever_it_is(store, name):
    path = store.path / name
    whole = path.read_bytes()
    for place in [*range(0, len(whole), max(1, len(whole) // 50)), len(whole) - 2]:
        flip(path, place)
        with pytest.raises(DataError) as told:
            read_all(store.path)
        assert "\n" not in str(told.value)
        path.write_bytes(whole)
    read_all(store.path)


def test_pixels_are_read_in_full_when_their_split_is_asked_for_and_no_sooner(store):
    flip(store.path / "train" / "images.npy", -1)
    opened = RecordStore.open(store.path)
    opened.split("validation")
    for name in ("train", "train+validation"):
        with pytest.raises(DataError, match=r"train/images\.npy was changed since the store was"):
            opened.split(name)


def test_labels_without_a_class_are_refused(store):
    labels = np.load(store.path / "test" / "labels.npy")
    for wrong in (-1, 2):
        labels[0] = wrong
        np.save(store.path / "test" / "labels.npy", labels)
        with pytest.raises(DataError, match=r"labels from -?\d to \d, and the store has 2 classes"):
            RecordStore.open(store.path)


def test_identity_is_that_of_the_contents(store, class_folders, tmp_path):
    again = shutil.copytree(class_folders, tmp_path / "moved")
    config = StoreConfig(image_size=8)
    assert prepare_store(str(again), tmp_path / "again", config).identity == store.identity
    change(store, source="elsewhere")
    assert RecordStore.open(store.path).identity == store.identity
    change(store, class_names=["dog", "cat"])
    assert RecordStore.open(store.path).identity != store.identity
    (again / "cat" / "01.png").unlink()
    other = prepare_store(str(again), tmp_path / "other", config)
    assert other.identity != store.identity


# The format before


def to_format_3(store):
    """Write a store's description as an igpt did that kept a CRC of the pixels alone."""
    description = json.loads((store.path / "store.json").read_text()) | {"format": 3}
    del description["checksum"]
    for name, split in description["splits"].items():
        pixels = np.load(store.path / name / "images.npy")
        split |= {"checksum": zlib.crc32(pixels.tobytes())}
        del split["sha256"], split["crc32c"]
    write_json(store.path / "store.json", description)


def test_a_store_of_the_format_before_is_read_and_its_pixels_are_checked(store):
    to_format_3(store)
    opened = RecordStore.open(store.path)
    assert shades(opened.split("train")) == shades(store.split("train"))
    text = (store.path / "store.json").read_bytes()
    assert opened.identity == hashlib.sha256(text).hexdigest()[:16]  # as runs have noted it
    flip(store.path / "train" / "images.npy", -1)
    with pytest.raises(DataError, match=r"images\.npy was changed since the store was prepared"):
        RecordStore.open(store.path).split("train")
