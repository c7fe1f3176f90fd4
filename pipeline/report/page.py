"""The shell of all report pages: one HTML file without any reference to another, and the parts that fill it.

Functions return HTML. A parameter called `html` or `body` is put in as it is; every other text is escaped.
"""

from __future__ import annotations

import html as _html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.config import flat_values
from pipeline.io.files import write_text_atomically
from pipeline.report.style import CSS

# The browser itself refuses whatever is not in the file, should a change ever let a reference in.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Section:
    """A titled part of a page; `note` is a sentence or two on how to read it."""

    title: str
    body: str
    note: str = ""


def escape(text: object) -> str:
    """Text fit for HTML content and quoted attributes."""
    return _html.escape(str(text), quote=True)


def percent(value: float, digits: int = 1) -> str:
    """`0.973` as `97.3 %`; what is not quite all or nothing is never shown as such."""
    scaled, edge = 100.0 * value, 0.5 * 10.0**-digits
    if 100.0 - edge <= scaled < 100.0:
        return f">\u202f{100.0 - 10.0**-digits:.{digits}f}\u202f%"
    if 0.0 < scaled < edge:
        return f"<\u202f{10.0**-digits:.{digits}f}\u202f%"
    return f"{scaled:.{digits}f}\u202f%"


def render_page(
    title: str, sections: Sequence[Section], facts: Mapping[str, str] | None = None, body: str = ""
) -> str:
    """The whole page: title, `facts` in a line, `body` (the headline figures), then the sections with links to them."""
    links = "".join(f'<a href="#part-{i}">{escape(section.title)}</a>' for i, section in enumerate(sections))
    parts = "\n".join(_section(i, section) for i, section in enumerate(sections))
    head = f'<section aria-label="Headline figures">{body}</section>' if body else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="melray">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
{fact_list(facts or {})}
<nav aria-label="Sections">{links}</nav>
</header>
<main>
{head}
{parts}
</main>
<footer>Made by melray. This page needs no network: everything is inside the file.</footer>
</body>
</html>
"""


def _section(index: int, section: Section) -> str:
    note = f'<p class="note">{escape(section.note)}</p>' if section.note else ""
    title = f'<h2 id="part-{index}">{escape(section.title)}</h2>'
    return f'<section aria-labelledby="part-{index}">\n{title}\n{note}\n{section.body}\n</section>'


def write_page(path: Path, html: str) -> None:
    """Writes the page in full or not at all; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A file name that is not UTF-8 reaches us with lone surrogates, which cannot be written.
    write_text_atomically(path, html.encode("utf-8", "backslashreplace").decode("utf-8"))


def fact_list(facts: Mapping[str, str]) -> str:
    """Short facts side by side, such as the data set and the device."""
    items = "".join(
        f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items()
    )
    return f'<dl class="facts">{items}</dl>' if items else ""


def cards(figures: Iterable[tuple[str, str, str]]) -> str:
    """Headline figures as cards, each of (name, value, a few words on its meaning)."""
    items = (
        f'<div><dt>{escape(name)}</dt><dd class="value">{escape(value)}</dd><dd class="why">{escape(why)}</dd></div>'
        for name, value, why in figures
    )
    return f'<dl class="cards">{"".join(items)}</dl>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, kind: str = "") -> str:
    """A table whose first column names the row. `rows` hold HTML; a head that ends in `#` is a column of numbers."""
    align = [' class="number"' if name.endswith("#") else "" for name in head]
    top = "".join(
        f'<th scope="col"{a}>{escape(name.removesuffix("#"))}</th>'
        for name, a in zip(head, align, strict=True)
    )
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td{a}>{cell}</td>" for cell, a in zip(rest, align[1:], strict=True))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return scroll(
        f'<table class="{escape(kind)}"><caption>{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>",
        caption,
    )


def scroll(html: str, label: str) -> str:
    """A box that scrolls sideways on a narrow screen; it can be reached by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{html}</div>'


def panel(html: str) -> str:
    """A white card around a chart or table."""
    return f'<div class="panel">{html}</div>'


def bar(value: float) -> str:
    """A ratio in [0, 1] as text with a small bar."""
    return f'<div class="ratio"><span>{percent(value)}</span><div class="bar"><i style="width:{100 * value:.1f}%"></i></div></div>'


def settings(values: Mapping[str, Any], title: str) -> str:
    """Nested settings as a collapsed table of dotted keys."""
    rows = [[escape(key), escape(value)] for key, value in flatten(values)]
    return f"<details><summary>{escape(title)}</summary>{table(['setting', 'value'], rows, 'Nested keys are joined by dots', 'settings')}</details>"


def flatten(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested mappings as (dotted key, text of the value), in their order."""

    def text(value: Any) -> str:
        if isinstance(value, (list, tuple)):
            return ", ".join(map(str, value))
        return "none" if value is None else str(value)

    return [(key, text(value)) for key, value in flat_values(values).items()]
