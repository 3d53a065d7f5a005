import pickle
import shutil
import unicodedata

import pytest

from igpt.data.config import SourceConfig
from igpt.data.sources import open_source, split_meaning
from igpt.errors import ConfigError, DataError


def test_a_held_out_split_may_lack_a_class(tmp_path, save_image):
    for place in ("train/ant", "train/bee", "test/bee"):
        save_image(tmp_path / place / "a.png")
    test = open_source(str(tmp_path)).splits["test"]
    assert (test.class_names, test.labels.tolist()) == (("ant", "bee"), [1])


def test_a_class_that_train_lacks_is_named(tmp_path, save_image):
    for place in ("train/cat", "test/cat", "test/dog"):
        save_image(tmp_path / place / "a.png")
    with pytest.raises(
        DataError, match=r"test has the class 'dog' and train has not;.*--no-labels"
    ):
        open_source(str(tmp_path))


def test_classes_are_compared_in_one_way_of_writing_accents(tmp_path, save_image):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        save_image(tmp_path / split / unicodedata.normalize(form, "caf\u00e9") / "a.png")
        save_image(tmp_path / split / "b" / "a.png")
    splits = open_source(str(tmp_path)).splits
    assert splits["train"].class_names == splits["test"].class_names == ("b", "caf\u00e9")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_images_can_be_sent_to_another_process(tmp_path, save_image, kind):
    for shade in range(4):
        save_image(tmp_path / "source" / "ant" / f"{shade}.png", shade)
    location = tmp_path / "source"
    if kind != "folder":
        location = shutil.make_archive(str(tmp_path / "archive"), kind, location)
    split = open_source(str(location)).splits["train"]
    sent = pickle.loads(pickle.dumps(split.sendable([3, 1])))
    assert [int(sent(number).read()[0, 0, 0, 0]) for number in (1, 3)] == [1, 3]
    assert sent(3).name == split.image(3).name


def test_two_folders_for_one_split_are_refused(tmp_path, save_image):
    for place in ("train", "val", "valid"):
        save_image(tmp_path / place / "a.png")
    with pytest.raises(DataError, match="val and valid both mean validation"):
        open_source(str(tmp_path))


def test_a_source_without_a_training_split_is_refused(tmp_path, save_image):
    save_image(tmp_path / "test" / "a.png")
    with pytest.raises(DataError, match=r"no training split \(only test\).*--split train=test"):
        open_source(str(tmp_path))


def test_a_split_may_be_chosen_by_name_and_is_then_no_other(tmp_path, save_image):
    for shade, split in enumerate(["train", "val", "test"]):
        save_image(tmp_path / split / "a.png", shade)
    splits = open_source(str(tmp_path), SourceConfig(split=("test=validation",))).splits
    shades = {name: split.image(0).read()[0, 0, 0, 0] for name, split in splits.items()}
    assert shades == {"train": 0, "test": 1}


def test_a_validation_split_is_for_testing_if_the_test_split_has_no_labels(tmp_path, save_image):
    for place in ("train/ant", "train/bee", "val/ant", "val/bee", "test"):
        save_image(tmp_path / place / "a.png")
    source = open_source(str(tmp_path))
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 2, "test": 2}
    assert source.ignored == {"images of a test split without labels": 1}
    assert source.notes == (
        "val of the source is the test split, as results are reported of its labels; --split "
        "validation=val keeps it for validation",
    )
    kept = open_source(str(tmp_path), SourceConfig(split=("validation=val",)))
    assert {name: len(split) for name, split in kept.splits.items()} == {
        "train": 2, "validation": 2, "test": 1
    }  # fmt: skip


def test_splits_without_labels_are_what_they_are_called(tmp_path, save_image):
    for place in ("train", "val", "test"):
        save_image(tmp_path / place / "a.png")
    assert set(open_source(str(tmp_path)).splits) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("splits", "error", "message"),
    [
        (("train=none",), ConfigError, "nothing to learn from, got train=none; name the split"),
        (("tset=val",), ConfigError, "no split 'tset'; did you mean 'test'"),
        (("test=val", "train=val"), ConfigError, "one split cannot be two"),
        (("test=vel",), DataError, "no split 'vel'; did you mean 'val'"),
    ],
)
def test_a_split_that_cannot_be_chosen_is_refused(tmp_path, save_image, splits, error, message):
    for split in ("train", "val"):
        save_image(tmp_path / split / "a.png")
    with pytest.raises(error, match=message):
        open_source(str(tmp_path), SourceConfig(split=splits))


def test_splits_of_digits_are_chosen_like_others():
    splits = open_source("digits", SourceConfig(split=("train=test", "test=train"))).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 360, "test": 1437}


@pytest.mark.parametrize("option", ["image_column", "label_column", "config"])
def test_options_of_tables_are_refused_where_there_are_none(option):
    shown = option.replace("_", "-")
    with pytest.raises(ConfigError, match=f"--{shown} is for tables, and digits is none; leave it"):
        open_source("digits", SourceConfig(**{option: "x"}))


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("Train", ("train", "*")), ("dev", ("validation", "*")), ("seg_test", ("test", "seg_*")),
        ("train2017", ("train", "*2017")), ("images-val", ("validation", "images-*")),
        ("trained", None), ("contest", None), ("boat", None),
    ],
)  # fmt: skip
def test_split_names_are_words_not_parts_of_words(name, meaning):
    assert split_meaning(name) == meaning


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*gone; give a folder"):
        open_source(str(tmp_path / "gone"))


def test_a_file_that_is_no_data_set_is_refused(tmp_path, save_image):
    with pytest.raises(
        DataError, match=r"is not a folder of images or a \.parquet, \.zip or \.tar"
    ):
        open_source(str(save_image(tmp_path / "a.png")))
