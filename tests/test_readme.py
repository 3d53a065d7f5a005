"""What README, docs and every command's help show is run, in small; `tests.pages` says how."""

import doctest
import itertools
import json
import re

import numpy as np
import pytest
from benchmarks.released import released_network
from scipy.special import log_softmax

from igpt.cli import app
from tests import pages
from tests.pages import CANNOT, EXAMPLES, LONG, ROOT, TENSORFLOW, arguments_of, run, run_line, shown

pytestmark = pytest.mark.timeout(900)  # all that the pages show is run first
PAGES = pages.pages()
LINES = list(
    dict.fromkeys(
        [*(line for page in PAGES for line in shown(page)), *itertools.chain(*EXAMPLES.values())]
    )
)


def test_what_the_pages_and_every_help_show_runs(ran):
    assert (ran / "runs" / "a" / "probe.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if re.search(LONG, line)])
def test_what_takes_long_runs_too(ran, line, monkeypatch):
    monkeypatch.chdir(ran)
    run_line(line)


@pytest.mark.parametrize(
    "line", [line for line in LINES if "igpt " in line and not pages.runs(line)]
)
def test_a_line_that_does_not_run_here_has_arguments_that_are_known(line):
    if not line.startswith("pip "):
        app().parse_args(arguments_of(line), exit_on_error=False, print_error=False)


def test_every_reason_not_to_run_a_line_is_some_line_s():
    assert all(any(re.search(pattern, line) for line in LINES) for pattern in [*CANNOT, LONG])


def test_every_command_s_help_has_an_example_and_a_page_shows_it():
    on_pages = [f"{line} " for page in PAGES for line in shown(page)]
    for name, lines in EXAMPLES.items():
        assert any(f"{line} ".startswith(f"{name} ") for line in lines), name
        assert any(line.startswith(f"{name} ") for line in on_pages), name


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "pycon" in dict(pages.blocks(page))], ids=str
)
def test_what_an_exercise_s_solution_prints_is_what_it_says(page):
    session = "\n".join(text for language, text in pages.blocks(page) if language == "pycon")
    test = doctest.DocTestParser().get_doctest(session, {}, page.name, str(page), 0)
    report: list[str] = []
    assert doctest.DocTestRunner().run(test, out=report.append).failed == 0, "".join(report)


def test_the_published_figures_commands_run_on_small_files_of_their_formats(tmp_path, monkeypatch):
    """Nats per pixel over token files, and the probe of every layer."""
    palette, generator = TENSORFLOW / "kmeans_centers.npy", np.random.default_rng(0)
    tokens = {}
    for part, count in (("tr", 30), ("va", 12), ("te", 9)):
        tokens[part] = generator.integers(0, 16, (count, 16))
        np.save(tmp_path / f"imagenet_{part}X.npy", tokens[part])
        np.save(tmp_path / f"imagenet_{part}Y.npy", np.eye(3)[np.arange(count) % 3])
    monkeypatch.setitem(pages.SIZES, "--image-size", "4")
    monkeypatch.chdir(tmp_path)
    for line in (
        f"igpt convert {TENSORFLOW}/ar/model.ckpt-7 igpt-s --palette {palette}",
        f"igpt data prepare imagenet --image-size 32 --palette {palette} --out data",
    ):
        assert run(line)[0] == 0
    nats = json.loads(run("igpt evaluate igpt-s --data data --json")[1])["nats_per_pixel"]
    _, logits = released_network(dict(np.load(TENSORFLOW / "ar" / "expected.npz")), tokens["te"])
    likelihood = np.take_along_axis(log_softmax(logits, axis=-1), tokens["te"][..., None], axis=-1)
    assert nats == pytest.approx(-likelihood.mean(), rel=1e-6)
    probe = json.loads(run("igpt probe igpt-s --data data --json")[1])
    assert [row["layer"] for row in probe["layers"]] == [0, 1, 2]


def test_the_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        assert set(re.findall(r"`make ([\w-]+)`", page.read_text())) <= targets, page


def test_links_lead_somewhere():
    others = [
        ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "docs/log.md", "docs/claims.md")
    ]
    for page in [*PAGES, *others]:
        for target in re.findall(r"(?:\]\(|src=\")([^)#\s:\"]+)[#)\"]", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_fits_one_screen():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 80
