"""Content of an output folder: which command of melray wrote it, so that no other command replaces it."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError, report_os_errors

Content = Literal[
    "dataset", "generated dataset", "generated audio", "training run", "ensemble", "search", "predictions"
]
# File by which a folder is recognized; a generated dataset has the manifest of a dataset.
_MARKERS: tuple[tuple[Content, str], ...] = (
    ("dataset", "_manifest.json"),
    ("search", "search.json"),
    ("training run", "crossval.json"),
    ("training run", "model.safetensors"),
    ("training run", "metrics.jsonl"),
    ("ensemble", "ensemble.json"),
    ("generated audio", "generated.csv"),
    ("predictions", "predictions.parquet"),
)


def folder_content(folder: Path) -> Content | None:
    """Return what a folder contains; None if it is missing, empty, or not written by melray.

    Raises:
        OSError: the folder cannot be read.
    """
    # At the same time: an object store takes tens of milliseconds for each.
    found = map_concurrently(lambda marker: (folder / marker[1]).is_file(), _MARKERS)
    for (content, name), is_there in zip(_MARKERS, list(found), strict=True):
        if is_there:
            is_generated = content == "dataset" and "generator" in _source(folder / name)
            return "generated dataset" if is_generated else content
    return None


def _source(manifest: Path) -> dict[str, Any]:
    """Return the source of a dataset, or nothing if its manifest is damaged."""
    try:
        source = json.loads(manifest.read_text(encoding="utf-8"))["source"]
    except (ValueError, TypeError, KeyError):
        return {}
    return source if isinstance(source, dict) else {}


def check_output_folder(folder: Path, allowed: Collection[str], flag: str = "--out", hint: str = "") -> None:
    """Raise `UserError` if a folder contains results of another command, which would be mixed or replaced.

    Folders that are empty, missing or not written by melray are accepted; their files are kept.

    Args:
        folder: the output folder.
        allowed: values of `Content` that the command updates or replaces.
        flag: command-line flag of the folder.
        hint: end of the message, such as `, or add --overwrite to replace it`.
    """
    with report_os_errors("reading", folder):
        content = folder_content(folder)
    if content is not None and content not in allowed:
        raise UserError(f"{flag} {folder} contains {with_article(content)}; choose another {flag}{hint}")


def with_article(content: str) -> str:
    """Return what a folder contains for the middle of a sentence."""
    if content in ("generated audio", "predictions"):
        return content
    return f"{'an' if content == 'ensemble' else 'a'} {content}"
