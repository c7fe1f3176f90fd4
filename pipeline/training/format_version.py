"""Versions of file formats: that of the files of a run (config, checkpoints, models), and their check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.io.errors import UserError

FORMAT_VERSION = 2


class FormatVersionError(UserError):
    """Raised for a file written by another version of melray."""


def check_format_version(
    values: Mapping[str, Any],
    path: Path,
    supported: int = FORMAT_VERSION,
    fix: str = "train again in a new --run",
) -> None:
    """Reject the content of a file that was written in another format.

    Args:
        values: content of the file, with its `format_version` (absent before melray 0.2 in most files).
        path: path of the file, for the message.
        supported: version that this melray reads.
        fix: what to do about an older file.

    Raises:
        FormatVersionError: another format version.
    """
    version = values.get("format_version", 1)
    if version == supported:
        return
    if isinstance(version, int) and version > supported:
        raise FormatVersionError(
            f"{path} has format version {version}, this melray reads {supported}: update melray"
        )
    raise FormatVersionError(f"{path} was written by melray < 0.2: {fix}")
