"""Rows of the manifest: columns, ids, and the conversion of records to a table."""

from __future__ import annotations

import itertools
import os
import unicodedata
from collections.abc import Iterable

import pandas as pd

from pipeline.audio.file_types import AV_EXTENSIONS, ending, has_av
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import FileStatus
from pipeline.io.storage import is_store_uri

COLUMNS = ("clip_id", "path", "label", "fold", "group", "size", "mtime_ns")
NO_FOLD = -1
MAX_FOLD = 2**31 - 1
# Maximum number of records held as Python objects at a time.
CHUNK_ROWS = 50_000
MAX_SHOWN_NAME = 200
# Modification time of a clip that this process cannot read: once it can, the clip is another one, which is
# read again instead of rejected as before.
UNREADABLE = -1


def normalize_id(text: str) -> str:
    """Return an id, label or group in composed Unicode form (NFC), in which equal texts are equal strings.

    File names written on macOS are often decomposed: "é" is "e" and an accent.
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def clip_record(
    clip_id: str, path: str, label: str, status: FileStatus, fold: int = NO_FOLD, group: str = ""
) -> tuple:
    """Return a manifest row; a clip without a group is its own group.

    Raises:
        UserError: the name of the file is not valid UTF-8.
    """
    try:
        if not (clip_id.isascii() and path.isascii()):
            clip_id.encode()
            path.encode()
    except UnicodeEncodeError:
        raise UserError(
            f"file name {clip_id!r} is not valid UTF-8; rename it, or all with `convmv -f cp1252 -t utf8 -r`"
        ) from None
    clip_id = normalize_id(clip_id)
    mtime_ns = status.mtime_ns if can_be_read(path) else UNREADABLE
    return clip_id, path, normalize_id(label), fold, normalize_id(group) or clip_id, status.size, mtime_ns


def can_be_read(path: str) -> bool:
    """Return whether this process may read a file, and can decode one of that ending."""
    if ending(path) in AV_EXTENSIONS and not has_av():
        return False
    if is_store_uri(path) or "\0" in path:
        return True
    return os.access(path, os.R_OK) or not os.path.lexists(path)


def to_table(records: Iterable[tuple]) -> pd.DataFrame:
    """Convert records to a table in chunks: as Python objects, millions take many times the memory."""
    source, chunks = iter(records), []
    while chunk := list(itertools.islice(source, CHUNK_ROWS)):
        chunks.append(pd.DataFrame(chunk, columns=list(COLUMNS)))
    return pd.concat(chunks, ignore_index=True) if chunks else pd.DataFrame(columns=list(COLUMNS))


def shown(name: str) -> str:
    """Return a name in quotes for a message of one line: control characters escaped, and not too long."""
    return repr(name if len(name) <= MAX_SHOWN_NAME else f"{name[:MAX_SHOWN_NAME]}…")


def shown_list(names: Iterable[str], count: int = 5) -> str:
    """Return the first names in quotes, and the number of the others."""
    first = list(names)
    others = f" and {len(first) - count} more" if len(first) > count else ""
    return ", ".join(map(shown, first[:count])) + others


def sort_by_id(clips: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the clips sorted by id.

    Raises:
        UserError: two clips have the same id.
    """
    clips = clips.sort_values("clip_id", ignore_index=True)
    # Duplicates are adjacent in the sorted table; a set of all ids would take as much memory as the table.
    same_id = clips["clip_id"].eq(clips["clip_id"].shift())
    if not same_id.any():
        return clips
    duplicates = clips.index[same_id]
    first, second = (clips.loc[position] for position in (duplicates[0] - 1, duplicates[0]))
    if first["path"] != second["path"]:
        same_name = normalize_id(first["path"]) == normalize_id(second["path"])
        reason = ", as they differ only in Unicode form; rename one of them" if same_name else ""
        raise UserError(
            f"{name}: {first['path']!a} and {second['path']!a} have the same id "
            f"{shown(first['clip_id'])}{reason}"
        )
    several = ", or add --multi-label if a file has several classes" if first["label"] else ""
    raise UserError(
        f"{name}: {len(duplicates)} duplicate paths, e.g. {shown(first['clip_id'])}; "
        f"list each path in one row only{several}"
    )
