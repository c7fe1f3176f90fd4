"""Reads a report page as a browser would, and checks what holds for all of them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced, and keeps all attributes and text."""

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

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def needs_nothing_else(text: str) -> None:
    """No script, and no reference to anything outside the page."""
    parsed = Page(text)
    for tag, attrs in parsed.tags:
        assert tag not in {"script", "iframe", "object", "embed", "base"}
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert attrs.get(key, "#") == "#" or attrs[key].startswith(("#", "data:")), (tag, attrs)
    assert not re.search(r"https?:|//[a-z]+\.|url\(|@import", re.sub(r"base64,[\w+/=]+", "", text))
    assert [attrs for attrs in parsed.of("meta") if "default-src 'none'" in (attrs.get("content") or "")]


def is_accessible(parsed: Page) -> None:
    """A language, a name for every picture, sound and table, headers with a scope, and links that lead somewhere."""
    assert parsed.of("html")[0]["lang"] == "en"
    for attrs in parsed.of("svg"):
        assert attrs.get("aria-hidden") == "true" or (attrs["role"] == "img" and attrs["aria-label"])
    assert all(attrs["alt"] for attrs in parsed.of("img"))
    assert all(attrs["aria-label"] and "controls" in attrs for attrs in parsed.of("audio"))
    assert all(attrs["scope"] in {"col", "row"} for attrs in parsed.of("th"))
    assert len(parsed.of("caption")) == len(parsed.of("table"))
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"] for attrs in parsed.of("a")} == {f"#{name}" for name in ids}
