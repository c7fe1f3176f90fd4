"""Files of the server's page: its own, and the scripts and style sheets that it shares with reports.

All of them are read when the server starts: a request can name a file of this list, and no path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pipeline.report

PAGE_FOLDER = Path(__file__).parent / "page"
REPORT_FOLDER = Path(pipeline.report.__file__).parent / "templates"
# Media types by suffix, not those of the host's table, which may lack some.
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass(frozen=True)
class PageFile:
    """A file of the page."""

    content: bytes
    media_type: str


def read_page_files() -> dict[str, PageFile]:
    """Return the files by path: `/`, and `/page/NAME` for all others."""
    files = {}
    for folder in (REPORT_FOLDER, PAGE_FOLDER):
        for path in sorted(folder.glob("*")):
            if path.suffix in _TYPES:
                files[f"/page/{path.name}"] = PageFile(path.read_bytes(), _TYPES[path.suffix])
    files["/"] = PageFile((PAGE_FOLDER / "index.html").read_bytes(), "text/html")
    return files
