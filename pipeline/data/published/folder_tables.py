"""Which table of a folder lists its audio files, with their classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.audio.file_types import ending, is_hidden
from pipeline.data.clips import shown, shown_list
from pipeline.data.published.audio_search import find_location, relative_folder, sample_files
from pipeline.data.sources.audio_folders import is_output
from pipeline.data.sources.audio_location import AudioLocation
from pipeline.data.sources.clip_table import open_labeled_table, rows_again, table_rows
from pipeline.data.sources.column_names import LABEL_COLUMNS
from pipeline.data.sources.missing_header import open_clip_table
from pipeline.data.sources.one_hot_columns import with_one_hot_columns
from pipeline.data.sources.one_hot_table import OneHotTable
from pipeline.data.sources.row_values import row_value
from pipeline.data.sources.split_folder import SplitFolder
from pipeline.data.sources.split_names import split_of, split_of_cell, splits_in
from pipeline.data.sources.table_columns import Columns, NoLabelColumnError, labeled_columns, path_column
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import FolderTree, join
from pipeline.io.storage import to_path
from pipeline.io.table_files import Table

# Of Parquet files, which may also be large shards with audio in them, only those named so are tables.
METADATA = "metadata"
_TEXT_EXTENSIONS = ("csv", "tsv", "jsonl")
# Rank of tables named like a test or validation split.
_HELD_OUT_RANK = 3
# Folders whose tables are read; a folder with more of them is no dataset with a table in one.
_MAX_FOLDERS = 100


@dataclass(frozen=True)
class FolderTable:
    """A table of a folder and where the files are that it lists."""

    path: Path
    location: AudioLocation


def find_table(tree: FolderTree, data: Path, label_column: str | None) -> FolderTable | None:
    """Return the table that lists the audio files of a folder, as `find_tables`; None if there is none.

    Raises:
        UserError: several tables list audio files, or the only one has no column of classes.
        OSError: an object store cannot be reached.
    """
    found = find_tables(tree, data, label_column)
    if len(found) > 1:
        names = [relative_folder(table.path, data) for table in found]
        raise UserError(
            f"--data {data}: {shown_list(names)} all list audio files of this folder: pass one of these "
            f"tables, such as --data {found[0].path}"
        )
    for table in found:
        _check_labels(table.path, label_column)
    return found[0] if found else None


def find_tables(tree: FolderTree, data: Path, label_column: str | None) -> list[FolderTable]:
    """Return the tables that list the audio files of a folder: of one kind, the first that has any.

    `metadata.*` is preferred to tables that are named like a training split, and these to others. Last are
    those named like a test or validation split, if a column of them states that rows belong to the training
    split (`dev.csv` of FSD50K). Sample submissions are left out.

    Raises:
        OSError: an object store cannot be reached.
    """
    ranked: dict[int, list[str]] = {0: [], 1: [], 2: [], _HELD_OUT_RANK: []}
    for name in _table_names(tree):
        ranked[_rank(name)].append(name)
    for names in ranked.values():
        found = {name: location for name in names if (location := _location(tree, data, name, label_column))}
        if found:
            return [FolderTable(to_path(tree.path(name)), location) for name, location in found.items()]
    return []


def _table_names(tree: FolderTree) -> Iterator[str]:
    """Yield the tables in the root and in the folders in it."""
    root = tree.list("")
    folders = [name for name in root.folders + root.linked_folders if not is_hidden(name)]
    for folder in ["", *folders[:_MAX_FOLDERS]]:
        if split_of(folder) == "held out":
            continue
        try:
            listing = tree.list(folder)
        except OSError:  # an unreadable folder, which is reported otherwise
            continue
        if not is_output(listing):
            yield from (join(folder, name) for name in listing.files if _is_table(name))


def _is_table(name: str) -> bool:
    stem = _stem(name)
    if is_hidden(name) or "submission" in stem:
        return False
    return ending(name) in _TEXT_EXTENSIONS or (ending(name) == "parquet" and stem == METADATA)


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0].lower()


def _rank(name: str) -> int:
    stem, splits = _stem(name), splits_in(_stem(name))
    if stem == METADATA:
        return 0
    return 1 if "train" in splits else _HELD_OUT_RANK if splits else 2


def _location(tree: FolderTree, data: Path, name: str, label_column: str | None) -> AudioLocation | None:
    """Return where the files are that a table lists; None if it is no table of audio files."""
    path = to_path(tree.path(name))
    try:
        with open_clip_table(path, "--data") as plain:
            paths = path_column(plain)
            if paths is None:
                return None
            table, columns = _columns(plain, path, paths, label_column)
            files = sample_files(table, columns)
        is_held_out = _rank(name) == _HELD_OUT_RANK
        if not files or (is_held_out and not _has_training_rows(table, path, columns)):
            return None
    except UserError:
        return None
    bases = list(dict.fromkeys((path.parent, data)))
    location = find_location(path, files, bases, held_out=is_held_out)
    return location and replace(location, split_folder=SplitFolder(0))


def _columns(table: Table, path: Path, paths: int, label_column: str | None) -> tuple[OneHotTable, Columns]:
    """Return a table as it is read, and its columns; that of paths only, if those of classes are missing."""
    try:
        one_hot = with_one_hot_columns(table, label_column, table_rows(path, "--data"))
        return one_hot, labeled_columns(one_hot, label_column)
    except UserError:
        return OneHotTable(table), Columns(paths)


def _has_training_rows(table: OneHotTable, path: Path, columns: Columns) -> bool:
    """Return whether a column states that rows of a table belong to the training split."""
    return any(
        split_of_cell(table.header[position], row_value(values, position)) == "train"
        for _, values in rows_again(table, path, "--data")
        for position in columns.split_candidates
    )


def _check_labels(path: Path, label_column: str | None) -> None:
    with open_labeled_table(path, "--data", label_column) as table:
        try:
            labeled_columns(table, label_column)
        except NoLabelColumnError as error:
            raise UserError(
                f"{table.name}: lists the audio files, but no column has a usual name of classes "
                f"({', '.join(LABEL_COLUMNS)}): name it by --label-column; its columns are "
                f"{', '.join(map(shown, table.header[:20]))}"
            ) from error
