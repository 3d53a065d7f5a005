import numpy as np
import pytest

from igpt.data.batches import evaluation_batches
from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.sources import open_source
from igpt.data.store import RecordStore
from igpt.errors import ConfigError, DataError
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture
def token_folder(tmp_path):
    """The authors' files in small: tokens, one-hot classes, a palette of close colors."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "tokens"
    folder.mkdir()
    for part, count in (("tr", 20), ("va", 6), ("te", 9)):
        np.save(folder / f"small_{part}X.npy", generator.integers(0, 32, (count, 16)))
        np.save(folder / f"small_{part}Y.npy", np.eye(3)[generator.integers(0, 3, count)])
    colors = generator.uniform(-1, 1, (32, 3)).astype(np.float32)
    colors[1] = colors[0] + np.float32(0.02)  # near, and yet apart
    np.save(folder / "palette.npy", np.clip(colors, -1, 1))
    return folder


def prepare_tokens(folder, out, location="small", **options):
    return prepare_store(
        str(folder / location),
        out,
        StoreConfig(image_size=4, **options),
        palette=folder / "palette.npy",
    )


def test_token_arrays_keep_every_token_and_class(token_folder, tmp_path):
    store = prepare_tokens(token_folder, tmp_path / "store")
    palette = Palette.load(token_folder / "palette.npy")
    assert set(store.splits) == {"train", "validation", "test"}
    for part, split in (("tr", "train"), ("va", "validation"), ("te", "test")):
        records = store.split(split)
        tokens = ImageTokenizer(palette, 4).encode(records.images)
        assert np.array_equal(tokens, np.load(token_folder / f"small_{part}X.npy"))
        wanted = np.load(token_folder / f"small_{part}Y.npy").argmax(axis=1)
        assert np.array_equal(records.labels, wanted)
    assert store.class_names == ("0", "1", "2")


def test_one_token_file_alone_is_a_store_too(token_folder, tmp_path):
    (token_folder / "small_teY.npy").unlink()
    store = prepare_tokens(token_folder, tmp_path / "store", "small_teX.npy")
    assert list(store.splits) == ["test"]
    assert len(store.split("test")) == 9
    assert store.split("test").labels is None
    again = RecordStore.open(tmp_path / "store")
    with pytest.raises(DataError, match="has no train split, only test"):
        again.split("train")


def test_splits_of_token_arrays_are_chosen_and_options_of_tables_refused(token_folder, tmp_path):
    chosen = {"split": ("test=validation",), "validation_fraction": 0.0}
    store = prepare_tokens(token_folder, tmp_path / "store", **chosen)
    assert {name: split.records for name, split in store.splits.items()} == {"train": 20, "test": 6}
    with pytest.raises(ConfigError, match="--label-column is for tables"):
        prepare_tokens(token_folder, tmp_path / "other", label_column="y")


def test_class_numbers_may_stand_in_a_column(token_folder, tmp_path):
    numbers = np.arange(9) % 3
    np.save(token_folder / "small_teY.npy", numbers[:, None])
    store = prepare_tokens(token_folder, tmp_path / "store", "small_teX.npy")
    assert np.array_equal(store.split("test").labels, numbers)


def test_a_class_number_far_above_all_others_is_refused(token_folder, tmp_path):
    labels = np.arange(9, dtype=np.uint32)
    labels[4] = 2**32 - 1
    np.save(token_folder / "small_teY.npy", labels)
    with pytest.raises(DataError, match="class number 4,294,967,295, and there may be 100,000"):
        prepare_tokens(token_folder, tmp_path / "store", "small_teX.npy")


def test_tokens_are_not_read_under_another_palette(token_folder, tmp_path):
    store = prepare_tokens(token_folder, tmp_path / "store")
    palette = Palette.load(token_folder / "palette.npy")
    batches = evaluation_batches(store.split("test"), ImageTokenizer(palette, 4), batch_size=9)
    assert np.array_equal(next(batches).tokens, np.load(token_folder / "small_teX.npy"))
    other = ImageTokenizer(Palette(palette.colors[::-1].copy()), 4)
    with pytest.raises(DataError, match=r"the test records of .* are tokens of palette"):
        next(evaluation_batches(store.split("test"), other, batch_size=9))


def test_tokens_and_their_palette_go_together(token_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"holds tokens, which mean nothing.*--palette"):
        open_source(str(token_folder / "small"), image_size=4)
    palette = Palette.load(token_folder / "palette.npy")
    with pytest.raises(ConfigError, match=r"holds no token arrays .*leave out --palette"):
        open_source(str(tmp_path), palette=palette)
    with pytest.raises(DataError, match=r"4x4 pixels, and tokens cannot be resampled.*size 4"):
        open_source(str(token_folder / "small"), image_size=8, palette=palette)
    np.save(token_folder / "palette.npy", palette.colors[:20])
    with pytest.raises(ConfigError, match=r"record \d+: tokens of a 20-color palette lie in"):
        prepare_tokens(token_folder, tmp_path / "store")
    twice = palette.colors.copy()
    twice[7] = twice[3]
    np.save(token_folder / "palette.npy", twice)
    with pytest.raises(DataError, match="colors 7 and 3 of the palette are the same bytes"):
        prepare_tokens(token_folder, tmp_path / "store")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 15), int), r"a row of tokens for each square image, but holds int64 \(3, 15"),
        (np.zeros((3, 16)), "whole numbers, a row of tokens for each square"),
        (np.zeros((0, 16), int), "a row of tokens for each square image"),
    ],
)
def test_arrays_that_are_no_tokens_are_told(token_folder, tmp_path, array, message):
    np.save(token_folder / "small_teX.npy", array)
    with pytest.raises(DataError, match=message):
        prepare_tokens(token_folder, tmp_path / "store")


def test_token_files_that_are_broken_or_do_not_fit_are_told(token_folder, tmp_path):
    for labels in (np.zeros((9, 3)), np.arange(9) - 1, np.ones(9), np.array(3), np.array(["a"] * 9),
                   np.zeros((9, 3, 2))):  # fmt: skip
        np.save(token_folder / "small_teY.npy", labels)
        with pytest.raises(DataError, match=r"class numbers from 0, or one row a record with a"):
            prepare_tokens(token_folder, tmp_path / "store")
    np.save(token_folder / "small_teY.npy", np.eye(3))
    with pytest.raises(DataError, match=r"small_teY\.npy has 3 labels for the 9 images"):
        prepare_tokens(token_folder, tmp_path / "store")
    (token_folder / "small_teX.npy").write_bytes(b"\x93NUMPY half")
    with pytest.raises(DataError, match=r"small_teX\.npy is not a whole \.npy file of numbers"):
        prepare_tokens(token_folder, tmp_path / "store")


@pytest.mark.parametrize("location", ["small", "small_teX.npy"])
def test_tokens_cannot_be_cropped(token_folder, tmp_path, location):
    with pytest.raises(
        ConfigError, match=r"crops are cut from image files, and .*small.* has none"
    ):
        prepare_tokens(token_folder, tmp_path / "store", location, crops=2)
