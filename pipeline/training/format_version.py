"""Version of the files of a run: `config.json`, checkpoints and models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.io.errors import UserError

FORMAT_VERSION = 2


class FormatVersionError(UserError):
    """Raised for a file of a run written by another version of melray."""


def check_format_version(values: Mapping[str, Any], path: Path) -> None:
    """Reject the content of a file that was written in another format.

    Args:
        values: content of the file, with its `format_version` (absent before melray 0.2 in most files).
        path: path of the file, for the message.

    Raises:
        FormatVersionError: another format version.
    """
    version = values.get("format_version", 1)
    if version == FORMAT_VERSION:
        return
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise FormatVersionError(
            f"{path} has format version {version}, this melray reads {FORMAT_VERSION}: update melray"
        )
    raise FormatVersionError(f"{path} was written by melray < 0.2: train again in a new --run")
