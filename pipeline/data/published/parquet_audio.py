"""Parquet files with audio in them, as Hugging Face `datasets` writes them: recognized, but not read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audio.file_types import ending, is_hidden
from pipeline.data.clips import shown
from pipeline.data.sources.audio_folders import is_output
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_tree import FolderTree, join, open_tree
from pipeline.io.storage import pyarrow_source, to_path
from pipeline.io.text import plural

# Levels of folders that are searched, as in `default/train/0000.parquet`, and files whose columns are read.
_MAX_DEPTH, _MAX_READ = 2, 5


def refuse_parquet_audio(data: Path, flag: str) -> None:
    """Refuse a folder without audio files whose Parquet files have audio in them, or such a file.

    Raises:
        UserError: it has, and the message states how to get audio files; or it cannot be read.
    """
    with report_os_errors("reading", f"{flag} {data}"):
        paths = _parquet_paths(data)
        audio = ((path.name, column) for path in paths[:_MAX_READ] if (column := _audio_column(path)))
        example, column = next(audio, ("", ""))
    if not column:
        return
    found = f"{plural(len(paths), 'Parquet file')} with the audio inside (column {shown(column)}"
    raise UserError(
        f"{flag} {data}: no audio files, but {found}, e.g. of {shown(example)}): write it to audio files by "
        "the lines under 'Audio in Parquet files' in docs/data-format.md, and pass their folder"
    )


def _parquet_paths(data: Path) -> list[Path]:
    if not data.is_dir():
        return [data] if ending(data.name) == "parquet" else []
    tree = open_tree(data)
    return [to_path(tree.path(name)) for name in _parquet_files(tree, "", _MAX_DEPTH)]


def _parquet_files(tree: FolderTree, folder: str, depth: int) -> Iterator[str]:
    listing = tree.list(folder)
    if is_output(listing):
        return
    yield from (join(folder, name) for name in listing.files if ending(name) == "parquet")
    for name in listing.folders + listing.linked_folders if depth else []:
        if not is_hidden(name):
            yield from _parquet_files(tree, join(folder, name), depth - 1)


def _audio_column(path: Path) -> str | None:
    """Return the column of a Parquet file that has files in it, with content and name; None without one."""
    try:
        with pq.ParquetFile(pyarrow_source(path, partial=True)) as file:
            return next((field.name for field in file.schema_arrow if _is_file(field.type)), None)
    except pa.ArrowInvalid:  # no Parquet file
        return None


def _is_file(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    content = kind.field("bytes").type
    return pa.types.is_binary(content) or pa.types.is_large_binary(content)
