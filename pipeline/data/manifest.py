"""The list of clips that a job works on: from folders of classes, or from a CSV.

A manifest is a pandas table with the columns of `COLUMNS`, sorted by `clip_id`; paths are absolute.
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
# Records that are held as Python's own objects at a time.
CHUNK_ROWS = 50_000


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
        clips = _table(_from_csv(data))
    elif data.is_dir():
        clips, warnings = _from_folders(data / "train" if (data / "train").is_dir() else data)
    else:
        raise UserError(f"--data {data}: no such folder or CSV file")
    if clips.empty:
        raise UserError(
            f"--data {data}: no audio file in it; expected <class>/<clip>.wav (or flac, ogg, mp3, aiff, …)"
        )
    clips = _apply_patterns(clips, config).sort_values("clip_id", ignore_index=True)
    _check_unique_ids(clips, data)
    counts = clips["label"].value_counts()
    if len(counts) < 2:
        warnings.append(f"only one class, '{counts.index[0]}': a classifier needs two or more")
    warnings += [
        f"class '{name}' has a single clip: it can't be both learnt and validated"
        for name in sorted(counts.index[counts == 1])
    ]
    return Manifest(clips, warnings)


def read_unlabelled(folder: Path) -> pd.DataFrame:
    """All audio files below `folder`, however deep, as a manifest with empty labels.

    Raises:
        UserError: no such folder, or no audio file in it.
    """
    if not folder.is_dir():
        raise UserError(f"--audio {folder}: no such folder")
    clips = _table(_records(folder, "", ""))
    if clips.empty:
        raise UserError(f"--audio {folder}: no audio file in it (wav, flac, ogg, mp3, aiff, …)")
    return clips.sort_values("clip_id", ignore_index=True)


def _table(records: Iterable[tuple]) -> pd.DataFrame:
    """Records as a table, by the piece: as Python's own objects, millions of them take many times the space."""
    source, pieces = iter(records), []
    while piece := list(itertools.islice(source, CHUNK_ROWS)):
        pieces.append(pd.DataFrame(piece, columns=list(COLUMNS)))
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=list(COLUMNS))


def _from_folders(root: Path) -> tuple[pd.DataFrame, list[str]]:
    pieces, warnings = [], []
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    for folder in folders:
        pieces.append(_table(_records(folder, f"{folder.name}/", folder.name)))
        if pieces[-1].empty:
            warnings.append(f"folder '{folder}' holds no audio file: its class is left out")
    loose = sum(1 for entry in root.iterdir() if is_audio(entry.name) and entry.is_file())
    if loose:
        warnings.append(f"{loose} audio files lie in '{root}' itself, in no class folder: they are left out")
    filled = [piece for piece in pieces if len(piece)]
    return pd.concat(filled, ignore_index=True) if filled else _table([]), warnings


def _from_csv(path: Path) -> Iterator[tuple]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            yield from _rows_of(path, csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise UserError(f"--data {path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except csv.Error as error:
        raise UserError(f"--data {path}: not a CSV ({error})") from None


def _rows_of(path: Path, reader: csv.DictReader) -> Iterator[tuple]:
    missing = [name for name in ("path", "label") if name not in (reader.fieldnames or [])]
    if missing:
        raise UserError(
            f"--data {path}: no column '{missing[0]}'; the first line must name path,label[,fold][,group]"
        )
    for number, row in enumerate(reader, start=2):
        if not row["path"] or not row["label"]:
            raise UserError(
                f"--data {path}, line {number}: {'path' if not row['path'] else 'label'} is empty"
            )
        fold = row.get("fold") or NO_FOLD
        try:
            fold = int(fold)
            if not NO_FOLD <= fold <= MAX_FOLD:
                raise ValueError
        except ValueError:
            raise UserError(
                f"--data {path}, line {number}: fold '{fold}' is not a whole number up to {MAX_FOLD:,}"
            ) from None
        clip_id = Path(row["path"]).as_posix()
        yield _record(
            clip_id, _resolve_csv_path(path, row["path"]), row["label"], fold, row.get("group") or ""
        )


def _resolve_csv_path(csv_path: Path, written: str) -> str:
    """Where a clip lies that a CSV names: beside the CSV, unless the name says more."""
    if is_store_uri(written):
        return written
    return (
        str(csv_path.parent / written) if is_remote(csv_path) else os.path.abspath(csv_path.parent / written)
    )


def _records(folder: Path, before: str, label: str) -> Iterator[tuple]:
    """A record of each audio file below a folder, by its path there after `before`."""
    if isinstance(folder, RemotePath):
        # The listing of a store says it all; hidden folders are left out here too.
        for path, info in folder.walk():
            below = path.relative_to(folder)
            if is_audio(path.name) and not any(part.startswith(".") for part in below.parts):
                yield (
                    f"{before}{below}",
                    str(path),
                    label,
                    NO_FOLD,
                    f"{before}{below}",
                    info.size,
                    info.mtime_ns or 0,
                )
    else:
        for clip_id, name in _walk(folder):
            yield _record(f"{before}{clip_id}", name, label)


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """Yields `(path below folder, absolute path)` of each audio file."""
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
    """Whether a folder is a link to one that it lies in, which would go round in a circle."""
    path = os.path.join(parent, name)
    return os.path.islink(path) and (os.path.realpath(parent) + os.sep).startswith(
        os.path.realpath(path) + os.sep
    )


def _record(clip_id: str, path: str, label: str, fold: int = NO_FOLD, group: str = "") -> tuple:
    try:
        clip_id.encode()
    except UnicodeEncodeError:
        raise UserError(f"file name {clip_id!r} is not valid UTF-8; rename it") from None
    if is_store_uri(path):
        info = to_path(Path(path)).info()
        return (
            clip_id,
            path,
            label,
            fold,
            group or clip_id,
            -1 if info.size is None else info.size,
            info.mtime_ns or 0,
        )
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # extraction rejects it with its reason
        return clip_id, path, label, fold, group or clip_id, -1, 0
    return clip_id, path, label, fold, group or clip_id, status.st_size, status.st_mtime_ns


def _check_unique_ids(clips: pd.DataFrame, data: Path) -> None:
    # Sorted, so side by side: a set of all would take as much space as all.
    twice = clips["clip_id"][clips["clip_id"].eq(clips["clip_id"].shift())]
    if len(twice):
        raise UserError(
            f"--data {data}: {len(twice)} clips are named twice, the first '{twice.iloc[0]}'; each path may stand in one row only"
        )


def _apply_patterns(clips: pd.DataFrame, config: ManifestConfig) -> pd.DataFrame:
    def names() -> Iterator[str]:
        return (clip_id.rpartition("/")[2] for clip_id in clips["clip_id"])

    if config.group_pattern is not None:
        clips["group"] = [_match(config.group_pattern, name, "--group-pattern", -1) for name in names()]
    if config.fold_pattern is not None:
        clips["fold"] = [_fold_of(config.fold_pattern, name) for name in names()]
    return clips


def _fold_of(pattern: str, name: str) -> int:
    fold = _match(pattern, name, "--fold-pattern", 0)
    if not fold.isdecimal() or int(fold) > MAX_FOLD:
        raise UserError(
            f"--fold-pattern '{pattern}': '{fold}' of '{name}' is not a number up to {MAX_FOLD:,}"
        )
    return int(fold)


def _match(pattern: str, name: str, flag: str, which: int) -> str:
    found = re.search(pattern, name)
    if found is None or found.groups()[which] is None:
        raise UserError(f"{flag} '{pattern}' does not fit the file name '{name}'")
    return found.groups()[which]
