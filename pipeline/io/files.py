"""Files that are there whole or not at all, and files of settings."""

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
    """Calls `write(file)` on a temporary file beside `path`, and gives it its name when all is on the disk.

    To a store, all is sent when it is complete.
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
    """Replaces the text file `path` in one step."""
    write_atomically(path, lambda file: file.write(text.encode()))


def file_names(labels: Sequence[str]) -> dict[str, str]:
    """A name for each label that may stand in any file system and cannot leave its folder; no two are the same, in any case."""
    names: dict[str, str] = {}
    for label in labels:
        plain = re.sub(r"[^\w\- ]", "_", unicodedata.normalize("NFC", label)).strip()
        # Cut by bytes, as file systems count, with room for what is added to it.
        plain = plain.encode("utf-8", "replace")[:80].decode("utf-8", "ignore").strip() or "_"
        name, number = plain, 2
        while name.casefold() in {other.casefold() for other in names.values()}:
            name, number = f"{plain}_{number}", number + 1
        names[label] = name
    return names


def read_yaml(path: Path, flag: str) -> dict[str, Any]:
    """The keys and values of a file that `flag` names.

    Raises:
        UserError: no such file, not YAML, or not keys and values.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{flag} {path}: no such file") from None
    except yaml.YAMLError as error:
        raise UserError(f"{flag} {path}: not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{flag} {path}: must hold keys and values, not a {type(values).__name__}")
    return values
