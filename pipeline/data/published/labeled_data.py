"""Labeled clips of a table, or of a folder with a table, and one line of what was recognized."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.audio.file_types import ending
from pipeline.data.annotations.annotated_folder import Events
from pipeline.data.annotations.event_table import has_times, read_event_table, unused_times_warning
from pipeline.data.annotations.settings import LabelConfig
from pipeline.data.clips import normalize_id, shown, shown_list, to_table
from pipeline.data.labels import is_list_text
from pipeline.data.published.audio_search import (
    describe_location,
    find_location,
    relative_folder,
    sample_files,
)
from pipeline.data.published.folder_tables import find_table, find_tables
from pipeline.data.sources.audio_folders import AudioWalk, ClassFolder
from pipeline.data.sources.audio_location import AudioLocation
from pipeline.data.sources.clip_table import open_labeled_table, read_labeled_table, rows_again
from pipeline.data.sources.column_names import plain_name
from pipeline.data.sources.file_finder import plain_path
from pipeline.data.sources.listed_files import NoListedFileError
from pipeline.data.sources.row_values import (
    SEVERAL_CLASSES_FIX,
    file_clip_id,
    is_list_value,
    listed_classes,
    row_value,
)
from pipeline.data.sources.split_column import with_split_column
from pipeline.data.sources.split_names import split_of
from pipeline.data.sources.table_columns import Columns, labeled_columns
from pipeline.data.windows import WindowConfig
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_tree import FolderTree, join, open_tree
from pipeline.io.remote_path import RemotePath
from pipeline.io.text import plural

# What to do with rows that have times, if there is no window.
_EVENTS_FIX = (
    "add --window SECONDS to read rows with times as events, or --multi-label if each file is a clip with "
    "all of its classes"
)


class TableConfig(LabelConfig, WindowConfig):
    """How the rows of a table become clips."""


@dataclass(frozen=True)
class LabeledData:
    """Clips, warnings, and events of each clip if labels have any number of classes."""

    clips: pd.DataFrame
    warnings: list[str]
    events: Events | None = None
    columns: str = ""
    """Which columns of the table were used for what."""
    held_out_files: Sequence[str] = field(default_factory=list)
    """Files of the rows of other splits, as the table writes their paths."""


def read_table(path: Path, config: TableConfig) -> LabeledData:
    """Read the clips of a table, whose files may be in a folder next to it or to its folder.

    Raises:
        UserError: unusable table, files that do not exist, or that are in several folders.
    """
    try:
        return _read(path, config, None)
    except NoListedFileError as error:
        with report_os_errors("reading", f"--data {path}"):
            location = _search(path, config)
        if location is None:
            raise error
    return _read_recognized(path, config, location, path.parent)


def read_folder_table(tree: FolderTree, data: Path, config: TableConfig) -> LabeledData | None:
    """Read the clips of the table that lists the audio files of a folder; None if there is none.

    Raises:
        UserError: several such tables, or unusable ones.
    """
    with report_os_errors("reading", f"--data {data}"):
        table = find_table(tree, data, config.label_column)
    if table is None:
        return None
    folder = relative_folder(table.location.folder, data)
    audio = tree if folder == "." else tree.subtree(folder)
    return _read_recognized(table.path, config, table.location, data, audio)


def unread_table_warning(
    tree: FolderTree, data: Path, config: TableConfig, num_files: int, folders: Collection[str]
) -> list[str]:
    """Return a warning that class folders are read, and not a table that says more about their files.

    That is a column of folds, recordings or splits, with `--multi-label` of several classes, which of
    these `num_files` files belong to the training split, or none of the classes that the `folders` are.
    """
    with report_os_errors("reading", f"--data {data}"):
        for table in find_tables(tree, data, config.label_column):
            try:
                said = _said_by_table(table.path, config, num_files, folders)
            except UserError:  # without classes
                continue
            if said:
                name = shown(table.path.name)
                return [f"class folders are read, not {name} {said}; to read it, pass --data {table.path}"]
    return []


def _said_by_table(path: Path, config: TableConfig, num_files: int, folders: Collection[str]) -> str:
    """Return what a table says about files beyond the classes that are folders; empty for nothing.

    Raises:
        UserError: it cannot be read as a table of clips.
    """
    with open_labeled_table(path, "--data", config.label_column) as table:
        columns = labeled_columns(table, config.label_column)
        columns = with_split_column(table.name, table.header, columns, rows_again(table, path, "--data"))
        listed, classes = set[str](), set[str]()
        for _, values in table.rows():
            listed.add(row_value(values, columns.path))
            classes.update(filter(None, _classes_of(values, columns)))
    used = [columns.split, columns.fold, columns.group]
    if config.multi_label:
        is_list = columns.label_is_list or table.label is not None
        used += [columns.more_labels, columns.label if is_list else None]
    if names := [table.header[column] for column in used if column is not None]:
        return f"with {shown_list(names)} of these files"
    if _are_other_classes(classes, folders):
        return f"with other classes ({shown_list(sorted(classes), 3)}) of these files"
    return f"with {len(listed)} of these {plural(num_files, 'file')}" if len(listed) < num_files else ""


def _are_other_classes(classes: Collection[str], folders: Collection[str]) -> bool:
    """Return whether no class of a table is a folder; unlike numbers, which may stand for the folders."""
    if not classes or all(name.isdecimal() for name in classes):
        return False
    return set(map(plain_name, classes)).isdisjoint(map(plain_name, folders))


def _classes_of(values: Sequence[str], columns: Columns) -> list[str]:
    """Return the classes of a row, which may be in a list."""
    label = normalize_id(row_value(values, columns.label))
    is_list = columns.label_is_list or is_list_text(label) or is_list_value(values, columns.label)
    with suppress(ValueError):  # brackets without a list in them
        return listed_classes(values, columns.label) if is_list else [label]
    return []


def _search(path: Path, config: TableConfig) -> AudioLocation | None:
    with open_labeled_table(path, "--data", config.label_column) as table:
        try:
            files = sample_files(table, labeled_columns(table, config.label_column))
        except UserError:  # columns of event tables, whose paths are written in full
            return None
    return find_location(path, files, [path.parent, *_folder_above(path.parent)])


def _folder_above(folder: Path) -> list[Path]:
    """Return the folder that contains a folder; none for the root of a disk or a bucket."""
    is_root = not folder.parent.is_in_bucket if isinstance(folder, RemotePath) else folder == folder.parent
    return [] if is_root else [folder.parent]


def _read(path: Path, config: TableConfig, location: AudioLocation | None) -> LabeledData:
    is_windowed = config.window is not None
    if config.multi_label or (is_windowed and has_times(path, "--data")):
        read = read_event_table(path, "--data", path.parent, config.label_column, is_windowed, location)
        return LabeledData(read.clips, read.warnings, read.events, read.columns, read.held_out_files)
    unused = [] if is_windowed else unused_times_warning(path, "--data")
    fix = _EVENTS_FIX if unused else SEVERAL_CLASSES_FIX
    table = read_labeled_table(path, config.label_column, location, fix)
    if unused and (files := table.clips["clip_id"][table.clips["clip_id"].duplicated()]).size:
        raise UserError(
            f"--data {path}: several rows with times for a file, e.g. {shown(files.iloc[0])}: {_EVENTS_FIX}"
        )
    return LabeledData(table.clips, unused + table.warnings, None, table.columns, table.held_out_files)


def _read_recognized(
    path: Path, config: TableConfig, location: AudioLocation, base: Path, audio: FolderTree | None = None
) -> LabeledData:
    """Read a table whose files are elsewhere, log what was recognized, and name files without a row.

    `base` is the folder to which names in the line are relative, `audio` the tree of the location's folder.
    Without it only files in the folder of all listed files are named: the folder above that of a table, in
    which these are found, may be that of many other datasets.
    """
    found = _read(path, config, location)
    folder = relative_folder(path.parent, base)
    name = path.name if folder == "." else f"{folder}/{path.name}"
    count = f"{len(found.clips):,} {plural(len(found.clips), 'clip').partition(' ')[2]}"
    logger.info(
        "data: %s (%s; %s) with audio in %s", name, found.columns, count, describe_location(location, base)
    )
    with report_os_errors("reading", f"--data {base}"):
        below = "" if audio is not None else _common_folder(location.folder, found.clips["clip_id"])
        audio = open_tree(location.folder / below) if audio is None else audio
        listed, held_out = found.clips["path"], found.held_out_files
        found.warnings.extend(unlisted_warning(path, audio, listed, held_out, below))
    return found


def _common_folder(root: Path, clip_ids: pd.Series) -> str:
    """Return the deepest folder below `root` in which all of some clips are; empty for `root`."""
    with suppress(ValueError):  # absolute and relative paths
        common = os.path.commonpath({clip_id.rpartition("/")[0] for clip_id in clip_ids})
        # Written in another case, or above `root`, it is not searched for.
        return common if not common.startswith("..") and (root / common).is_dir() else ""
    return ""


def unlisted_warning(
    table: Path, audio: FolderTree, listed: pd.Series, held_out: Iterable[str], below: str = ""
) -> list[str]:
    """Return a warning about audio files without a row, except those of other splits.

    Args:
        table: the table.
        audio: tree of the folder with the audio files.
        listed: paths of the files of its clips.
        held_out: files of its rows of other splits, as it writes their paths.
        below: path of that folder below the one to which the paths in the table are relative.
    """
    clips = to_table(AudioWalk(audio).records([ClassFolder("", "")]))
    clips = clips[~clips["path"].isin(listed)]
    clips["clip_id"] = [join(below, clip_id) for clip_id in clips["clip_id"]]
    others = {name for file in held_out for name in _with_stem(_plain(file))} if len(clips) else set()
    names = [
        clip_id
        for clip_id, path in zip(clips["clip_id"], clips["path"], strict=True)
        if not _is_in_held_out_folder(clip_id) and others.isdisjoint(_names_of(clip_id, path))
    ]
    if not names:
        return []
    return [
        f"{plural(len(names), 'audio file')} without a row in {table.name}, left out: {shown_list(names, 3)}"
    ]


def _is_in_held_out_folder(clip_id: str) -> bool:
    folder, slash, _ = clip_id.partition("/")
    return bool(slash) and split_of(folder) == "held out"


def _names_of(clip_id: str, path: str) -> set[str]:
    """Return the names by which a table may list a file, as by `_plain`."""
    return _with_stem(_plain(clip_id)) | _with_stem(_plain(path))


def _with_stem(name: str) -> set[str]:
    """Return a name and, if it has an ending, the name without it."""
    return {name, name.rpartition(".")[0]} if ending(name) else {name}


def _plain(name: str) -> str:
    """Return a path without what may differ from that of the file: case, separators and `./`."""
    return normalize_id(file_clip_id(plain_path(name))).casefold()
