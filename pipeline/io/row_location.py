"""Locations of files that are values in Parquet files: `train.parquet#000017/dog.wav` is that of row 17.

They are used like paths and URIs. The name at the end is only shown; the options of a URI follow it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import is_store_uri, to_path

# Zero-padded, so that locations sort as the rows do.
_DIGITS = 6
_LOCATION = re.compile(r"(.+\.parquet)#(\d+)(?:/[^/]*)?", re.DOTALL | re.IGNORECASE)


class RowLocation(NamedTuple):
    """A row of a Parquet file."""

    file: str
    """Path or URI of the Parquet file."""
    row: int
    """Counted from 0 over all row groups."""


def row_suffix(row: int, name: str = "") -> str:
    """Return what follows the Parquet file in the location of a row; of `name`, only the file's name."""
    base = re.split(r"[/\\]", name.strip())[-1]
    return f"#{row:0{_DIGITS}d}" + (f"/{base}" if base else "")


def row_path(file: Path, suffix: str) -> str:
    """Return the location of a row of a local or remote file."""
    return str(file.with_key(file.key + suffix)) if isinstance(file, RemotePath) else f"{file}{suffix}"


def parse_row(path: str) -> RowLocation | None:
    """Return the row of a location; None for the path or URI of a file."""
    if ".parquet#" not in path.lower():
        return None
    remote = to_path(path) if is_store_uri(path) else None
    match = _LOCATION.fullmatch(path if remote is None else remote.key)
    if match is None:
        return None
    return RowLocation(match[1] if remote is None else str(remote.with_key(match[1])), int(match[2]))
