"""The list of clips that a job works on: from folders of classes, or from a CSV.

A manifest is a pandas table with the columns of `COLUMNS`, sorted by `clip_id`; paths are absolute.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from pydantic import field_validator

from models.config import Config
from pipeline.audio import is_audio
from pipeline.errors import UserError

COLUMNS = ("clip_id", "path", "label", "fold", "group", "size", "mtime_ns")
NO_FOLD = -1
MAX_FOLD = 2**31 - 1


class ManifestConfig(Config):
    """Where labelled clips lie and what their names tell."""

    group_pattern: str | None = None
    r"""Regular expression whose last group, found in the file name, says from which recording a clip comes: ESC uses '^\d-(\d+)-'."""
    fold_pattern: str | None = None
    r"""Regular expression whose first group, found in the file name, is the number of the clip's fold: ESC uses '^(\d)-'."""

    @field_validator("group_pattern", "fold_pattern")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        if pattern is None:
            return None
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if not groups:
            raise ValueError("the pattern needs a group in parentheses around what it picks out")
        return pattern


@dataclass(frozen=True)
class Manifest:
    """The clips, and what a person should know of how they were found."""

    clips: pd.DataFrame
    warnings: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """The labels, sorted."""
        return sorted(self.clips["label"].unique())


def read_manifest(data: Path, config: ManifestConfig = ManifestConfig()) -> Manifest:
    """Reads labelled clips from a CSV with the columns `path,label[,fold][,group]` or from folders `<class>/*`.

    A folder with a sub-folder `train` stands for that one. `clip_id` is the path below the folder (or as the CSV
    writes it), with forward slashes.

    Raises:
        UserError: no such place, no clip, a missing column, the same id twice, a pattern that does not fit a name.
    """
    if data.is_file():
        warnings: list[str] = []
        records = _from_csv(data)
    elif data.is_dir():
        records, warnings = _from_folders(data / "train" if (data / "train").is_dir() else data)
    else:
        raise UserError(f"--data {data}: no such folder or CSV file")
    clips = pd.DataFrame(records, columns=list(COLUMNS))
    if clips.empty:
        raise UserError(f"--data {data}: no audio file in it; expected <class>/<clip>.wav (or flac, ogg, mp3, aiff, …)")
    _refuse_duplicates(clips, data)
    clips = _apply_patterns(clips, config)
    counts = clips["label"].value_counts()
    if len(counts) < 2:
        warnings.append(f"only one class, '{counts.index[0]}': a classifier needs two or more")
    warnings += [f"class '{name}' has a single clip: it can't be both learnt and validated" for name in sorted(counts.index[counts == 1])]
    return Manifest(clips.sort_values("clip_id", ignore_index=True), warnings)


def read_unlabelled(folder: Path) -> pd.DataFrame:
    """All audio files below `folder`, however deep, as a manifest with empty labels.

    Raises:
        UserError: no such folder, or no audio file in it.
    """
    if not folder.is_dir():
        raise UserError(f"--audio {folder}: no such folder")
    records = [_record(clip_id, path, "") for clip_id, path in _walk(folder)]
    if not records:
        raise UserError(f"--audio {folder}: no audio file in it (wav, flac, ogg, mp3, aiff, …)")
    return pd.DataFrame(records, columns=list(COLUMNS)).sort_values("clip_id", ignore_index=True)


def _from_folders(root: Path) -> tuple[list[tuple], list[str]]:
    records: list[tuple] = []
    warnings = []
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    for folder in folders:
        found = [_record(f"{folder.name}/{clip_id}", path, folder.name) for clip_id, path in _walk(folder)]
        records += found
        if not found:
            warnings.append(f"folder '{folder}' holds no audio file: its class is left out")
    loose = sum(1 for entry in root.iterdir() if entry.is_file() and is_audio(entry))
    if loose:
        warnings.append(f"{loose} audio files lie in '{root}' itself, in no class folder: they are left out")
    return records, warnings


def _from_csv(path: Path) -> list[tuple]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or [], list(reader)
    except UnicodeDecodeError as error:
        raise UserError(f"--data {path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except csv.Error as error:
        raise UserError(f"--data {path}: not a CSV ({error})") from None
    missing = [name for name in ("path", "label") if name not in columns]
    if missing:
        raise UserError(f"--data {path}: no column '{missing[0]}'; the first line must name path,label[,fold][,group]")
    records = []
    for number, row in enumerate(rows, start=2):
        if not row["path"] or not row["label"]:
            raise UserError(f"--data {path}, line {number}: {'path' if not row['path'] else 'label'} is empty")
        fold = row.get("fold") or NO_FOLD
        try:
            fold = int(fold)
            if not NO_FOLD <= fold <= MAX_FOLD:
                raise ValueError
        except ValueError:
            raise UserError(f"--data {path}, line {number}: fold '{fold}' is not a whole number up to {MAX_FOLD:,}") from None
        clip_id = Path(row["path"]).as_posix()
        records.append(_record(clip_id, os.path.abspath(path.parent / row["path"]), row["label"], fold, row.get("group") or ""))
    return records


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields `(path below folder, absolute path)` of each audio file."""
    root = os.path.abspath(folder)
    for parent, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _leads_back(parent, name))
        for name in files:
            if is_audio(name):
                path = os.path.join(parent, name)
                yield os.path.relpath(path, root).replace(os.sep, "/"), path


def _leads_back(parent: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in, which would go round in a circle."""
    path = os.path.join(parent, name)
    return os.path.islink(path) and (os.path.realpath(parent) + os.sep).startswith(os.path.realpath(path) + os.sep)


def _record(clip_id: str, path: str, label: str, fold: int = NO_FOLD, group: str = "") -> tuple:
    try:
        clip_id.encode()
    except UnicodeEncodeError:
        raise UserError(f"file name {clip_id!r} is not valid UTF-8; rename it") from None
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # extraction rejects it with its reason
        return clip_id, path, label, fold, group or clip_id, -1, 0
    return clip_id, path, label, fold, group or clip_id, status.st_size, status.st_mtime_ns


def _refuse_duplicates(clips: pd.DataFrame, data: Path) -> None:
    twice = clips["clip_id"][clips["clip_id"].duplicated()]
    if len(twice):
        raise UserError(
            f"--data {data}: {len(twice)} clips are named twice, the first '{twice.iloc[0]}'; each path may stand in one row only"
        )


def _apply_patterns(clips: pd.DataFrame, config: ManifestConfig) -> pd.DataFrame:
    names = clips["clip_id"].str.rpartition("/")[2]
    if config.group_pattern is not None:
        clips["group"] = [_match(config.group_pattern, name, "--group-pattern", -1) for name in names]
    if config.fold_pattern is not None:
        folds = [_match(config.fold_pattern, name, "--fold-pattern", 0) for name in names]
        for name, fold in zip(names, folds, strict=True):
            if not fold.isdecimal() or int(fold) > MAX_FOLD:
                raise UserError(f"--fold-pattern '{config.fold_pattern}': '{fold}' of '{name}' is not a number up to {MAX_FOLD:,}")
        clips["fold"] = [int(fold) for fold in folds]
    return clips


def _match(pattern: str, name: str, flag: str, which: int) -> str:
    found = re.search(pattern, name)
    if found is None or found.groups()[which] is None:
        raise UserError(f"{flag} '{pattern}' does not fit the file name '{name}'")
    return found.groups()[which]
