import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from igpt.data.collection import folder_files
from igpt.data.config import SourceConfig, StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.sources import Source, open_source
from igpt.errors import DataError


def png(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(file, format="PNG")
    return file.getvalue()


def shades(source: Source) -> dict[str, list[int]]:
    """The shade of every image, which tells which one it is."""
    return {
        name: [int(split.image(i).read()[0, 0, 0, 0]) for i in range(len(split))]
        for name, split in source.splits.items()
    }


def words(source: Source, split: str = "train") -> list[str] | None:
    """The name of every image's class."""
    part = source.splits[split]
    return None if part.labels is None else [part.class_names[label] for label in part.labels]


def write_zip(path: Path, files: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return str(path)


def write_tar(path: Path, files: dict[str, bytes]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


FILES = {
    "photos/train/cat/0.png": png(0), "photos/train/dog/1.png": png(1),
    "photos/test/cat/2.png": png(2), "photos/notes.txt": b"no image",
    "__MACOSX/photos/train/cat/._0.png": b"dropping",
}  # fmt: skip


# Folders on the disk


@pytest.fixture
def nobody(save_image):
    """A folder with an image of a cat, and folders that only their owner may read."""
    with tempfile.TemporaryDirectory() as room:  # that of tmp_path is closed to others
        Path(room).chmod(0o755)
        for place in ("photos/cat", "photos/dog", "owls/young"):
            save_image(Path(room) / place / "a.png")
        folder_files(Path(room))  # loads Pillow's formats, as long as all may be read
        for closed in ("photos/dog", "owls"):
            (Path(room) / closed).chmod(0)
        try:
            if os.geteuid() == 0:  # who may read everything
                os.seteuid(65534)
            yield Path(room)
        finally:
            os.seteuid(os.getuid())
            for closed in ("photos/dog", "owls"):
                (Path(room) / closed).chmod(0o755)


def test_a_folder_that_cannot_be_read_is_an_error_and_not_a_class_less(nobody):
    with pytest.raises(DataError, match=r"could not read .*dog \(Permission denied\); make it"):
        folder_files(nobody / "photos")


def test_what_cannot_be_reached_is_an_error_unless_it_is_an_image(nobody):
    photos = nobody / "photos"
    os.seteuid(os.getuid())
    (photos / "cat" / "b.png").symlink_to(nobody / "owls" / "young" / "a.png")
    (photos / "dog").chmod(0o755)
    os.seteuid(65534 if os.getuid() == 0 else os.getuid())
    names = [file.name for file in folder_files(photos).root.all_files()]
    assert names == ["cat/a.png", "cat/b.png", "dog/a.png"]  # b.png is skipped when it is read
    os.seteuid(os.getuid())
    (photos / "owl").symlink_to(nobody / "owls" / "young")
    os.seteuid(65534 if os.getuid() == 0 else os.getuid())
    with pytest.raises(DataError, match=r"could not read .*photos \(Permission denied\); make it"):
        folder_files(photos)


def test_pipes_are_not_opened(tmp_path, save_image):
    save_image(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "b.png")
    source = open_source(str(tmp_path))
    assert len(source.splits["train"]) == 1
    assert source.ignored == {"pipes, sockets and devices": 2}


def test_links_that_lead_nowhere_are_skipped_and_counted(tmp_path, save_image):
    save_image(tmp_path / "source" / "a.png")
    (tmp_path / "source" / "b.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "source" / "c.png").symlink_to(tmp_path / "source" / "c.png")
    store = prepare_store(
        str(tmp_path / "source"), tmp_path / "store", StoreConfig(image_size=8, test_fraction=0.0)
    )
    assert (store.account.read, store.account.images_skipped) == (1, 2)


def test_a_linked_folder_is_known_by_its_own_name_if_it_has_one_here(tmp_path, save_image):
    save_image(tmp_path / "b" / "0.png")
    (tmp_path / "a").symlink_to(tmp_path / "b")
    save_image(tmp_path / "c" / "1.png")
    assert words(open_source(str(tmp_path))) == ["b", "c"]


def test_a_tree_of_any_depth_is_read(tmp_path, save_image):
    deep = tmp_path.joinpath(*["d"] * 300)
    save_image(deep / "a.png")
    assert len(folder_files(tmp_path).root.all_files()) == 1


# Archives


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_an_archive_is_read_as_the_folder_it_holds(tmp_path, write):
    location = write(tmp_path / f"photos.{write.__name__[6:]}", FILES)
    source = open_source(location)
    assert shades(source) == {"train": [0, 1], "test": [2]}
    assert words(source) == ["cat", "dog"]
    assert source.ignored == {".txt": 1, "__MACOSX": 1}
    assert source.splits["test"].image(0).name == "photos/test/cat/2.png"
    assert [path.name for path in tmp_path.iterdir()] == [Path(location).name]


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_no_path_in_an_archive_leads_out_of_it(tmp_path, write):
    names = ["../../a.png", "/etc/b.png", "c/./../d.png", "..\\e.png"]
    location = write(tmp_path / f"a.{write.__name__[6:]}", dict.fromkeys(names, png(0)))
    source = open_source(location, SourceConfig(no_labels=True))
    shown = [source.splits["train"].image(i).name for i in range(4)]
    assert shown == ["a.png", "c/d.png", "e.png", "etc/b.png"]


def test_links_and_devices_in_a_tar_file_are_left_alone(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("a.png", tarfile.SYMTYPE), ("b.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    with pytest.raises(DataError, match="holds no images"):
        open_source(str(tmp_path / "a.tar"))


def test_a_member_that_swells_without_bound_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr("igpt.data.collection.LARGEST_MEMBER", 2**20)
    location = write_zip(tmp_path / "a.zip", {"a.png": png(1), "b.png": bytes(2**22)})
    store = prepare_store(location, tmp_path / "store", StoreConfig(image_size=8))
    assert store.account.read == 1
    assert "b.png is more than 1,048,576 bytes" in store.account.text()


def test_a_compressed_tar_file_is_refused_with_a_hint(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    with pytest.raises(DataError, match="a compressed one has to be unpacked first"):
        open_source(str(tmp_path / "a.tar"))


# WebDataset


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ({"cls": [b"1", b"0\n"]}, ["1", "0"]),
        ({"cls": [b"owl", b"ant"]}, ["owl", "ant"]),
        ({"json": [b'{"label": "owl", "text": "at night"}', b'{"label": "ant"}']}, ["owl", "ant"]),
        ({"json": [b'{"label": 1}', b'{"label": 0}']}, ["1", "0"]),
        ({"txt": [b"an owl", b"an ant"]}, None),
    ],
)
def test_labels_of_webdataset_lie_beside_the_images(tmp_path, labels, classes):
    files = {f"{i}.jpg": png(i) for i in range(2)}
    for ending, texts in labels.items():
        files |= {f"{i}.{ending}": text for i, text in enumerate(texts)}
    source = open_source(write_tar(tmp_path / "a.tar", files))
    assert words(source) == classes
    assert source.ignored == ({".txt": 2} if classes is None else {})


def test_shards_are_put_together_by_split(tmp_path):
    for split, first in (("train", 0), ("val", 4)):
        for shard in range(2):
            number = first + 2 * shard
            files = {"0.png": png(number), "0.cls": b"a", "1.png": png(number + 1), "1.cls": b"b"}
            write_tar(tmp_path / "shards" / f"set-{split}-00{shard}.tar", files)
    source = open_source(str(tmp_path / "shards"))
    assert shades(source) == {"train": [0, 1, 2, 3], "validation": [4, 5, 6, 7]}
    assert words(source, "validation") == ["a", "b", "a", "b"]
    assert source.splits["train"].image(2).name == "set-train-001/0.png"


def test_shards_without_labels_are_no_classes(tmp_path):
    for shard in range(2):
        write_tar(tmp_path / "shards" / f"00{shard}.tar", {"0.png": png(shard)})
    source = open_source(str(tmp_path / "shards"))
    assert shades(source) == {"train": [0, 1]}
    assert words(source) is None
