import pytest

from igpt.data.config import SourceConfig
from igpt.data.sources import SourceSplit, open_source
from igpt.errors import DataError


def shades(split: SourceSplit) -> list[int]:
    """The shade of every image, which tells which one it is."""
    return [int(split.image(index).read()[0, 0, 0, 0]) for index in range(len(split))]


def test_class_folders_are_the_labels_in_the_order_of_their_names(class_folders):
    splits = open_source(str(class_folders)).splits
    assert list(splits) == ["train"]
    train = splits["train"]
    assert train.class_names == ("cat", "dog")
    assert train.labels is not None
    assert train.labels.tolist() == [0] * 10 + [1] * 10
    assert shades(train) == list(range(20))
    assert train.image(3).name.endswith("cat/03.png")


def test_images_beside_each_other_have_no_labels(tmp_path, save_image):
    for shade in range(3):
        save_image(tmp_path / f"{shade}.png", shade)
    train = open_source(str(tmp_path)).splits["train"]
    assert train.labels is None
    assert train.class_names is None
    assert shades(train) == [0, 1, 2]


@pytest.mark.parametrize("validation", ["validation", "val", "valid", "dev"])
def test_folders_named_for_splits_are_splits(tmp_path, save_image, validation):
    for shade, folder in enumerate(["train", validation, "test"]):
        for kind in ("cat", "dog"):
            save_image(tmp_path / folder / kind / "nested" / "a.png", shade)
    splits = open_source(str(tmp_path)).splits
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
    train = open_source(str(tmp_path)).splits["train"]
    assert [train.image(index).name.split("/") for index in range(len(train))] == [
        ["cat", "a.PNG"], ["dog", "b.JPeG"]
    ]  # fmt: skip
    assert train.class_names == ("cat", "dog")


def test_a_broken_file_is_refused_only_when_it_is_read(tmp_path, save_image):
    save_image(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_text("not an image")
    train = open_source(str(tmp_path)).splits["train"]
    assert train.image(0).read().shape == (1, 8, 8, 3)
    with pytest.raises(DataError, match=r"b\.jpg"):
        train.image(1).read()


def test_images_beside_class_folders_are_refused(class_folders, save_image):
    save_image(class_folders / "stray.png")
    with pytest.raises(DataError, match=r"of its own \(stray.png\).*\(cat/\).*--no-labels"):
        open_source(str(class_folders))


@pytest.mark.parametrize("files", [[], ["notes.txt"], ["train/notes.txt"]])
def test_a_folder_without_images_is_refused(tmp_path, files):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("not an image")
    with pytest.raises(DataError, match=r"holds no images; looked for files that end in \.apng"):
        open_source(str(tmp_path))


# Splits or classes


@pytest.mark.parametrize(
    "names", [("train", "test"), ("train2017", "val2017"), ("x-train", "x-dev")]
)
def test_folders_that_share_all_but_the_word_for_a_split_are_splits(tmp_path, save_image, names):
    for shade, name in enumerate(names):
        save_image(tmp_path / name / "cat" / "a.png", shade)
    splits = open_source(str(tmp_path)).splits
    assert [shades(split) for split in splits.values()] == [[0], [1]]


@pytest.mark.parametrize(
    "names", [("boat", "train"), ("cat", "toy_train"), ("test_tube", "toy_train"), ("dev", "ops")]
)
def test_classes_may_be_named_for_splits_if_not_all_are(tmp_path, save_image, names):
    for name in names:
        save_image(tmp_path / name / "a.png")
    assert open_source(str(tmp_path)).splits["train"].class_names == names


@pytest.mark.parametrize("extra", ["unlabeled/a.png", "extra/cat/a.png"])
def test_what_may_be_splits_or_classes_is_refused_with_both_readings(tmp_path, save_image, extra):
    for place in ("train/cat/a.png", "test/cat/a.png", extra):
        save_image(tmp_path / place)
    message = r"splits \(train, test\) beside others .*--split train=train, and if classes, rename"
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path))
    source = open_source(str(tmp_path), SourceConfig(split=("train=train",)))
    assert list(source.splits) == ["train", "test"]
    assert source.ignored == {"images outside of the splits": 1}


def test_unlabelled_images_may_be_the_training_split(tmp_path, save_image):
    for shade, place in enumerate(["train/cat", "test/cat", "unlabeled"]):
        save_image(tmp_path / place / "a.png", shade)
    splits = open_source(str(tmp_path), SourceConfig(split=("train=unlabeled",))).splits
    assert (shades(splits["train"]), splits["train"].labels) == ([2], None)
    assert shades(splits["test"]) == [1]
    assert splits["test"].class_names == ("cat",)


@pytest.mark.parametrize("above", ["archive", "archive/archive", "data/images.full"])
def test_folders_that_hold_one_folder_alone_are_looked_through(tmp_path, save_image, above):
    for name in ("cat", "dog"):
        save_image(tmp_path / above / name / "a.png")
    source = open_source(str(tmp_path))
    assert source.splits["train"].class_names == ("cat", "dog")
    assert "so what lies in it is read" in source.notes[0]


def test_a_single_class_folder_is_a_class(tmp_path, save_image):
    save_image(tmp_path / "cat" / "a.png")
    assert open_source(str(tmp_path)).splits["train"].class_names == ("cat",)


def test_files_of_other_kinds_are_counted_by_ending(tmp_path, save_image):
    save_image(tmp_path / "a.png")
    for name in ("b.txt", "c.TXT", "d.pdf", "README", ".DS_Store"):
        (tmp_path / name).write_text("not an image")
    counted = {".txt": 2, ".pdf": 1, "without an ending": 1, "hidden": 1}
    assert open_source(str(tmp_path)).ignored == counted
