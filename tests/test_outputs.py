"""Where a file that the user named may be written: nothing is lost without being asked for."""

import os
from pathlib import Path

import pytest

from igpt.errors import ConfigError, DataError
from igpt.outputs import require_ending, require_free, require_outside

MARK = "made by igpt"


def kept(folder: Path, *names: str) -> Path:
    """Return a folder that holds these files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_what_is_there_stays_unless_it_may_be_replaced(tmp_path):
    (tmp_path / "a.png").write_text("mine")
    with pytest.raises(ConfigError, match=r"a\.png is there already.*--overwrite"):
        require_free(tmp_path / "a.png")
    require_free(tmp_path / "a.png", overwrite=True)
    require_free(tmp_path / "b.png", tmp_path / "new" / "c.png")


def test_a_link_that_leads_nowhere_is_there_too(tmp_path):
    (tmp_path / "a.png").symlink_to("gone")
    with pytest.raises(ConfigError, match="is there already"):
        require_free(tmp_path / "a.png")


def test_only_a_page_of_ours_is_replaced_by_a_newer_one(tmp_path):
    (tmp_path / "ours.html").write_text(f"<html>\n{MARK}")
    (tmp_path / "mine.html").write_text("<html>\n")
    require_free(tmp_path / "ours.html", page=MARK)
    with pytest.raises(ConfigError, match="is there already"):
        require_free(tmp_path / "mine.html", page=MARK)
    with pytest.raises(ConfigError, match="is there already"):
        require_free(tmp_path / "ours.html")


@pytest.mark.parametrize("alias", ["photo.png", "link.png", "hard.png", "../{}/photo.png"])
def test_what_is_read_is_never_replaced_under_any_name(tmp_path, alias):
    photo = tmp_path / "photo.png"
    photo.write_text("mine")
    (tmp_path / "link.png").symlink_to(photo)
    os.link(photo, tmp_path / "hard.png")
    with pytest.raises(ConfigError, match=r"photo\.png is read and would be replaced"):
        require_free(tmp_path / alias.format(tmp_path.name), reads=[photo], overwrite=True)


def test_nothing_is_replaced_in_a_folder_that_is_read(tmp_path):
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    (tmp_path / "photos" / "deep" / "a-1.png").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for name in ("photos/deep/a-1.png", "link/deep/a-1.png"):
        with pytest.raises(ConfigError, match=r"a-1\.png lies in a folder that is read"):
            require_free(tmp_path / name, reads=[tmp_path / "photos"], overwrite=True)
    require_free(tmp_path / "photos" / "new.png", reads=[tmp_path / "photos"])


@pytest.mark.parametrize(
    ("marks", "kind"),
    [
        (["store.json"], "store"),
        (["recipe.json", "provenance.json"], "run"),
        (["config.json", "model.safetensors"], "model"),
    ],
)
def test_nothing_is_written_into_a_folder_that_igpt_keeps(tmp_path, marks, kind):
    folder = kept(tmp_path / "a", *marks)
    (tmp_path / "link").symlink_to(folder)
    for name in (f"a/{marks[0]}", "a/new.png", "a/deep/er/new.png", "link/new.png"):
        with pytest.raises(ConfigError, match=f"lies in the {kind} .*/a, which"):
            require_free(tmp_path / name, overwrite=True)
        with pytest.raises(ConfigError, match=f"lies in the {kind}"):
            require_outside(tmp_path / name)
    require_free(tmp_path / "beside.png")


def test_a_folder_of_others_is_no_run_for_the_name_of_one_file(tmp_path):
    require_free(kept(tmp_path / "cooking", "recipe.json", "config.json") / "new.png")


def test_no_folder_is_replaced_by_a_file(tmp_path):
    with pytest.raises(ConfigError, match="is a folder, where a file is wanted"):
        require_free(tmp_path, overwrite=True)


def test_no_device_is_replaced_by_a_file():
    with pytest.raises(ConfigError, match="is a device or a pipe"):
        require_free(Path("/dev/null"), overwrite=True)


def test_a_place_that_cannot_be_written_to_is_known_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.png", tmp_path / f"{'n' * 240}.png"):
        with pytest.raises(DataError, match="could not write"):
            require_free(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_two_files_of_one_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="would be written twice"):
        require_free(tmp_path / "a-1.png", tmp_path / "a-1.png")


def test_a_file_is_named_for_what_it_holds():
    require_ending(Path("a.PNG"), ".png", "pictures are")
    with pytest.raises(ConfigError, match=r"pictures are written as \.png, got --out a; try a\.p"):
        require_ending(Path("a"), ".png", "pictures are")
