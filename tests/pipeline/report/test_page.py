"""Rendering of pages: text of numbers and settings, escaping, and atomic writing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.report.page import breakable, flatten, percent, write_page
from tests.helpers.html_page import Page, parse_checked


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "test.html.j2").write_text(
        '{% extends "page.html.j2" %}\n{% import "macros.html.j2" as m with context %}\n'
        "{% block content %}{% call m.section(name) %}{{ m.settings(settings) }}{% endcall %}{% endblock %}"
    )
    return folder


def render(folder: Path, templates: Path, **values: object) -> str:
    path = folder / "deep" / "er" / "page.html"
    defaults = {"title": "Title", "summary": {}, "name": "Name", "settings": {}}
    write_page(path, "test.html.j2", templates, **(defaults | values))
    assert os.listdir(path.parent) == [path.name]
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("evil", ["</script><script>alert(1)</script>", "\"'&<>", "犬 <b x='", "{{ 7 * 7 }}"])
def test_values_are_escaped(evil: str, tmp_path: Path, templates: Path) -> None:
    text = render(tmp_path, templates, title=evil, name=evil, summary={evil: evil}, settings={evil: [evil]})
    page = parse_checked(text)
    assert page.sections == [evil]
    assert page.tables == [[["setting", "value"], [evil, evil]]]
    # Title, heading, summary, table of contents, section, setting.
    assert page.text.count(evil) == 8


def test_surrogates_of_file_names_are_written_as_escapes(tmp_path: Path, templates: Path) -> None:
    assert "caf\\udce9" in Page(render(tmp_path, templates, name=os.fsdecode(b"caf\xe9"))).sections


def test_failed_write_keeps_the_old_page(
    tmp_path: Path, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = render(tmp_path, templates)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        render(tmp_path, templates, name="new")
    folder = tmp_path / "deep" / "er"
    assert os.listdir(folder) == ["page.html"]
    assert (folder / "page.html").read_text(encoding="utf-8") == before


def test_percent_does_not_round_to_none_or_all() -> None:
    values = [percent(value).replace("\u202f", " ") for value in (0, 0.0001, 0.123, 0.9999, 1)]
    assert values == ["0.0 %", "< 0.1 %", "12.3 %", "> 99.9 %", "100.0 %"]
    assert [percent(value, 0).replace("\u202f", " ") for value in (0.97, 0.996, 1)] == [
        "97 %",
        "> 99 %",
        "100 %",
    ]


def test_nested_settings_become_dotted_keys() -> None:
    values = {"optimizer": {"name": "adamw", "betas": [0.9, 0.95]}, "resume": None, "epochs": 3}
    assert flatten(values) == [
        ("optimizer.name", "adamw"),
        ("optimizer.betas", "0.9, 0.95"),
        ("resume", "none"),
        ("epochs", "3"),
    ]


def test_breakable_keys_are_escaped() -> None:
    assert breakable("a.b_<c>") == "a.<wbr>b_<wbr>&lt;c&gt;"
