import subprocess
import sys
import tomllib
import zipfile
from importlib import resources
from pathlib import Path

import jinja2
import pytest

from igpt.report.templates import template

REPOSITORY = Path(__file__).parents[2]
NAMES = ("page.jinja", "page.css", "sections/probe.jinja", "card.jinja")


def test_the_templates_are_part_of_the_package():
    for name in NAMES:
        assert resources.files("igpt.report").joinpath(name).is_file()
    tool = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]
    wheel = tool["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["src/igpt"]}  # with all of their files


@pytest.mark.slow
def test_a_wheel_holds_the_templates(tmp_path):
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, REPOSITORY], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert {f"igpt/report/{name}" for name in NAMES} <= set(zipfile.ZipFile(wheel).namelist())


def test_a_gap_in_a_template_is_no_empty_text():
    with pytest.raises(jinja2.UndefinedError, match="'header' is undefined"):
        template("card.jinja", escape=False).render()
