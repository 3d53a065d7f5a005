import numpy as np

from igpt.data.config import StoreConfig
from igpt.data.contact_sheet import contact_sheet
from igpt.data.prepare import prepare_store


def test_each_class_has_a_row_of_its_own_images(class_folders, tmp_path):
    store = prepare_store(str(class_folders), tmp_path / "store", StoreConfig(image_size=8))
    sheet = contact_sheet(store, columns=4, side=16)
    height = 20 + 2 * (20 + 16)  # the store, and for each class a line and its images
    assert sheet.shape == (height, 4 * 16 + 3 * 2, 3)
    for row, shades in enumerate([range(10), range(10, 20)]):
        top = 20 + row * 36 + 20
        shown = [int(sheet[top, column * 18, 0]) for column in range(4)]
        assert set(shown) <= set(shades)
        assert len(set(shown)) == 4
        assert sheet[top - 20 : top].min() < 128  # there is text above


def test_a_sheet_of_unlabelled_images_has_a_row_for_each_split(tmp_path, save_image):
    for shade in range(20):
        save_image(tmp_path / "source" / f"{shade}.png", shade, width=100, height=100)
    store = prepare_store(str(tmp_path / "source"), tmp_path / "store", StoreConfig(image_size=100))
    assert contact_sheet(store, columns=10).shape == (20 + 3 * 84, 10 * 64 + 9 * 2, 3)


def test_of_many_classes_some_are_shown(tmp_path, save_image):
    for number in range(30):
        save_image(tmp_path / "source" / f"{number:02}" / "a.png", number)
    store = prepare_store(str(tmp_path / "source"), tmp_path / "store", StoreConfig(image_size=8))
    sheet = contact_sheet(store, columns=2, classes=3, side=8)
    assert sheet.shape[0] == 2 * 20 + 3 * 28
    assert [int(sheet[60 + 28 * row, 0, 0]) for row in range(3)] == [0, 14, 29]
    assert np.array_equal(sheet, contact_sheet(store, columns=2, classes=3, side=8))
