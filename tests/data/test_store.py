import json

import numpy as np
import pytest

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.store import RecordStore
from igpt.errors import ConfigError, DataError


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


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 3}', "\udcff"])
def test_a_damaged_description_is_refused(store, text):
    (store.path / "store.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=r"store\.json is damaged"):
        RecordStore.open(store.path)


@pytest.mark.parametrize("version", [2, 99])
def test_a_store_of_another_format_is_refused(store, version):
    description = json.loads((store.path / "store.json").read_text())
    (store.path / "store.json").write_text(json.dumps(description | {"format": version}))
    with pytest.raises(
        DataError, match=rf"format {version}, and this igpt reads format 3; prepare it again"
    ):
        RecordStore.open(store.path)


def test_a_folder_that_is_no_store_is_refused(class_folders):
    with pytest.raises(DataError, match=r"holds no store\.json; make a record store there"):
        RecordStore.open(class_folders)
