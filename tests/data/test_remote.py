"""What is behind a URL is read as it is from the disk."""

import dataclasses
import tarfile

import datasets
import fsspec
import numpy as np
import pyarrow.parquet
import pytest

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.remote import Remote, remote_files
from igpt.data.sources import open_source
from igpt.data.store import RecordStore
from igpt.errors import DataError
from igpt.pixels.opening import SkippedImage


@pytest.fixture
def bucket():
    """A bucket in memory, and how to upload files into it."""
    memory = fsspec.filesystem("memory")

    def upload(path, name: str) -> str:
        memory.put(str(path), f"/bucket/{name}", recursive=True)
        return f"memory://bucket/{name}"

    yield upload
    if memory.exists("/bucket"):
        memory.rm("/bucket", recursive=True)


def prepare(source, out) -> RecordStore:
    return prepare_store(str(source), out, StoreConfig(image_size=8))


def same(one: RecordStore, other: RecordStore) -> bool:
    """Whether two stores are the same but for where their images were read."""
    for name in one.splits:
        np.testing.assert_array_equal(one.split(name).images, other.split(name).images)
        assert one.split(name).names == other.split(name).names
    source = dataclasses.replace(other, source=one.source, path=one.path)
    return source == one


def test_a_folder_behind_a_url_gives_the_store_of_the_folder(class_folders, bucket, tmp_path):
    (class_folders / "cat" / "notes.txt").write_text("mine")
    (class_folders / ".hidden").mkdir()
    (class_folders / ".hidden" / "a.png").write_bytes(b"x")
    here = prepare(class_folders, tmp_path / "here")
    there = prepare(bucket(class_folders, "photos"), tmp_path / "there")
    assert same(here, there)


def test_lists_of_labels_behind_a_url_are_read(tmp_path, save_image, bucket):
    for number in range(4):
        save_image(tmp_path / "source" / f"{number}.png", number)
    rows = "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(4))
    (tmp_path / "source" / "metadata.csv").write_text("file_name,label\n" + rows)
    train = open_source(bucket(tmp_path / "source", "listed")).splits["train"]
    assert train.labels.tolist() == [0, 1, 0, 1]


@pytest.fixture
def tars(class_folders, tmp_path):
    """WebDataset's shards, named for their splits."""
    folder = tmp_path / "shards"
    folder.mkdir()
    images = sorted(class_folders.rglob("*.png"))
    for number, name in enumerate(["train-000", "train-001", "val-000"]):
        with tarfile.open(folder / f"{name}.tar", "w") as archive:
            for path in images[number::3]:
                archive.add(path, path.name)
                label = tmp_path / "label"
                label.write_text(path.parent.name)
                archive.add(label, f"{path.stem}.cls")
    return folder


def test_tar_shards_behind_a_url_give_the_store_of_the_shards(tars, bucket, tmp_path):
    here = prepare(tars, tmp_path / "here")
    assert same(here, prepare(bucket(tars, "shards"), tmp_path / "there"))
    assert here.class_names == ("cat", "dog")
    one = prepare(bucket(tars / "train-000.tar", "train-000.tar"), tmp_path / "one")
    assert same(prepare(tars / "train-000.tar", tmp_path / "one-here"), one)


@pytest.fixture
def tables(class_folders, tmp_path):
    """Parquet files as the hub lays them out, of several row groups each."""
    paths = sorted(class_folders.rglob("*.png"))
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    for split, part in (("train-00000-of-00002", paths[:9]), ("train-00001-of-00002", paths[9:15]),
                        ("test-00000-of-00001", paths[15:])):  # fmt: skip
        columns = {
            "image": [{"bytes": path.read_bytes(), "path": None} for path in part],
            "label": [int(path.parent.name == "dog") for path in part],
        }
        table = datasets.Dataset.from_dict(columns, features=features)
        (tmp_path / "tables").mkdir(exist_ok=True)
        table.to_parquet(tmp_path / "tables" / f"{split}.parquet", batch_size=4)
    return tmp_path / "tables"


def test_tables_behind_a_url_give_the_store_of_the_tables(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    here = prepare(tables, tmp_path / "here")
    assert same(here, prepare(f"file://{tables}", tmp_path / "there"))
    assert [len(here.split(name)) for name in ("train", "test")] == [13, 5]


def test_rows_of_tables_are_read_in_any_order_and_by_others(tables):
    split = open_source(f"file://{tables}", shared=True).splits["train"]
    assert split.blocks.tolist() == [0, 4, 8, 9, 13]
    order = [14, 0, 8, 9, 3, 13, 4]
    shades = [split.image(number).read()[0, 0, 0, 0] for number in order]
    assert shades == [14, 0, 8, 9, 3, 13, 4]
    part = split.sendable([14, 3])
    assert [part(number).read()[0, 0, 0, 0] for number in (3, 14)] == [3, 14]


@pytest.mark.parametrize("error", [ConnectionError("reset"), OSError(5, "Input/output error")])
def test_a_table_that_cannot_be_read_on_ends_the_work_and_skips_no_image(
    tables, tmp_path, monkeypatch, error
):
    read = pyarrow.parquet.ParquetFile.read_row_group

    def fail(self, group, **options):
        if group == 1:
            raise error
        return read(self, group, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read_row_group", fail)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(DataError, match=r"could not read .*parquet \(.*see that it can be reached"):
        prepare(f"file://{tables}", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_what_is_not_behind_a_url_is_one_line(bucket, tmp_path):
    for url in ("memory://nowhere/photos", "nowhere://bucket/photos"):
        with pytest.raises(DataError, match=url):
            open_source(url)
    with pytest.raises(SkippedImage, match=r"memory://nowhere/a\.png is not there"):
        Remote("memory://nowhere/a.png", "a.png").read_bytes()


def test_a_network_that_fails_ends_the_work_and_skips_no_image(monkeypatch, class_folders, bucket):
    url, asked = bucket(class_folders, "photos"), []
    first = remote_files(url)[0]
    assert first.read_bytes(1, 4) == b"PNG"

    def fail(*arguments):
        asked.append(arguments)
        raise TimeoutError("no answer")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "cat_file", fail)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(DataError, match=r"could not read memory.*\(no answer\)") as told:
        first.read_bytes()
    assert not isinstance(told.value, SkippedImage)
    assert len(asked) == 4
