"""The site, built and opened from its files: links, no other host, no complaint, no sideways scrolling on a phone, search."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import PROGRAM, Browser

pytest.importorskip("mkdocs")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site's folder; a warning of the build, such as a link that leads nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no Chromium on this machine")
    with Browser() as opened:
        yield opened


class References(HTMLParser):
    """The addresses that a page refers to, and the names of its places."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.places: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src"):
                self.addresses.append(value or "")
            elif name in ("id", "name"):
                self.places.add(value or "")


def test_every_address_on_every_page_is_a_file_of_the_site_or_a_plain_link(site: Path) -> None:
    pages = {page: References(page) for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) > 20
    for page, references in pages.items():
        for address in references.addresses:
            parts = urlsplit(address)
            if parts.scheme or not address:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert target.exists(), f"{page.relative_to(site)} refers to {address}"
            if parts.fragment and target in pages and parts.fragment != "__skip":
                assert unquote(parts.fragment) in pages[target].places, f"{page.relative_to(site)} refers to {address}"


def test_mathematics_is_markup_and_no_dollar_is_left(site: Path) -> None:
    page = (site / "theory.html").read_text(encoding="utf-8")
    assert page.count("<math") > 20 and "$" not in page.split("<article", 1)[1].split("</article>", 1)[0]


def test_pages_open_from_files_without_a_complaint_or_another_host_and_fit_a_phone(site: Path, browser: Browser) -> None:
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html":  # for servers: it refers to the root of one
            continue
        browser.open(page.as_uri(), 1280)
        name = page.relative_to(site)
        assert browser.complaints() == [], name
        assert [address for address in browser.requests() if not address.startswith(("file:", "data:", "about:"))] == [], name
        assert browser.value("document.querySelectorAll('main h1').length") == 1, name
        browser.resize(400)
        assert browser.value("document.documentElement.scrollWidth") <= 400, name


def test_search_finds_a_function_without_a_server(site: Path, browser: Browser) -> None:
    browser.open((site / "index.html").as_uri(), 1280)
    browser.value(
        "document.querySelector('#__search').click();"  # opens the search: only then does a page from a file read its index
        "const field = document.querySelector('.md-search__input'); field.focus(); field.value = 'stable_belm';"
        "field.dispatchEvent(new Event('input', {bubbles: true})); field.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}))"
    )
    until = time.monotonic() + 60.0
    while not browser.value("document.querySelectorAll('.md-search-result__item').length") and time.monotonic() < until:
        time.sleep(0.2)
    found = browser.value("[...document.querySelectorAll('.md-search-result__item a')].map(a => a.textContent).join(' ')")
    assert "stable_belm" in found
