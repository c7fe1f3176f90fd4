"""Rendering of report pages: one HTML file per report, from the Jinja2 templates in `templates/`.

Text is escaped by the templates. The page allows no network: the Content-Security-Policy permits nothing but
data URIs, the inline style sheet and the page's scripts, which are identified by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from models.config import flat_values
from pipeline.io.console import duration
from pipeline.io.files import write_atomically

TEMPLATES = Path(__file__).parent / "templates"
UNDEFINED = "n/a"


def write_page(
    path: Path,
    template: str,
    folder: Path = TEMPLATES,
    scripts: tuple[str, ...] | None = None,
    links_media: bool = False,
    **values: Any,
) -> None:
    """Render a template and write the page atomically; create its folder.

    Args:
        path: HTML file.
        template: name of a template that extends `page.html.j2`.
        folder: folder of the template.
        scripts: names of its scripts in `templates/`; by default Plotly with the script of figures.
        links_media: whether it refers to an audio file next to it.
        values: variables of the template, with `title` and `summary`, short facts by name.
    """
    policy = _policy(scripts) + ("; media-src data: file: 'self'" if links_media else "; media-src data:")
    # In pieces: a page with audio has tens of MB.
    pieces = (
        _environment(folder)
        .get_template(template)
        .generate(toc=[], scripts=_scripts(scripts), policy=policy, **values)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # File names that are not UTF-8 hold lone surrogates, which cannot be encoded.
    encoded = (piece.encode("utf-8", "backslashreplace") for piece in pieces)
    write_atomically(path, lambda file: file.writelines(encoded))


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "number": number,
        "duration": duration,
        "flatten": flatten,
        "breakable": breakable,
    }
    return environment


@cache
def _scripts(names: tuple[str, ...] | None) -> tuple[Markup, ...]:
    if names is None:
        return Markup(get_plotlyjs()), *_scripts(("figures.js",))
    return tuple(Markup((TEMPLATES / name).read_text(encoding="utf-8")) for name in names)


@cache
def _policy(names: tuple[str, ...] | None) -> str:
    digests = [hashlib.sha256(script.encode()).digest() for script in _scripts(names)]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}"


def percent(value: float | None, digits: int = 1) -> str:
    """Format 0.973 as `97.3 %`; values just below 1 or above 0 are not rounded to them, but as `> 99.9 %`.

    None, an undefined value, is `n/a`.
    """
    if value is None:
        return UNDEFINED
    scaled, edge = 100.0 * value, 0.5 * 10.0**-digits
    if 100.0 - edge <= scaled < 100.0:
        return f">\u202f{100.0 - 10.0**-digits:.{digits}f}\u202f%"
    if 0.0 < scaled < edge:
        return f"<\u202f{10.0**-digits:.{digits}f}\u202f%"
    return f"{scaled:.{digits}f}\u202f%"


def number(value: float | None, spec: str = ".2f") -> str:
    """Format a number by a format specification; None, an undefined value, is `n/a`."""
    return UNDEFINED if value is None else format(value, spec)


def breakable(key: str) -> Markup:
    """Return a dotted key as HTML that may be broken after its dots and underscores."""
    # As str: Markup.replace would escape the tags.
    return Markup(str(escape(key)).replace(".", ".<wbr>").replace("_", "_<wbr>"))


def flatten(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Flatten nested mappings to pairs of dotted key and text of the value, in order."""

    def text(value: Any) -> str:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        return "none" if value is None else str(value)

    return [(key, text(value)) for key, value in flat_values(values).items()]
