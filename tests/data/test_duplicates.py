import numpy as np
import pytest

from igpt.data.config import StoreConfig
from igpt.data.duplicates import same_files
from igpt.data.engines import Threads
from igpt.data.prepare import prepare_store
from igpt.data.sources import SourceImage, SourceSplit
from igpt.data.store import RecordStore


def split_of(files) -> SourceSplit:
    return SourceSplit(images=len(files), image=lambda i: SourceImage(f"{i}", files[i]))


def test_copies_of_a_file_are_known_wherever_they_lie(tmp_path):
    generator = np.random.default_rng(0)
    first, second = (generator.bytes(100_000) for _ in range(2))
    other_end = first[:-1] + bytes([first[-1] ^ 1])  # the same length and middle
    (tmp_path / "copy").write_bytes(first)
    files = [first, second, tmp_path / "copy", other_end, tmp_path / "gone", second, b"", b""]
    alike = same_files(split_of(files), np.arange(8), Threads())
    assert alike.tolist() == [0, 1, 0, 3, 4, 1, 6, 6]


def test_files_are_numbered_among_those_asked_for():
    files = split_of([b"a", b"b", b"b", b"a"])
    assert same_files(files, np.array([1, 2, 3]), Threads()).tolist() == [0, 0, 2]


@pytest.fixture
def copies(tmp_path, save_image):
    """Three splits of images that are copies of others in every way there is."""
    shades = {
        "train": {"ant/a": 1, "ant/b": 2, "bee/a": 1, "bee/c": 3, "bee/d": 4, "bee/e": 5},
        "val": {"ant/a": 6, "ant/copy": 4, "bee/copy": 7},
        "test": {"ant/a": 7, "ant/copy": 7, "bee/b": 3, "bee/c": 8},
    }
    for split, images in shades.items():
        for name, shade in images.items():
            save_image(tmp_path / "source" / split / f"{name}.png", shade)
    return tmp_path / "source"


def shades(store: RecordStore, name: str) -> list[int]:
    return store.split(name).images[:, 0, 0, 0].tolist()


def test_of_the_same_images_one_stays_in_the_split_that_is_measured_on(copies, tmp_path):
    config = StoreConfig(image_size=8, drop_duplicates=True)
    store = prepare_store(str(copies), tmp_path / "store", config)
    assert shades(store, "test") == [7, 3, 8]
    assert shades(store, "validation") == [6, 4]
    assert shades(store, "train") == [1, 2, 5]
    assert store.split("train").names == ["train/ant/a.png", "train/ant/b.png", "train/bee/e.png"]
    account = store.account
    assert (account.read, account.duplicates, account.left_out) == (8, 5, 0)
    assert "read 8 images, skipped 0, dropped 5 duplicates" in store.summary()
    assert (
        "copies of other images were dropped: 1 in test, 1 from train that are in test, 1 in train,"
        " 1 from train that are in validation, 1 from validation that are in test"
    ) in account.notes
    assert RecordStore.open(store.path) == store


def test_copies_stay_unless_they_are_to_be_dropped(copies, tmp_path):
    store = prepare_store(str(copies), tmp_path / "store", StoreConfig(image_size=8))
    assert [len(shades(store, name)) for name in ("train", "validation", "test")] == [6, 3, 4]


def test_nothing_held_out_is_a_copy_of_what_is_learned_from(tmp_path, save_image):
    for number in range(60):
        save_image(tmp_path / "source" / f"{number:02}.png", number % 20)
    (tmp_path / "source" / "00-broken.png").write_bytes(b"x")
    (tmp_path / "source" / "01-broken.png").write_bytes(b"y")
    config = StoreConfig(image_size=8, drop_duplicates=True, validation_fraction=0.25)
    store = prepare_store(str(tmp_path / "source"), tmp_path / "store", config)
    found = [shade for name in store.splits for shade in shades(store, name)]
    assert sorted(found) == list(range(20))
    assert store.account.images_skipped == 2


def test_pixels_are_compared_where_there_are_no_files(tmp_path):
    config = StoreConfig(image_size=8, placements=1, drop_duplicates=True)
    store = prepare_store("digits", tmp_path / "store", config)
    images = [image.tobytes() for name in store.splits for image in store.split(name).images]
    assert len(images) == len(set(images)) == 1797 - store.account.duplicates
