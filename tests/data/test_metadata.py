"""Labels in lists of files, by the imagefolder convention."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from igpt.data.config import SourceConfig
from igpt.data.sources import open_source
from igpt.errors import ConfigError, DataError

ROWS = [{"file_name": f"{i}.png", "label": "ab"[i % 2], "age": i // 2} for i in range(4)]


@pytest.fixture
def folder(tmp_path, save_image):
    for shade in range(4):
        save_image(tmp_path / f"{shade}.png", shade)
    return tmp_path


def write_csv(path, rows=ROWS):
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    path.write_text("\ufeff" + "\r\n".join(lines))  # as spreadsheets write it


def write_jsonl(path, rows=ROWS):
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def write_parquet(path, rows=ROWS):
    pq.write_table(pa.Table.from_pylist(rows), path)


def words(split) -> list[str]:
    return [split.class_names[label] for label in split.labels]


@pytest.mark.parametrize("write", [write_csv, write_jsonl, write_parquet])
@pytest.mark.parametrize(("column", "wanted"), [(None, "abab"), ("age", "0011")])
def test_labels_are_those_of_the_column(folder, write, column, wanted):
    write(folder / f"metadata.{write.__name__[6:]}")
    source = open_source(str(folder), SourceConfig(label_column=column))
    assert "".join(words(source.splits["train"])) == wanted
    assert not source.ignored


def test_paths_are_those_below_the_list(tmp_path, save_image):
    save_image(tmp_path / "train" / "x" / "a.png")
    save_image(tmp_path / "train" / "x" / "b.png")
    write_jsonl(
        tmp_path / "train" / "metadata.jsonl",
        [{"file_name": "x/a.png", "label": 5}, {"file_name": "./x\\b.png", "label": 3}],
    )
    assert words(open_source(str(tmp_path)).splits["train"]) == ["5", "3"]


def test_images_not_listed_and_lines_without_an_image_are_skipped_and_counted(folder):
    write_csv(folder / "metadata.csv", [*ROWS[:3], {"file_name": "../9.png", "label": "a"}])
    source = open_source(str(folder))
    assert words(source.splits["train"]) == ["a", "b", "a"]
    assert sorted(source.skipped) == [
        ("listed, but not there", "../9.png is in the list of labels, but there is no such file"),
        ("not in the list of labels", "3.png is not in the list of labels"),
    ]


def test_a_list_without_labels_is_said_to_have_none(folder):
    write_csv(folder / "metadata.csv", [{"file_name": "0.png", "text": "a zero"}])
    source = open_source(str(folder))
    assert source.splits["train"].labels is None
    assert "no column of labels, only file_name, text; --label-column" in source.notes[0]


def test_a_table_of_another_name_is_not_passed_over_in_silence(folder):
    write_csv(folder / "labels.csv")
    source = open_source(str(folder))
    assert source.ignored == {".csv": 1}
    assert "call it metadata.csv, with columns file_name and label" in source.notes[0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metadata.csv", "name,label\n0.png,a\n", "lacks a file_name"),
        ("metadata.csv", 'file_name,label\n"0.png,a\n', "no table of commas"),
        ("metadata.jsonl", '{"file_name": "0.png"', "is damaged"),
        ("metadata.jsonl", "[1]", "should hold JSON objects"),
        ("metadata.jsonl", "\udcff", "save it as UTF-8"),
        ("metadata.csv", "file_name,label\n0.png,a\n1.png,\n", "labels for 1 of its 2 records"),
        ("metadata.csv", "file_name,label\n0.png,a\n0.png,b\n", "names 0.png several times"),
        (
            "metadata.jsonl",
            '{"file_name": "0.png", "label": 1}\n{"file_name": "1.png"}\n',
            "labels for 1 of its 2 records",
        ),
    ],
)
def test_a_damaged_list_is_refused_unless_labels_are_left_out(folder, name, text, message):
    (folder / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=message):
        open_source(str(folder))
    source = open_source(str(folder), SourceConfig(no_labels=True))
    assert len(source.splits["train"]) == 4


@pytest.mark.parametrize(
    "setting", [{"label_column": "kind"}, {"image_column": "img"}, {"config": "small"}]
)
def test_settings_of_tables_are_refused_where_there_is_none(folder, setting):
    option = next(iter(setting)).replace("_", "-")
    with pytest.raises(ConfigError, match=f"--{option}"):
        open_source(str(folder), SourceConfig(**setting))


def test_numbers_of_classes_are_in_their_own_order_and_folders_in_that_of_letters(
    tmp_path, save_image
):
    for name in ("listed", "folders/2", "folders/10"):
        save_image(tmp_path / name / "0.png")
        save_image(tmp_path / name / "1.png")
    rows = [{"file_name": f"{i}.png", "label": label} for i, label in enumerate((10, 2))]
    write_csv(tmp_path / "listed" / "metadata.csv", rows)
    names = {
        name: open_source(str(tmp_path / name)).splits["train"].class_names
        for name in ("listed", "folders")
    }
    assert names == {"listed": ("2", "10"), "folders": ("10", "2")}
