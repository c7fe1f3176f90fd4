"""Parsed report pages, and checks that apply to every page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """HTML parser that checks balanced tags and stores all attributes and text."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def find_all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element with this tag."""
        return [attrs for name, attrs in self.tags if name == tag]


def assert_self_contained(text: str) -> None:
    """Assert that a page has no script and no reference to anything outside itself."""
    page = Page(text)
    for tag, attrs in page.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base"}
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert attrs.get(key, "#") == "#" or attrs[key].startswith(("#", "data:")), (tag, attrs)
    assert not re.search(r"https?:|//[a-z]+\.|url\(|@import", re.sub(r"base64,[\w+/=]+", "", text))
    assert [attrs for attrs in page.find_all("meta") if "default-src 'none'" in (attrs.get("content") or "")]


def assert_accessible(page: Page) -> None:
    """Assert a language, labels of images, audio and tables, scopes of headers, and valid links."""
    assert page.find_all("html")[0]["lang"] == "en"
    for attrs in page.find_all("svg"):
        assert attrs.get("aria-hidden") == "true" or (attrs["role"] == "img" and attrs["aria-label"])
    assert all(attrs["alt"] for attrs in page.find_all("img"))
    assert all(attrs["aria-label"] and "controls" in attrs for attrs in page.find_all("audio"))
    assert all(attrs["scope"] in {"col", "row"} for attrs in page.find_all("th"))
    assert len(page.find_all("caption")) == len(page.find_all("table"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for attrs in page.find_all("a")} == {f"#{name}" for name in ids}
