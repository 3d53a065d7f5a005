import io

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from igpt.data.config import SourceConfig, StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.reading import file_records
from igpt.data.sources import SourceSplit, open_source
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
        ("jpg", "cls", [1, 0, 1], datasets.Value("int64"), ("0", "1")),  # shards on the hub
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


def test_a_damaged_parquet_file_is_one_line(tmp_path, capfd):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 but no more")
    capfd.readouterr()
    with pytest.raises(DataError, match=r"could not read .*a\.parquet") as caught:
        open_source(str(tmp_path / "a.parquet"))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_opening_says_nothing(tmp_path, capfd):
    save_parquet(tmp_path / "a.parquet")
    capfd.readouterr()
    open_source(str(tmp_path / "a.parquet"))
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_imagenet_on_the_hub_has_its_validation_split_for_testing(monkeypatch, tmp_path):
    save_parquet(tmp_path / "a.parquet")
    table = datasets.load_dataset("parquet", data_files=str(tmp_path / "a.parquet"))["train"]
    found = datasets.DatasetDict({"train": table, "valid": table})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: found)
    assert list(open_source("zh-plus/tiny-imagenet").splits) == ["train", "test"]
    assert list(open_source("somebody/photos").splits) == ["train", "validation"]
    chosen = SourceConfig(split=("validation=valid",))
    assert list(open_source("zh-plus/tiny-imagenet", chosen).splits) == ["train", "validation"]


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
    crops, _ = file_records(image, 1, StoreConfig(image_size=4, crops=2), cropped=True)
    assert (crops == 1).all()
    with pytest.raises(DataError, match=r"record 1 is 8x8, and the smallest crop"):
        file_records(image, 1, StoreConfig(image_size=5, crops=2), cropped=True)


def test_a_row_that_names_a_file_is_a_record_without_image(tmp_path, save_image):
    secret = save_image(tmp_path / "secret.png", 7)
    rows = [{"bytes": None, "path": str(secret)}, {"bytes": png(1), "path": "own.png"}]
    pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
    config = StoreConfig(image_size=8)
    store = prepare_store(str(tmp_path / "a.parquet"), tmp_path / "store", config)
    assert (store.account.read, store.account.images_skipped) == (1, 1)
    assert store.split("train").names == ["own.png"]
    assert "record 0 has no image (in the table, only the path" in store.account.text()


def test_a_broken_row_costs_one_record(tmp_path):
    rows = [png(0), b"", None, b"no image", png(4)]
    pq.write_table(pa.table({"image": rows, "label": list("ababa")}), tmp_path / "a.parquet")
    config = StoreConfig(image_size=8)
    store = prepare_store(str(tmp_path / "a.parquet"), tmp_path / "store", config)
    assert (store.account.read, store.account.images_skipped) == (2, 3)


@pytest.mark.parametrize("column", [[1, 2], ["a.png", "b.png"], [[1], [2]]])
def test_a_column_that_holds_no_images_is_refused(tmp_path, column):
    pq.write_table(pa.table({"image": column}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"column image .* holds no images but .*--image-column"):
        open_source(str(tmp_path / "a.parquet"))


def test_columns_are_chosen_by_name(tmp_path):
    kind = datasets.ClassLabel(names=["fine", "coarse"])
    path = tmp_path / "a.parquet"
    columns = {"image": [None, None], "thumb": [{"bytes": png(s), "path": None} for s in (5, 6)]}
    features = {"image": datasets.Image(), "thumb": datasets.Image(), "a": kind, "b": kind}
    datasets.Dataset.from_dict(
        columns | {"a": [0, 0], "b": [0, 1]}, features=datasets.Features(features)
    ).to_parquet(path)
    source = open_source(str(path), SourceConfig(image_column="thumb", label_column="b"))
    assert shades(source.splits["train"]) == [5, 6]
    assert source.splits["train"].labels.tolist() == [0, 1]
    assert "those of the column b; --label-column chooses another of a" in source.notes[0]
    with pytest.raises(DataError, match="no column 'thum'; did you mean 'thumb'"):
        open_source(str(path), SourceConfig(image_column="thum"))


def test_splits_of_a_table_are_chosen_by_name_and_the_others_counted(tmp_path):
    for split in ("train", "validation", "test"):
        labels = [-1] * 3 if split == "test" else [0, 1, 0]
        save_parquet(tmp_path / "set" / f"{split}-00000-of-00001.parquet", labels=labels)
    source = open_source(str(tmp_path / "set"), SourceConfig(split=("test=validation",)))
    assert list(source.splits) == ["train", "test"]
    assert source.splits["test"].labels is not None
    assert source.ignored == {"records of the split test": 3}


def test_files_beside_the_tables_are_counted_and_decide_nothing(tmp_path):
    save_parquet(tmp_path / "set" / "train.parquet")
    for name in ("a.csv", "b.csv", "c.json"):
        (tmp_path / "set" / name).write_text("[]")
    source = open_source(str(tmp_path / "set"))
    assert shades(source.splits["train"]) == [0, 1, 2]
    assert source.ignored == {".csv": 2, ".json": 1}


def test_tables_beside_images_are_refused(tmp_path, save_image):
    save_parquet(tmp_path / "set" / "train.parquet")
    save_image(tmp_path / "set" / "a.png")
    with pytest.raises(DataError, match=r"both parquet files and images \(a\.png\)"):
        open_source(str(tmp_path / "set"))


def test_a_configuration_is_asked_for_by_name(tmp_path):
    for name in ("small", "large"):
        save_parquet(tmp_path / "set" / name / "train.parquet", labels=[1, int(name == "small"), 1])
    (tmp_path / "set" / "README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files: small/*.parquet\n"
        "- config_name: large\n  data_files: large/*.parquet\n---\n"
    )
    with pytest.raises(DataError, match=r"Config name is missing.*small.*large.*--config"):
        open_source(str(tmp_path / "set"))
    source = open_source(str(tmp_path / "set"), SourceConfig(config="large"))
    assert source.splits["train"].labels.tolist() == [1, 0, 1]
