"""Collections as people bring them: what public bug reports of the tools of this field show.

Each is read in full, or what is not is counted with its reason, or there is a line that names the
way on.
"""

import io
import shutil
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from igpt.data.config import StoreConfig
from igpt.data.prepare import prepare_store
from igpt.data.store import RecordStore
from igpt.errors import DataError


@pytest.fixture
def noise():
    """Make pictures of noise, no two alike: as an image, into a file, or as the bytes of a PNG."""
    generator = np.random.default_rng(0)

    def picture(path=None, **options):
        image = Image.fromarray(generator.integers(0, 256, (40, 40, 3), dtype=np.uint8))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, **options)
        return image

    return picture


@pytest.fixture
def prepare(tmp_path):
    def prepared(source=tmp_path / "source", **settings) -> RecordStore:
        config = StoreConfig(image_size=32, **settings)
        return prepare_store(str(source), tmp_path / "store", config)

    return prepared


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


def names(store, *splits) -> list[str]:
    return sorted(name for split in splits or store.splits for name in store.split(split).names)


def totals(store) -> dict[str, int]:
    """Records of each class, of all splits."""
    return {name: sum(counts.values()) for name, counts in store.account.classes.items()}


def reasons(store) -> dict[str, int]:
    return {skipped.reason: skipped.images for skipped in store.account.skipped}


# Folders


def test_a_class_called_train_is_a_class(prepare, source, noise):
    for name in ("boat", "car", "train"):
        for number in range(3):
            noise(source / name / f"{number}.png")
    assert totals(prepare()) == {"boat": 3, "car": 3, "train": 3}


def test_hidden_folders_and_droppings_of_systems_are_passed_over(prepare, source, noise):
    for name in ("cat", "dog"):
        noise(source / name / "a.png")
        noise(source / name / ".ipynb_checkpoints" / "a-checkpoint.png")
        noise(source / name / "@eaDir" / "thumb.jpg")
        noise(source / name / "__MACOSX" / "._a.png")
        (source / name / "Thumbs.db").write_bytes(bytes(100))
    store = prepare()
    assert names(store) == ["cat/a.png", "dog/a.png"]
    assert store.account.ignored == {"hidden/": 2, "@eaDir/": 2, "__MACOSX/": 2, "Thumbs.db": 2}


def test_split_folders_within_split_folders_are_splits(prepare, source, noise):
    for split in ("seg_train", "seg_test"):
        for name in ("sea", "street"):
            noise(source / split / split / name / "a.png")
    store = prepare(test_fraction=0.0, validation_fraction=0.0)
    assert store.class_names == ("sea", "street")
    assert names(store, "train") == [f"seg_train/seg_train/{n}/a.png" for n in ("sea", "street")]
    assert names(store, "test") == [f"seg_test/seg_test/{n}/a.png" for n in ("sea", "street")]


def test_a_held_out_split_that_lacks_a_class_is_read(prepare, source, noise):
    for place in ("train/a", "train/b", "test/a"):
        for number in range(3):
            noise(source / place / f"{number}.png")
    (source / "test" / "b").mkdir()
    store = prepare()
    assert store.account.classes["a"]["test"] == 3
    assert store.account.classes["b"]["test"] == 0
    assert store.split("test").class_names == ("a", "b")


def test_links_to_folders_are_followed_once_and_loops_passed_over(prepare, tmp_path, noise):
    photos = tmp_path / "photos"
    noise(photos / "dog" / "1.png")
    noise(photos / "cat" / "0.png")
    for number in range(5):
        noise(tmp_path / "elsewhere" / f"{number}.png")
    (photos / "cat" / "batch").symlink_to(tmp_path / "elsewhere")
    (photos / "dog" / "loop").symlink_to(photos)
    store = prepare(photos)
    assert totals(store) == {"cat": 6, "dog": 1}
    assert len(set(names(store))) == 7
    assert store.account.ignored == {"links to folders that are read already": 1}


def test_images_beside_folders_are_refused_and_read_without_labels(prepare, source, noise):
    for place in ("2019/1.png", "2020/1.png", "loose.png"):
        noise(source / place)
    with pytest.raises(DataError, match="--no-labels"):
        prepare()
    store = prepare(no_labels=True)
    assert names(store) == ["2019/1.png", "2020/1.png", "loose.png"]
    assert store.class_names is None


def test_accents_written_in_two_ways_are_one_class(prepare, source, noise):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        noise(source / split / unicodedata.normalize(form, "caf\u00e9") / "a.png")
        noise(source / split / "b" / "a.png")
    assert prepare().class_names == ("b", "caf\u00e9")


def test_strange_names_take_one_line_each(prepare, source, noise):
    noise(source / "b.png")
    (source / b"caf\xe9.jpg".decode(errors="surrogateescape")).write_bytes(b"broken")
    (source / "two\nlines.png").write_bytes(b"broken")
    store = prepare()
    assert names(store) == ["b.png"]
    assert store.account.images_skipped == 2
    text = store.account.text()
    assert "caf\\udce9.jpg" in text
    assert "two\\nlines.png" in text
    assert text.isascii()
    assert RecordStore.open(store.path).account == store.account


def test_few_images_of_a_class_leave_every_class_in_train(prepare, source, noise):
    for number in range(12):
        for index in range(6):
            noise(source / f"class{number:02}" / f"{index}.png")
    counts = prepare().account.classes
    assert [sum(count[split] for count in counts.values()) for split in ("train", "test")] == [
        59,
        7,
    ]
    assert all(count["train"] >= 4 and count["test"] <= 1 for count in counts.values())


# Files


def test_labels_are_read_from_metadata_csv(prepare, source, noise):
    for number in range(4):
        noise(source / f"{number}.png")
    lines = [f"{number}.png,{'ab'[number % 2]}\n" for number in range(4)]
    (source / "metadata.csv").write_text("file_name,label\n" + "".join(lines))
    assert totals(prepare()) == {"a": 2, "b": 2}


def test_every_kind_of_file_that_can_be_read_is_read(prepare, source, noise):
    for number in range(2):
        noise(source / f"{number}.jpg")
    noise(source / "x.jfif", format="JPEG")
    noise(source / "x.avif")
    noise(source / "x.jp2")
    (source / "y.heic").write_bytes(b"\0\0\0\x18ftypheic")
    store = prepare()
    assert names(store) == ["0.jpg", "1.jpg", "x.avif", "x.jfif", "x.jp2"]
    assert store.account.ignored.get(".heic", 0) + store.account.images_skipped == 1


def test_a_dot_is_skipped_and_counted(prepare, source, noise):
    for number in range(5):
        noise(source / f"{number}.png")
    Image.new("RGB", (1, 1)).save(source / "pixel.gif")
    store = prepare()
    assert store.account.read == 5
    assert reasons(store) == {"too small": 1}
    assert "pixel.gif is 1x1, and its shorter side" in store.account.skipped[0].examples[0]


def test_a_long_strip_is_skipped_and_the_others_are_read(prepare, source, noise):
    noise(source / "b.png")
    Image.new("RGB", (100_000, 1)).save(source / "strip.png")
    store = prepare()
    assert names(store) == ["b.png"]
    assert reasons(store) == {"too small": 1}


def test_texts_and_profiles_of_any_length_cost_no_image(prepare, source, noise):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 2**21, zip=True)
    noise(source / "a.png", pnginfo=text)
    noise(source / "b.png", icc_profile=bytes(2**21))
    noise(source / "c.png")
    assert names(prepare()) == ["a.png", "b.png", "c.png"]


def test_levels_of_twelve_bits_in_files_of_sixteen_are_noted(prepare, source, tmp_path):
    source.mkdir()
    levels = np.arange(4096).astype(np.uint16)
    for number in range(3):
        Image.fromarray(np.roll(levels, number).reshape(64, 64)).save(source / f"{number}.tif")
    store = prepare()
    assert "levels up to 4,095 of 65,535" in store.account.text()
    assert store.split("train").images.max() < 20
    shutil.rmtree(store.path)
    store = prepare(levels=4095)
    assert "levels" not in store.account.text()
    assert store.split("train").images.max() > 240


def test_photos_of_phones_are_read(prepare, source, noise):
    source.mkdir()
    Image.new("L", (12_000, 9_000)).save(source / "a.jpg")
    noise(source / "b.png")
    assert names(prepare()) == ["a.jpg", "b.png"]


def test_more_pixels_than_are_allowed_cost_one_image(prepare, source, noise):
    noise(source / "a.png")
    Image.new("L", (100, 100)).save(source / "b.png")
    store = prepare(max_pixels=40 * 40)
    assert names(store) == ["a.png"]
    assert reasons(store) == {"too large": 1}


def test_images_that_are_all_the_same_are_read(prepare, source):
    source.mkdir()
    for number in range(6):
        Image.new("RGB", (40, 40), (7, 7, 7)).save(source / f"{number}.png")
    store = prepare()
    assert store.splits["train"].records == 6  # copies of one image are in one split
    assert "5 training images are copies" in store.account.text()


# Tables


@pytest.fixture
def save_table(source, noise):
    def save(labels, **columns) -> None:
        rows = []
        for _ in range(len(labels)):
            file = io.BytesIO()
            noise().save(file, "PNG")
            rows.append({"bytes": file.getvalue(), "path": None})
        source.mkdir(exist_ok=True)
        table = pa.table({"image": pa.array(rows), "label": labels, **columns})
        pq.write_table(table, source / "train-00000-of-00001.parquet")

    return save


@pytest.mark.parametrize(
    ("labels", "class_names"),
    [
        (pa.array(["a", "b"] * 3), ("a", "b")),
        (pa.array(["a", "b"] * 3, pa.large_string()), ("a", "b")),
        (pa.array(["a", "b"] * 3, pa.string_view()), ("a", "b")),
        (pa.array(["a", "b"] * 3).dictionary_encode(), ("a", "b")),
        (pa.array([b"a", b"b"] * 3), ("a", "b")),
        (pa.array([True, False] * 3), ("False", "True")),
        (pa.array([0.0, 1.0] * 3), ("0", "1")),
        (pa.array([-1, 1] * 3), ("-1", "1")),
        (pa.array([10, 9] * 3, pa.uint8()), ("9", "10")),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_labels_of_a_table_may_be_of_any_plain_type(prepare, save_table, labels, class_names):
    save_table(labels)
    store = prepare()
    assert totals(store) == dict.fromkeys(class_names, 3)
    assert store.class_names == class_names


def test_tables_that_pandas_writes_are_read(prepare, source, noise):
    pandas = pytest.importorskip("pandas")
    images = []
    for _ in range(6):
        file = io.BytesIO()
        noise().save(file, "PNG")
        images.append(file.getvalue())
    source.mkdir()
    frame = pandas.DataFrame({"image": images, "label": ["a", "b"] * 3})
    frame.to_parquet(source / "train.parquet")
    assert totals(prepare()) == {"a": 3, "b": 3}


def test_several_labels_a_record_are_refused_and_left_out_without_labels(prepare, save_table):
    save_table(pa.array([[0, 1], [1], [0], [], [1], [0]]))
    with pytest.raises(DataError, match=r"several labels a record.*--no-labels.*--label-column"):
        prepare()
    store = prepare(no_labels=True)
    assert store.account.read == 6
    assert store.class_names is None
