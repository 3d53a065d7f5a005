"""What is built to be installed: files, versions, extras; and what importing them costs."""

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_IGPT = {
    file.relative_to(ROOT / "src").as_posix()
    for file in (ROOT / "src" / "igpt").rglob("*")
    if file.is_file() and "__pycache__" not in file.parts
}


def built(kind, folder):
    """Return the file that is built, "wheel" or "sdist"."""
    plugin = pytest.importorskip(f"hatchling.builders.{kind}")
    builder = getattr(plugin, f"{kind.title()}Builder")(str(ROOT))
    return next(builder.build(directory=str(folder), versions=["standard"]))


def test_a_wheel_has_every_file_of_igpt_and_no_other(tmp_path):
    wheel = zipfile.ZipFile(built("wheel", tmp_path))
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == OF_IGPT
    assert {
        "igpt/py.typed", "igpt/__init__.pyi", "igpt/report/page.jinja",
        "igpt/serve/page/index.html",
        "igpt/builtin/model.safetensors", "igpt/builtin/README.md",
        "igpt/builtin/probe/classifier.safetensors",
    } <= names  # fmt: skip
    about = wheel.read(f"igpt-{PROJECT['version']}.dist-info/METADATA").decode()
    for extra in ("web", "huggingface", "heif", "ray", "track"):
        assert f"Provides-Extra: {extra}\n" in about
    commands = wheel.read(f"igpt-{PROJECT['version']}.dist-info/entry_points.txt").decode()
    assert "igpt = igpt.cli:main" in commands


def test_a_source_distribution_has_all_that_its_tests_read_and_nothing_of_the_folder_s_owner(
    tmp_path,
):
    with tarfile.open(built("sdist", tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in OF_IGPT} <= names
    tests = {file.relative_to(ROOT).as_posix() for file in (ROOT / "tests").rglob("*.py")}
    assert tests <= names
    assert {"README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile", "constraints.txt",
            "constraints-lowest.txt", "docs/files.md", "benchmarks/RESULTS.md",
            "launch/slurm.sh", "notebooks/first-hour.ipynb"} <= names  # fmt: skip
    assert not any(name.startswith((".venv", ".git/", "runs/", "dist/")) for name in names)


def test_the_version_is_the_same_wherever_it_is_said():
    version = PROJECT["version"]
    changes = re.findall(r"^## ([\w.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = re.findall(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert (changes[0], citation) == (version, [version])


def test_the_lowest_versions_that_are_tested_are_those_that_are_promised():
    promised = [
        re.sub(r"([\w-]+)>=([\d.]+).*", r"\1==\2", text) for text in PROJECT["dependencies"]
    ]
    tested = (ROOT / "constraints-lowest.txt").read_text().splitlines()
    assert [line for line in tested if not line.startswith("#")] == promised
