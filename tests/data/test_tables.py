import io

import datasets
import pytest
from PIL import Image

from igpt.data.prepare import random_crops
from igpt.data.sources import SourceSplit, open_source
from igpt.data.store import StoreConfig
from igpt.errors import DataError


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def shades(split: SourceSplit) -> list[int]:
    """The shade of every image, which tells which one it is."""
    return [int(split.image(index).read()[0, 0, 0, 0]) for index in range(len(split))]


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


def test_a_folder_laid_out_like_the_hub_gives_its_splits(tmp_path):
    for split in ("train", "test"):
        save_parquet(tmp_path / "set" / "plain_text" / f"{split}-00000-of-00001.parquet")
    splits = open_source(str(tmp_path / "set")).splits
    assert list(splits) == ["train", "test"]
    for split in splits.values():
        assert shades(split) == [0, 1, 2]
        assert split.labels is not None
        assert split.labels.tolist() == [0, 1, 0]
        assert split.class_names == ("cat", "dog")
    assert splits["test"].image(1).name.endswith("test record 1")


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
    train = open_source(str(tmp_path / "a.parquet")).splits["train"]
    assert shades(train) == [0, 1, 2]
    assert train.class_names == class_names
    if class_names is not None:
        names = [class_names[number] for number in train.labels]
        assert names == [class_names[x] if kind is None else str(x) for x in labels]


def test_labels_that_are_withheld_make_a_split_unlabelled(tmp_path):
    save_parquet(tmp_path / "set" / "train.parquet")
    save_parquet(tmp_path / "set" / "test.parquet", labels=[-1, -1, -1])
    splits = open_source(str(tmp_path / "set")).splits
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


def test_crops_of_parquet_files_are_named_in_what_is_wrong_with_them(tmp_path):
    save_parquet(tmp_path / "train.parquet")
    train = open_source(str(tmp_path / "train.parquet")).splits["train"]
    image = train.image(1)
    assert (random_crops(image, 1, StoreConfig(image_size=4, crops=2)) == 1).all()
    with pytest.raises(DataError, match=r"record 1 is too small \(8x8, and the smallest crop"):
        random_crops(image, 1, StoreConfig(image_size=5, crops=2))
