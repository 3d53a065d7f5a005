import io

import datasets
import numpy as np
import pytest
from PIL import Image

from igpt.data.batches import evaluation_batches
from igpt.data.records import RecordStore, prepare_store
from igpt.data.sources import SourceSplit, open_source, placed_digits, random_crops
from igpt.errors import ConfigError, DataError
from igpt.pixels.images import write_png
from igpt.pixels.palette import Palette
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def shades(split: SourceSplit) -> list[int]:
    """The shade of every image, which tells which one it is."""
    return [int(split.read(index)[0, 0, 0, 0]) for index in range(len(split))]


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, format="PNG")
    return file.getvalue()


def save_parquet(path, *, image="img", label="label", labels=(0, 1, 0), kind=None):
    """Save three images of shades 0 to 2, in the layout of the hub."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {image: [{"bytes": png(shade), "path": None} for shade in range(3)]}
    features = {image: datasets.Image()}
    if label:
        columns[label] = list(labels)
        features[label] = kind or datasets.ClassLabel(names=["cat", "dog"])
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    table.to_parquet(path)


# Folders of image files


def test_class_folders_are_the_labels_in_the_order_of_their_names(class_folders):
    splits = open_source(str(class_folders))
    assert list(splits) == ["train"]
    train = splits["train"]
    assert train.class_names == ("cat", "dog")
    assert train.labels is not None
    assert train.labels.tolist() == [0] * 10 + [1] * 10
    assert shades(train) == list(range(20))
    assert train.name_of(3).endswith("cat/03.png")


def test_images_beside_each_other_have_no_labels(tmp_path, save_image):
    for shade in range(3):
        save_image(tmp_path / f"{shade}.png", shade)
    train = open_source(str(tmp_path))["train"]
    assert train.labels is None
    assert train.class_names is None
    assert shades(train) == [0, 1, 2]


@pytest.mark.parametrize("validation", ["validation", "val", "valid", "dev"])
def test_folders_named_for_splits_are_splits(tmp_path, save_image, validation):
    for shade, folder in enumerate(["train", validation, "test"]):
        for kind in ("cat", "dog"):
            save_image(tmp_path / folder / kind / "nested" / "a.png", shade)
    save_image(tmp_path / "extra" / "a.png")
    splits = open_source(str(tmp_path))
    assert {name: shades(split) for name, split in splits.items()} == {
        "train": [0, 0], "validation": [1, 1], "test": [2, 2]
    }  # fmt: skip


def test_only_image_files_are_images_whatever_the_case_of_their_ending(tmp_path, save_image):
    save_image(tmp_path / "cat" / "a.PNG")
    save_image(tmp_path / "dog" / "b.JPeG")
    save_image(tmp_path / "dog" / "._b.png")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "README.md").write_text("not an image")
    (tmp_path / "empty").mkdir()
    train = open_source(str(tmp_path))["train"]
    assert [train.name_of(index).rsplit("/", 2)[1:] for index in range(len(train))] == [
        ["cat", "a.PNG"], ["dog", "b.JPeG"]
    ]  # fmt: skip
    assert train.class_names == ("cat", "dog")


def test_a_broken_file_is_refused_only_when_it_is_read(tmp_path, save_image):
    save_image(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_text("not an image")
    train = open_source(str(tmp_path))["train"]
    assert train.read(0).shape == (1, 8, 8, 3)
    with pytest.raises(DataError, match=r"b\.jpg"):
        train.read(1)


def test_images_beside_class_folders_are_refused(class_folders, save_image):
    save_image(class_folders / "stray.png")
    with pytest.raises(DataError, match=r"images of its own \(stray.png\).*\(cat/\)"):
        open_source(str(class_folders))


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


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["train/notes.txt"]])
def test_a_folder_without_images_is_refused(tmp_path, files):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("not an image")
    with pytest.raises(DataError, match=r"holds no images; looked for files that end in \.bmp"):
        open_source(str(tmp_path))


# Parquet and the hub


def test_a_folder_laid_out_like_the_hub_gives_its_splits(tmp_path):
    for split in ("train", "test"):
        save_parquet(tmp_path / "set" / "plain_text" / f"{split}-00000-of-00001.parquet")
    splits = open_source(str(tmp_path / "set"))
    assert list(splits) == ["train", "test"]
    for split in splits.values():
        assert shades(split) == [0, 1, 2]
        assert split.labels is not None
        assert split.labels.tolist() == [0, 1, 0]
        assert split.class_names == ("cat", "dog")
    assert splits["test"].name_of(1).endswith("test record 1")


@pytest.mark.parametrize(
    ("image", "label", "labels", "kind", "class_names"),
    [
        ("image", "fine_label", [1, 0, 1], None, ("cat", "dog")),
        ("picture", "kind", [0, 1, 1], None, ("cat", "dog")),  # known by their types alone
        ("img", "label", ["owl", "ant", "owl"], datasets.Value("string"), ("ant", "owl")),
        ("img", "label", [7, 7, 3], datasets.Value("int64"), ("3", "7")),
        ("img", None, [], None, None),
    ],
)
def test_columns_are_found_by_name_and_type(tmp_path, image, label, labels, kind, class_names):
    save_parquet(tmp_path / "a.parquet", image=image, label=label, labels=labels, kind=kind)
    train = open_source(str(tmp_path / "a.parquet"))["train"]
    assert shades(train) == [0, 1, 2]
    assert train.class_names == class_names
    if class_names is not None:
        names = [class_names[number] for number in train.labels]
        assert names == [class_names[x] if kind is None else str(x) for x in labels]


def test_labels_that_are_withheld_make_a_split_unlabelled(tmp_path):
    save_parquet(tmp_path / "set" / "train.parquet")
    save_parquet(tmp_path / "set" / "test.parquet", labels=[-1, -1, -1])
    splits = open_source(str(tmp_path / "set"))
    assert splits["train"].labels is not None
    assert splits["test"].labels is None


def test_labels_for_some_records_only_are_refused(tmp_path):
    save_parquet(tmp_path / "a.parquet", labels=[0, -1, 1])
    with pytest.raises(DataError, match="labels for 2 of its 3 records"):
        open_source(str(tmp_path / "a.parquet"))


def test_a_table_without_images_is_refused(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column of images; its columns are text"):
        open_source(str(tmp_path / "a.parquet"))


def test_a_damaged_parquet_file_is_one_line(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=r"could not read .*a\.parquet") as caught:
        open_source(str(tmp_path / "a.parquet"))
    assert "\n" not in str(caught.value)


def test_opening_says_nothing(tmp_path, capfd):
    save_parquet(tmp_path / "a.parquet")
    capfd.readouterr()
    open_source(str(tmp_path / "a.parquet"))
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_a_hub_out_of_reach_is_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("Couldn't reach the hub\nTraceback ...")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"uoft-cs/cifar10 .* hub could not be reached") as caught:
        open_source("uoft-cs/cifar10")
    assert "\n" not in str(caught.value)


def test_a_name_the_hub_does_not_know_is_one_line(monkeypatch):
    def unknown(*_, **__):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unknown)
    with pytest.raises(DataError, match=r"could not read a/b .* doesn't exist on the Hub"):
        open_source("a/b")


# Digits


def test_no_digit_is_in_both_splits_and_each_split_has_its_share_of_every_kind():
    splits = placed_digits(8, placements=1, seed=0)
    train, test = splits["train"], splits["test"]
    assert (len(train), len(test)) == (1437, 360)
    digits = [{split.name_of(index) for index in range(len(split))} for split in splits.values()]
    assert len(digits[0]) == 1437
    assert not digits[0] & digits[1]
    assert np.bincount(test.labels).tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]


def test_placements_of_a_digit_show_it_in_different_places():
    train = open_source("digits", image_size=16, placements=3, seed=0)["train"]
    assert (len(train), train.copies) == (1437, 3)
    assert train.read(0).shape == (3, 16, 16, 3)
    first, second, _ = train.read(0)
    assert not np.array_equal(first, second)
    assert sorted(first.ravel()) == sorted(second.ravel())  # moved, and nothing else


def test_digits_are_white_on_black_in_three_equal_channels():
    train = placed_digits(8, placements=1, seed=0)["train"]
    images = np.concatenate([train.read(index) for index in range(100)])
    assert images.max() == 255
    assert np.median(images[:, :, 0]) == 0  # ink seldom touches the left edge
    assert (images == images[..., :1]).all()


def test_digits_depend_on_the_seed_alone():
    def first(seed: int) -> np.ndarray:
        return placed_digits(32, placements=2, seed=seed)["train"].read(0)

    np.testing.assert_array_equal(first(0), first(0))
    assert not np.array_equal(first(0), first(1))


@pytest.mark.parametrize(("image_size", "placements"), [(7, 1), (8, 0)])
def test_digits_that_have_no_place_are_refused(image_size, placements):
    with pytest.raises(ConfigError, match="at least 8 and at least 1 placement"):
        open_source("digits", image_size=image_size, placements=placements)


# Crops


def test_crops_depend_on_the_seed_the_image_and_their_number_alone(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    for number in range(4):  # two images of the same pixels, twice
        write_png(tmp_path / f"{number}.png", noise[number % 2])
    train = open_source(str(tmp_path))["train"]

    def crops(count: int, seed: int = 0) -> list[np.ndarray]:
        split = random_crops(train, count, image_size=8, seed=seed)
        assert (len(split), split.copies) == (4, count)
        return [split.read(image) for image in range(4)]

    few, many, other = crops(2), crops(5), crops(2, seed=1)
    for image in range(4):
        assert few[image].shape == (2, 8, 8, 3)
        np.testing.assert_array_equal(few[image], many[image][:2])
        assert not np.array_equal(few[image], other[image])
        assert len({crop.tobytes() for crop in many[image]}) == 5
    assert not np.array_equal(few[0], few[2])  # the same pixels, another image


def test_crops_reach_both_ends_of_the_longer_side(tmp_path):
    ramp = np.linspace(0, 255, 600).round().astype(np.uint8)
    write_png(tmp_path / "wide.png", np.broadcast_to(ramp[:, None], (60, 600, 3)))
    split = random_crops(open_source(str(tmp_path))["train"], 400, image_size=8, seed=0)
    crops = split.read(0)
    assert crops[:, :, 0].min() < 6  # a center square would show 115 to 140
    assert crops[:, :, -1].max() > 249


def test_crops_of_parquet_files_are_named_in_what_is_wrong_with_them(tmp_path):
    save_parquet(tmp_path / "train.parquet")
    train = open_source(str(tmp_path / "train.parquet"))["train"]
    with pytest.raises(ConfigError, match=r"train record 1 is 8x8, and 224/384 of its shorter"):
        random_crops(train, 2, image_size=5, seed=0).read(1)
    assert (
        random_crops(train, 2, image_size=4, seed=0).read(1).tolist()
        == np.full((2, 4, 4, 3), 1).tolist()
    )


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
        str(folder / location), out, image_size=4, palette=folder / "palette.npy", **options
    )


def test_token_arrays_keep_every_token_and_class(token_folder, tmp_path):
    store = prepare_tokens(token_folder, tmp_path / "store")
    palette = Palette.load(token_folder / "palette.npy")
    assert store.counts == {"train": 20, "validation": 6, "test": 9}
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
    assert store.counts == {"test": 9}
    assert store.split("test").labels is None
    again = RecordStore.open(tmp_path / "store")
    with pytest.raises(DataError, match="has no train split, only test"):
        again.split("train")


def test_class_numbers_may_stand_in_a_column(token_folder, tmp_path):
    numbers = np.arange(9) % 3
    np.save(token_folder / "small_teY.npy", numbers[:, None])
    store = prepare_tokens(token_folder, tmp_path / "store", "small_teX.npy")
    assert np.array_equal(store.split("test").labels, numbers)


def test_tokens_are_not_read_under_another_palette(token_folder, tmp_path):
    store = prepare_tokens(token_folder, tmp_path / "store")
    palette = Palette.load(token_folder / "palette.npy")
    batches = evaluation_batches(store.split("test"), ImageTokenizer(palette, 4), batch_size=9)
    assert np.array_equal(next(batches).tokens, np.load(token_folder / "small_teX.npy"))
    other = ImageTokenizer(Palette(palette.colors[::-1].copy()), 4)
    with pytest.raises(DataError, match="the test records are tokens of palette"):
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
    with pytest.raises(DataError, match=r"small_teX\.npy is no whole \.npy file of numbers"):
        prepare_tokens(token_folder, tmp_path / "store")


@pytest.mark.parametrize("location", ["small", "small_teX.npy"])
def test_tokens_cannot_be_cropped(token_folder, tmp_path, location):
    with pytest.raises(
        ConfigError, match=r"crops are cut from image files, and .*small.* has none"
    ):
        prepare_tokens(token_folder, tmp_path / "store", location, crops=2)
