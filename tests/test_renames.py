import pytest

from igpt.renames import exchange, rename_new
from tests.system import require_refusals, run

RENAME = """
import errno, sys
from pathlib import Path
from igpt.renames import rename_new
from tests.system import refuse
a, b = Path(sys.argv[1], "a"), Path(sys.argv[1], "b")
a.write_text("a")
for call in sys.argv[2:]:
    refuse(call, errno.EPERM if call == "link" else errno.EINVAL)
rename_new(a, b)
a.write_text("again")
try:
    rename_new(a, b)
except FileExistsError:
    print(a.read_text(), b.read_text(), a.stat().st_nlink)
"""


@pytest.mark.parametrize("refused", [[], ["renameat2"], ["renameat2", "link"]])
def test_a_file_gets_a_new_name_only_whatever_the_disk_can(tmp_path, refused):
    if refused:
        require_refusals()
    assert run(RENAME, tmp_path, *refused) == "again a 1"


def test_a_folder_gets_the_name_of_an_empty_one_at_most(tmp_path):
    for name in ("a", "empty", "full"):
        (tmp_path / name).mkdir()
    for name in ("a", "full"):
        (tmp_path / name / name).touch()
    (tmp_path / "file").touch()
    for name in ("full", "file"):
        with pytest.raises(FileExistsError):
            rename_new(tmp_path / "a", tmp_path / name)
    rename_new(tmp_path / "a", tmp_path / "empty")
    assert (tmp_path / "empty" / "a").exists()


def test_two_folders_take_each_others_names(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this disk cannot exchange names")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()


def test_what_cannot_be_exchanged_for_another_reason_is_an_error(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "b")
