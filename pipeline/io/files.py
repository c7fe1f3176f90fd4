"""Atomic writes, portable file names, and YAML files."""

from __future__ import annotations

import io
import os
import re
import unicodedata
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from pipeline.io.errors import UserError
from pipeline.io.remote_path import RemotePath


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call `write(file)` on a temporary file next to `path`, and rename it to `path` after fsync.

    For an object store, `write` fills a buffer in memory, which is then uploaded in one request.
    """
    if isinstance(path, RemotePath):
        buffer = io.BytesIO()
        write(buffer)
        path.write_bytes(buffer.getvalue())
        return
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text_atomically(path: Path, text: str) -> None:
    """Write or replace the text file `path` atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def file_names(labels: Sequence[str]) -> dict[str, str]:
    """Map each label to a file name that is valid on any file system and cannot escape its folder.

    Names are unique, also on file systems that ignore case.
    """
    names: dict[str, str] = {}
    for label in labels:
        base = re.sub(r"[^\w\- ]", "_", unicodedata.normalize("NFC", label)).strip()
        # File systems limit names to 255 bytes; 80 leave space for a number, an extension and a temporary
        # suffix.
        base = base.encode("utf-8", "replace")[:80].decode("utf-8", "ignore").strip() or "_"
        name, number = base, 2
        while name.casefold() in {other.casefold() for other in names.values()}:
            name, number = f"{base}_{number}", number + 1
        names[label] = name
    return names


def read_yaml(path: Path, flag: str) -> dict[str, Any]:
    """Read a YAML mapping; `flag` is the command-line flag that names the file, for error messages.

    Raises:
        UserError: no such file, invalid YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{flag} {path}: no such file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{flag} {path}: invalid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{flag} {path}: must be a mapping of keys to values, not a {type(values).__name__}")
    return values
