"""The documentation site: what `make docs` finds fault with, and what its pages may not lack."""

import re

from scripts.build_site import DOCS, linked, site_faults, strays

import igpt
from igpt.serve.app import create_app
from igpt.serve.models import Models


def test_the_navigation_leads_to_every_page():
    assert list(strays()) == []


def test_the_reference_has_every_public_name():
    pages = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    named = re.findall(r"^::: igpt(?:\.\w+)*\.(\w+)$", pages, flags=re.MULTILINE)
    assert sorted([*named, "__version__"]) == dir(igpt)


def test_the_guide_to_reproducing_has_every_claim_and_where_it_is_in_the_paper():
    page = (DOCS / "guides" / "reproduce.md").read_text()
    rows = re.findall(r"^\| (.+) \| `(.+)` \|$", page, flags=re.MULTILINE)
    assert {(claim.source, name) for name, claim in igpt.CLAIMS.items()} == set(rows)


def test_the_guide_to_serving_has_every_request():
    page = (DOCS / "guides" / "serve.md").read_text()
    paths = create_app(Models([], device="cpu"), None).openapi()["paths"]
    requests = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert requests == set(re.findall(r"^\| `((?:GET|POST) .+?)` \|", page, flags=re.MULTILINE))


def test_what_a_page_would_load_from_elsewhere_is_a_fault_and_so_is_a_dead_link(tmp_path):
    (tmp_path / "a.html").write_text(
        '<script src="https://cdn.example/x.js"></script><link href="//fonts.example/f.css">'
        '<a href="https://example.org">a link may leave</a><a href="b.html#here">good</a>'
        '<a href="b.html#there">bad</a><img src="no.png"><a href="#own">bad</a>'
    )
    (tmp_path / "b.html").write_text('<h1 id="here"></h1><a href="/a.html"></a>')
    assert list(site_faults(tmp_path)) == [
        "a.html loads https://cdn.example/x.js",
        "a.html loads //fonts.example/f.css",
        "a.html: no.png is not there",
        "a.html: b.html#there has no such anchor",
        "a.html: #own has no such anchor",
    ]


def test_on_the_site_a_link_to_a_file_outside_leads_to_a_page_that_shows_it():
    pages = []
    text = "[a](../../src/igpt/errors.py) [b](../trust.md#reading)\n```\n[c](../../LICENSE)\n```\n"
    moved = linked(text, DOCS / "guides" / "x.md", pages)
    assert moved.startswith("[a](../source/src/igpt/errors.py.md) [b](../trust.md#reading)\n")
    assert moved.endswith("[c](../../LICENSE)\n```\n")
    assert [page.name for page in pages] == ["errors.py"]
