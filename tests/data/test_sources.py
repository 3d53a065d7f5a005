import pytest

from igpt.data.sources import open_source
from igpt.errors import DataError


def test_a_label_that_only_one_split_has_is_named(tmp_path, save_image):
    for place in ("train/cat", "train/dog", "test/cat"):
        save_image(tmp_path / place / "a.png")
    with pytest.raises(DataError, match="train has the label 'dog' and test has not"):
        open_source(str(tmp_path))


def test_two_folders_for_one_split_are_refused(tmp_path, save_image):
    for place in ("train", "val", "valid"):
        save_image(tmp_path / place / "a.png")
    with pytest.raises(DataError, match="val and valid both mean validation"):
        open_source(str(tmp_path))


def test_a_source_without_a_training_split_is_refused(tmp_path, save_image):
    save_image(tmp_path / "test" / "a.png")
    with pytest.raises(DataError, match=r"no training split \(only test\)"):
        open_source(str(tmp_path))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*gone; give a folder"):
        open_source(str(tmp_path / "gone"))


def test_a_file_that_is_no_data_set_is_refused(tmp_path, save_image):
    with pytest.raises(DataError, match=r"is not a folder of images or a \.parquet file"):
        open_source(str(save_image(tmp_path / "a.png")))
