"""Parsed report pages, and checks that apply to every page."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from html.parser import HTMLParser
from typing import Any

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
# Names that break a page which does not escape them.
EVIL_NAMES = (
    "</script><script>alert(1)</script>",
    "\"quoted\" & 'single'",
    "犬 été",
    "</title></style><b x='",
    os.fsdecode(b"caf\xe9"),
)
VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """HTML parser that checks balanced tags and stores elements, text, scripts and charts."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        """Text of the page, without scripts and the style sheet."""
        self.scripts: list[str] = re.findall(SCRIPT, text)
        """Scripts that run."""
        self.charts: list[dict[str, Any]] = []
        """Figures: `data` and `layout` of Plotly, with `title` and `description`."""
        self.tables: list[list[list[str]]] = []
        """Cells of each table by row, the header first."""
        self.sections: list[str] = []
        """Titles in the table of contents."""
        self._title = self._json = ""
        # Parsing the code of Plotly takes half a second.
        self.feed(re.sub(SCRIPT, "<script></script>", text))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
        elif tag == "script":
            self._json = ""
        elif tag == "figure":
            self._title = ""
        elif tag == "a":
            self.sections.append("")

    def handle_startendtag(self, tag, attrs):
        raise AssertionError(f"<{tag}/> is not HTML")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "script" and self.tags[-1][1].get("type") == "application/json":
            plots = [attrs for _, attrs in self.tags if attrs.get("class") == "plot"]
            chart = {"title": self._title.strip(), "description": plots[-1]["aria-label"]}
            self.charts.append(json.loads(self._json, parse_constant=_reject_constant) | chart)

    def handle_data(self, data):
        if "script" in self.open:
            self._json += data
            return
        if "style" in self.open:
            return
        self.text += data
        if "figcaption" in self.open:
            self._title += data
        if "a" in self.open:
            self.sections[-1] += data
        if "th" in self.open or "td" in self.open:
            self.tables[-1][-1][-1] += data

    def find_all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element with this tag."""
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self) -> str:
        """The text with a single space for any white space."""
        return " ".join(self.text.split())

    def chart(self, title: str) -> dict[str, Any]:
        """Return the figure with this title, or whose description begins with it."""
        (chart,) = [
            chart
            for chart in self.charts
            if chart["title"] == title or (not chart["title"] and chart["description"].startswith(title))
        ]
        return chart


def _reject_constant(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def parse_checked(text: str) -> Page:
    """Parse a page after asserting that it is self-contained and accessible."""
    page = Page(text)
    assert_self_contained(text, page)
    assert_accessible(page)
    return page


def assert_self_contained(text: str, page: Page) -> None:
    """Assert that a page refers to nothing outside itself and that its policy allows only its own scripts."""
    for tag, attrs in page.tags:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        assert not [key for key in attrs if key.startswith("on")]
        assert tag != "script" or "src" not in attrs
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert attrs.get(key, "#") == "#" or attrs[key].startswith(("#", "data:")), (tag, attrs)
    rest = re.sub(r"base64,[\w+/=]+", "", re.sub(SCRIPT, "", text))
    assert not re.search(r"https?:|//[a-z]+\.|url\(|@import", rest)
    (policy,) = [
        attrs["content"]
        for attrs in page.find_all("meta")
        if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    directives = dict(entry.strip().split(" ", 1) for entry in policy.split(";"))
    hashes = {
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in page.scripts
    }
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "media-src": "data:",
        "style-src": "'unsafe-inline'",
        "script-src": directives["script-src"],
    }
    assert set(directives["script-src"].split()) == hashes


def assert_accessible(page: Page) -> None:
    """Assert a language, labels of figures, images, audio and tables, scopes of headers, and valid links."""
    assert page.find_all("html")[0]["lang"] == "en"
    plots = [attrs for _, attrs in page.tags if attrs.get("class") == "plot"]
    assert len(plots) == len(page.charts)
    assert all(attrs["role"] == "img" and attrs["aria-label"] for attrs in plots)
    assert all(attrs["alt"] for attrs in page.find_all("img"))
    assert all(attrs["aria-label"] and "controls" in attrs for attrs in page.find_all("audio"))
    assert all(attrs["scope"] in {"col", "row"} for attrs in page.find_all("th"))
    assert len(page.find_all("caption")) == len(page.find_all("table"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for attrs in page.find_all("a")} == {f"#{name}" for name in ids}
