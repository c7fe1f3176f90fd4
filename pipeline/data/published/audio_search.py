"""Where the audio files are that a table names: next to it, or in a folder next to it or to its folder.

Paths of another computer, or from a folder above, are read from where they name a file.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.audio.file_types import is_hidden
from pipeline.data.clips import shown, shown_list
from pipeline.data.sources.audio_location import AS_WRITTEN, PATTERNS, AudioLocation
from pipeline.data.sources.file_finder import FileFinder, UnreadURLError, plain_path, without_file_scheme
from pipeline.data.sources.row_values import row_value
from pipeline.data.sources.split_names import is_development, split_of, split_of_cell
from pipeline.data.sources.table_columns import Columns
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import MISSING
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import is_store_uri
from pipeline.io.table_files import Table

_DRIVE = re.compile(r"[A-Za-z]:/")
# Rows whose files are searched: evenly spaced among the first ones.
SAMPLE_ROWS, FIRST_ROWS = 8, 5000


@dataclass(frozen=True)
class ListedFile:
    """The values of a row by which its file is found."""

    path: str
    label: str = ""
    fold: str = ""


def sample_files(table: Table, columns: Columns) -> list[ListedFile]:
    """Return some files that a table lists, without those of rows whose split is held out.

    Those of a development set count only if there are no others, as they may be the training split.
    """
    files: dict[bool, list[ListedFile]] = {False: [], True: []}
    for development, values in itertools.islice(_training_rows(table, columns), FIRST_ROWS):
        if path := without_file_scheme(row_value(values, columns.path)):
            label, fold = row_value(values, columns.label), row_value(values, columns.fold)
            files[development].append(ListedFile(path, label, fold))
    chosen = files[False] or files[True]
    count = min(len(chosen), SAMPLE_ROWS)
    return [chosen[len(chosen) * index // count] for index in range(count)]


def _training_rows(table: Table, columns: Columns) -> Iterator[tuple[bool, list[str]]]:
    """Yield whether a row is of a development set, and its values, of rows that may be for training."""
    for _, values in table.rows():
        splits = [
            (table.header[position], row_value(values, position)) for position in columns.split_candidates
        ]
        held_out = [value for column, value in splits if split_of_cell(column, value) == "held out"]
        if all(map(is_development, held_out)):
            yield bool(held_out), values


def find_location(
    table: Path, files: Sequence[ListedFile], bases: Sequence[Path], held_out: bool = True
) -> AudioLocation | None:
    """Return where the files of a table are; None if none of them is found.

    Args:
        table: the table, for messages.
        files: some of the files that it lists.
        bases: folders in which, and in whose folders, they are searched, until some are found; first that of
            the table.
        held_out: whether folders that are named like a test or validation split are searched too, if no other
            has any of the files.

    Raises:
        UserError: they are in several folders.
        OSError: an object store cannot be reached.
    """
    if _found(AudioLocation(bases[0]), files):
        return AudioLocation(bases[0])
    for base in bases:  # one after the other: next to the table's folder may be those of other datasets
        folders = [base, *_folders_in(base)]
        is_held_out = [folder != base and split_of(folder.name) == "held out" for folder in folders]
        for searched in (False, True) if held_out else (False,):
            chosen = [folder for folder, skip in zip(folders, is_held_out, strict=True) if skip == searched]
            candidates = [location for folder in chosen for location in _of(folder)]
            if locations := _with_files(candidates, files):
                return _only(table, locations, files)
    return _moved_location(files, bases)


def _moved_location(files: Sequence[ListedFile], bases: Sequence[Path]) -> AudioLocation | None:
    """Return a folder that has most files below it, if the start of paths is left out; None without any.

    As much of the paths is kept as possible, of relative ones at least a folder.
    """
    paths = [plain_path(file.path) for file in files]
    if not paths or any(map(is_store_uri, paths)):
        return None
    levels = zip(*(path.split("/")[:-1] for path in paths), strict=False)
    folders = [level[0] for level in itertools.takewhile(lambda level: len(set(level)) == 1, levels)]
    is_absolute = paths[0].startswith("/") or _DRIVE.match(paths[0]) is not None
    starts = ["/".join([*folders[:count], ""]) for count in range(1, len(folders) + 1)]
    for base, start in itertools.product(bases, starts):
        location = AudioLocation(base, former=start)
        names = {path.removeprefix(start) for path in paths}
        is_clear = is_absolute or all("/" in name for name in names)
        if is_clear and 2 * len(_found(location, files)) > len(names):
            return location
    return None


def _folders_in(folder: Path) -> list[Path]:
    if isinstance(folder, RemotePath):
        return [path for path, info in folder.children() if info.is_folder and not is_hidden(path.name)]
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def _of(folder: Path) -> list[AudioLocation]:
    return [AudioLocation(folder, pattern) for pattern in PATTERNS]


def _with_files(locations: Iterable[AudioLocation], files: Sequence[ListedFile]) -> list[AudioLocation]:
    """Return the locations with most of the files, without those whose files another one has too."""
    found = [(location, _found(location, files)) for location in locations]
    most = max((len(paths) for _, paths in found), default=0)
    found = [(location, paths) for location, paths in found if paths and 2 * len(paths) >= most]
    found.sort(key=lambda item: -len(item[1]))
    kept: list[tuple[AudioLocation, set[str]]] = []
    for location, paths in found:
        if not any(paths <= others for _, others in kept):
            kept.append((location, paths))
    return [location for location, _ in kept]


def _found(location: AudioLocation, files: Sequence[ListedFile]) -> set[str]:
    """Return the paths of those files that exist."""
    names = {
        location.file_name(file.path, file.label, file.fold)
        for file in files
        if ("{label}" not in location.pattern or file.label)
        and ("{fold}" not in location.pattern or file.fold)
    }
    finder = FileFinder(location.folder)
    finder.prepare(filter(finder.is_remote, names))
    return {path for name in names if (path := _path(finder, name))}


def _path(finder: FileFinder, name: str) -> str:
    try:
        file = finder.find(name)
    except UnreadURLError:
        return ""
    except ValueError:  # several, which is reported with its line
        return name
    return "" if file.status.size == MISSING else file.path


def _only(table: Path, locations: Sequence[AudioLocation], files: Sequence[ListedFile]) -> AudioLocation:
    """Return the only location.

    Raises:
        UserError: there are several.
    """
    if len(locations) == 1:
        return locations[0]
    names = [describe_location(location, table.parent) for location in locations]
    first = files[0]
    example = locations[0].file_name(first.path, first.label, first.fold)
    prefix = relative_folder(locations[0].folder, table.parent)
    raise UserError(
        f"--data {table}: its audio files are in {shown_list(names, 3)}: put the table into one of these "
        f"folders and pass it there, or write paths such as {shown(f'{prefix}/{example}')} in it"
    )


def relative_folder(folder: Path, base: Path) -> str:
    """Return a folder as a path relative to another one."""
    if isinstance(folder, RemotePath) and isinstance(base, RemotePath):
        return os.path.relpath(folder.key, base.key)
    return os.path.relpath(folder, base)


def describe_location(location: AudioLocation, base: Path) -> str:
    """Return a folder relative to `base`, and how paths in it are written if not as in the table."""
    folder = relative_folder(location.folder, base)
    prefix = "" if folder == "." else f"{folder}/"
    if location.pattern == AS_WRITTEN:
        return (prefix or "./") + (f", instead of {location.former}" if location.former else "")
    return prefix + location.pattern.removesuffix("{path}")
