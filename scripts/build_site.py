"""Build the documentation site into site/, as `make docs` does.

Pages are the Markdown files of docs/, as one reads them in the repository; Zensical makes a site of
them, and mkdocstrings the Python reference of the docstrings. This script lays the pages out in
build/docs with what the site has and the repository need not: the commands' help, and a page for
every file outside docs/ that some page links to, so that a reader of the site follows the same
links. Whatever is wrong ends the build: a dead link or anchor, a page that no navigation leads to,
anything a page would load from elsewhere.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
DOCS, LAID_OUT, SITE = ROOT / "docs", ROOT / "build" / "docs", ROOT / "site"
HELP = "<!-- the help of every command -->"
LINK = re.compile(r"(\]\()([^)#\s:]+)(#[^)\s]*)?(\))")
FENCED = re.compile(r"^(```.*?^```\n)", flags=re.DOTALL | re.MULTILINE)


def main() -> None:
    """Lay the pages out, build the site strictly, and check what was built."""
    shutil.rmtree(LAID_OUT, ignore_errors=True)
    shutil.copytree(DOCS, LAID_OUT)
    lay_out([page for page in sorted(DOCS.rglob("*.md"))])
    subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--clean", "--strict"],
        cwd=ROOT,
        check=True,
    )
    if faults := [*strays(), *site_faults(SITE)]:
        sys.exit("\n".join(faults))


def place(file: Path) -> Path:
    """Return where a file of the repository lies among the pages."""
    if file.is_relative_to(DOCS):
        return LAID_OUT / file.relative_to(DOCS)
    inside = file.relative_to(ROOT)
    return (
        LAID_OUT
        / "source"
        / (inside if file.suffix == ".md" else inside.with_name(f"{inside.name}.md"))
    )


def lay_out(pages: list[Path]) -> None:
    """Write each page, and each file that one of them links to, with links to where these lie."""
    for file in pages:  # grows, as links are found
        text = file.read_text()
        if file.suffix == ".md":
            text = linked(text, file, pages)
        else:
            text = f"# `{file.relative_to(ROOT)}`\n\n````{file.suffix[1:]}\n{text}````\n"
        place(file).parent.mkdir(parents=True, exist_ok=True)
        place(file).write_text(text.replace(HELP, commands() if HELP in text else ""))


def linked(text: str, file: Path, pages: list[Path]) -> str:
    """Return a page's text with links as they are among the pages; `pages` gets what they want."""

    def moved(link: re.Match[str]) -> str:
        target = (file.parent / link[2]).resolve()
        if target.is_file() and target not in pages and not target.is_relative_to(DOCS):
            pages.append(target)
        there = (
            os.path.relpath(place(target), place(file).parent)
            if target.is_relative_to(ROOT)
            else link[2]
        )
        return f"{link[1]}{there}{link[3] or ''}{link[4]}"

    parts = FENCED.split(text)
    return "".join(part if FENCED.match(part) else LINK.sub(moved, part) for part in parts)


def commands() -> str:
    """Return the help of every command as Markdown, its examples as blocks of code."""
    from igpt.cli import app

    text = app().generate_docs(output_format="markdown")
    text = text[text.index("\n## igpt ") + 1 :].replace("```console", "```")
    return re.sub(r"\n\n((?:igpt .*\n)+)\n", r"\n\n```\n\1```\n\n", text)


def strays() -> Iterator[str]:
    """Yield what the navigation lacks of the pages."""
    nav = str(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    for page in sorted(DOCS.rglob("*.md")):
        if f"'{page.relative_to(DOCS).as_posix()}'" not in nav:
            yield f"zensical.toml: nav has no {page.relative_to(DOCS)}"


class _Links(HTMLParser):
    """What a built page loads, where it leads, and its anchors."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sort what a tag names."""
        have = {name: value or "" for name, value in attrs}
        self.anchors |= {have[name] for name in ("id", "name") if name in have}
        if tag == "a":
            self.leads += [have["href"]] if "href" in have else []
        else:
            self.loads += [have[name] for name in ("src", "href", "data", "poster") if name in have]


def site_faults(site: Path) -> Iterator[str]:
    """Yield what built pages would load from elsewhere, and which of their links lead nowhere."""
    pages = {page: _Links(page.read_text()) for page in sorted(site.rglob("*.html"))}
    for page, found in pages.items():
        name = page.relative_to(site)
        yield from (
            f"{name} loads {address}" for address in found.loads if urlsplit(address).netloc
        )
        for address in dict.fromkeys((*found.loads, *found.leads)):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            start = site if parts.path.startswith("/") else page.parent
            target = (start / parts.path.lstrip("/")).resolve() if parts.path else page
            if not target.exists():
                yield f"{name}: {address} is not there"
            elif parts.fragment and target in pages and parts.fragment not in pages[target].anchors:
                yield f"{name}: {address} has no such anchor"


if __name__ == "__main__":
    main()
