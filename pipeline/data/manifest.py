"""Manifest: the list of clips that a job processes, from class folders or a CSV.

It is a pandas table with the columns `COLUMNS`, sorted by `clip_id`; paths are absolute.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from pydantic import field_validator

from models.config import Config
from pipeline.audio.decode import is_audio
from pipeline.io.errors import UserError
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import is_remote, is_store_uri, to_path

COLUMNS = ("clip_id", "path", "label", "fold", "group", "size", "mtime_ns")
NO_FOLD = -1
MAX_FOLD = 2**31 - 1
# Maximum number of records held as Python objects at a time.
CHUNK_ROWS = 50_000


class ManifestConfig(Config):
    """Patterns that extract recording and fold from file names."""

    group_pattern: str | None = None
    r"""Regular expression on the file name; its last group is the recording id (ESC: '^\d-(\d+)-')."""
    fold_pattern: str | None = None
    r"""Regular expression on the file name; its first group is the fold number (ESC: '^(\d)-')."""

    @field_validator("group_pattern", "fold_pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            num_groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not num_groups:
            raise ValueError("the pattern needs a capture group, in parentheses")
        return pattern


@dataclass(frozen=True)
class Manifest:
    """Table of clips, and warnings about the data."""

    clips: pd.DataFrame
    warnings: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """Labels, sorted."""
        return sorted(self.clips["label"].unique())


def read_manifest(data: Path, config: ManifestConfig = ManifestConfig()) -> Manifest:
    """Read labeled clips from a CSV with columns `path,label[,fold][,group]`, or from folders `<class>/*`.

    If a folder has a subfolder `train`, that is read instead. `clip_id` is the path relative to the folder
    (or as written in the CSV), with forward slashes.

    Raises:
        UserError: no such path, no clip, a missing column, a duplicate id, or a pattern that does not match.
    """
    if data.is_file():
        warnings: list[str] = []
        clips = _table(_read_csv(data))
    elif data.is_dir():
        clips, warnings = _read_folders(data / "train" if (data / "train").is_dir() else data)
    else:
        raise UserError(f"--data {data}: no such folder or CSV file")
    if clips.empty:
        raise UserError(
            f"--data {data}: no audio files found; expected <class>/<clip>.wav (or flac, ogg, mp3, aiff, …)"
        )
    clips = _apply_patterns(clips, config).sort_values("clip_id", ignore_index=True)
    _check_unique_ids(clips, data)
    counts = clips["label"].value_counts()
    if len(counts) < 2:
        warnings.append(f"only one class, '{counts.index[0]}': a classifier needs two or more")
    warnings += [
        f"class '{name}' has a single clip, so it cannot be both trained on and validated"
        for name in sorted(counts.index[counts == 1])
    ]
    return Manifest(clips, warnings)


def read_unlabeled(folder: Path) -> pd.DataFrame:
    """Read all audio files in `folder`, recursively, as a manifest with empty labels.

    Raises:
        UserError: no such folder, or no audio file in it.
    """
    if not folder.is_dir():
        raise UserError(f"--audio {folder}: no such folder")
    clips = _table(_folder_records(folder, "", ""))
    if clips.empty:
        raise UserError(f"--audio {folder}: no audio files found (wav, flac, ogg, mp3, aiff, …)")
    return clips.sort_values("clip_id", ignore_index=True)


def _table(records: Iterable[tuple]) -> pd.DataFrame:
    """Convert records to a table in chunks: as Python objects, millions take many times the memory."""
    source, chunks = iter(records), []
    while chunk := list(itertools.islice(source, CHUNK_ROWS)):
        chunks.append(pd.DataFrame(chunk, columns=list(COLUMNS)))
    return pd.concat(chunks, ignore_index=True) if chunks else pd.DataFrame(columns=list(COLUMNS))


def _read_folders(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the clips of the class folders in `root`, and warnings."""
    tables, warnings = [], []
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    for folder in folders:
        tables.append(_table(_folder_records(folder, f"{folder.name}/", folder.name)))
        if tables[-1].empty:
            warnings.append(f"ignoring empty class folder '{folder}': no audio files found")
    outside = sum(1 for entry in root.iterdir() if is_audio(entry.name) and entry.is_file())
    if outside:
        warnings.append(f"ignoring {outside} audio files outside class folders in '{root}'")
    nonempty = [table for table in tables if len(table)]
    return pd.concat(nonempty, ignore_index=True) if nonempty else _table([]), warnings


def _read_csv(path: Path) -> Iterator[tuple]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from _csv_records(path, csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise UserError(f"--data {path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except csv.Error as error:
        raise UserError(f"--data {path}: not a CSV ({error})") from None


def _csv_records(path: Path, reader: csv.DictReader) -> Iterator[tuple]:
    missing = [name for name in ("path", "label") if name not in (reader.fieldnames or [])]
    if missing:
        raise UserError(
            f"--data {path}: no column '{missing[0]}'; the first line must be path,label[,fold][,group]"
        )
    for line, row in enumerate(reader, start=2):
        if not row["path"] or not row["label"]:
            raise UserError(f"--data {path}, line {line}: {'path' if not row['path'] else 'label'} is empty")
        fold = row.get("fold") or NO_FOLD
        try:
            fold = int(fold)
            if not NO_FOLD <= fold <= MAX_FOLD:
                raise ValueError
        except ValueError:
            raise UserError(
                f"--data {path}, line {line}: fold '{fold}' is not an integer up to {MAX_FOLD:,}"
            ) from None
        clip_id = Path(row["path"]).as_posix()
        audio_path = _resolve_csv_path(path, row["path"])
        yield _record(clip_id, audio_path, row["label"], fold, row.get("group") or "")


def _resolve_csv_path(csv_path: Path, path: str) -> str:
    """Return the absolute path or URI of a clip in a CSV; relative paths are relative to the CSV's folder."""
    if is_store_uri(path):
        return path
    joined = csv_path.parent / path
    return str(joined) if is_remote(csv_path) else os.path.abspath(joined)


def _folder_records(folder: Path, prefix: str, label: str) -> Iterator[tuple]:
    """Yield a record of each audio file in a folder, recursively; ids are `prefix` and the relative path."""
    if isinstance(folder, RemotePath):
        # The listing of a bucket includes sizes and times; hidden folders are skipped here too.
        for path, info in folder.walk():
            relative = path.relative_to(folder)
            if is_audio(path.name) and not any(part.startswith(".") for part in relative.parts):
                clip_id = f"{prefix}{relative}"
                yield clip_id, str(path), label, NO_FOLD, clip_id, info.size, info.mtime_ns or 0
    else:
        for relative_path, path_name in _walk(folder):
            yield _record(f"{prefix}{relative_path}", path_name, label)


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield `(relative path, absolute path)` of each audio file; follow links, skip hidden folders."""
    root = os.path.abspath(folder)
    for parent, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not _is_symlink_loop(parent, name)
        )
        for name in files:
            if is_audio(name):
                path = os.path.join(parent, name)
                yield os.path.relpath(path, root).replace(os.sep, "/"), path


def _is_symlink_loop(parent: str, name: str) -> bool:
    """Return whether a folder is a link to one of its parents."""
    path = os.path.join(parent, name)
    return os.path.islink(path) and (os.path.realpath(parent) + os.sep).startswith(
        os.path.realpath(path) + os.sep
    )


def _record(clip_id: str, path: str, label: str, fold: int = NO_FOLD, group: str = "") -> tuple:
    """Return a manifest row; a clip without a group is its own group."""
    try:
        clip_id.encode()
    except UnicodeEncodeError:
        raise UserError(f"file name {clip_id!r} is not valid UTF-8; rename it") from None
    size, mtime_ns = -1, 0  # of a missing file, which extraction rejects with its reason
    if is_store_uri(path):
        info = to_path(Path(path)).info()
        size, mtime_ns = -1 if info.size is None else info.size, info.mtime_ns or 0
    else:
        try:
            status = os.stat(path)
            size, mtime_ns = status.st_size, status.st_mtime_ns
        except (OSError, ValueError):
            pass
    return clip_id, path, label, fold, group or clip_id, size, mtime_ns


def _check_unique_ids(clips: pd.DataFrame, data: Path) -> None:
    # Duplicates are adjacent in the sorted table; a set of all ids would take as much memory as the table.
    duplicates = clips["clip_id"][clips["clip_id"].eq(clips["clip_id"].shift())]
    if len(duplicates):
        raise UserError(
            f"--data {data}: {len(duplicates)} duplicate paths, e.g. '{duplicates.iloc[0]}'; "
            "list each path in one row only"
        )


def _apply_patterns(clips: pd.DataFrame, config: ManifestConfig) -> pd.DataFrame:
    def file_names() -> Iterator[str]:
        return (clip_id.rpartition("/")[2] for clip_id in clips["clip_id"])

    if config.group_pattern is not None:
        clips["group"] = [_match(config.group_pattern, name, "--group-pattern", -1) for name in file_names()]
    if config.fold_pattern is not None:
        clips["fold"] = [_match_fold(config.fold_pattern, name) for name in file_names()]
    return clips


def _match_fold(pattern: str, name: str) -> int:
    fold = _match(pattern, name, "--fold-pattern", 0)
    if not fold.isdecimal() or int(fold) > MAX_FOLD:
        raise UserError(
            f"--fold-pattern '{pattern}': '{fold}' of '{name}' is not an integer up to {MAX_FOLD:,}"
        )
    return int(fold)


def _match(pattern: str, name: str, flag: str, group_index: int) -> str:
    """Return one capture group of `pattern` in a file name.

    Raises:
        UserError: the pattern, or that group of it, does not match.
    """
    match = re.search(pattern, name)
    if match is None or match.groups()[group_index] is None:
        raise UserError(f"{flag} '{pattern}' does not match file name '{name}'")
    return match.groups()[group_index]
