"""Manifest: the list of clips that a job processes, from folders, a CSV, or a list of paths.

It is a pandas table with the columns `COLUMNS`, sorted by `clip_id`; paths are absolute.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd
from pydantic import field_validator

from models.config import Config
from pipeline.audio.file_types import (
    EXTENSIONS,
    OTHER_EXTENSIONS,
    UNSUPPORTED_EXTENSIONS,
    ending,
    is_audio_header,
    read_header,
)
from pipeline.data.clips import MAX_FOLD, clip_record, normalize_id, shown, shown_list, to_table
from pipeline.data.sources.audio_folders import AudioWalk, ClassFolder, Omitted
from pipeline.data.sources.clip_table import read_labeled_table, read_path_list, read_unlabeled_table
from pipeline.data.sources.file_finder import file_status
from pipeline.data.sources.folder_layout import Layout, find_classes, nested_classes_warning, table_hint
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_tree import open_tree
from pipeline.io.text import first_messages

_TABLE_EXTENSIONS, _LIST_EXTENSIONS = ("csv", "tsv"), ("txt", "lst", "list")
_OTHER_FORMATS = "flac, ogg, mp3, aiff, …"


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

    If a folder has a training split `train`, that is read instead. `clip_id` is the path relative to the
    folder (or as written in the CSV), with forward slashes, in composed Unicode form.

    Raises:
        UserError: no such path, no clip, a missing column, a duplicate id, a pattern that does not match, or
            a folder with several interpretations.
    """
    if _is_file(data, "--data"):
        clips, warnings = _read_labeled_file(data)
    elif data.is_dir():
        clips, warnings = _read_class_folders(data)
    else:
        raise UserError(f"--data {data}: no such folder or CSV file")
    if clips.empty:
        notes = "".join(f"; {warning}" for warning in warnings)
        raise UserError(
            f"--data {data}: no audio files found; expected <class>/<clip>.wav (or {_OTHER_FORMATS}){notes}"
        )
    clips = _sorted(_apply_patterns(clips, config), f"--data {data}")
    return Manifest(clips, warnings + _class_warnings(clips))


def read_unlabeled(audio: Path) -> Manifest:
    """Read clips without labels: the recordings below a folder, one file, or those that a table lists.

    Every file that may be a recording is a clip, so that it gets a prediction: also one in an unsupported
    format (`pipeline.audio.file_types.unsupported_reason`), one without ending, and a listed one that does
    not exist. Tables are a CSV with a column `path` (and `id`), or a text file with one path per line.

    Raises:
        UserError: no such path, no audio file, a folder that cannot be read, or a duplicate id.
    """
    name = f"--audio {audio}"
    if _is_file(audio, "--audio"):
        clips, warnings = _read_unlabeled_file(audio)
    elif audio.is_dir():
        clips, warnings = _read_folder(audio)
    else:
        raise UserError(f"{name}: no such folder, audio file, CSV or list of files")
    if clips.empty:
        notes = "".join(f"; {warning}" for warning in warnings)
        raise UserError(f"{name}: no audio files found (wav, {_OTHER_FORMATS}){notes}")
    return Manifest(_sorted(clips, name), warnings)


def _is_file(path: Path, flag: str) -> bool:
    with report_os_errors("reading", f"{flag} {path}"):
        return path.is_file()


def _read_labeled_file(data: Path) -> tuple[pd.DataFrame, list[str]]:
    if _is_recording(data):
        raise UserError(f"--data {data}: is an audio file; expected a folder of class folders, or a CSV")
    return read_labeled_table(data)


def _read_class_folders(data: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the clips of the class folders in a folder, and warnings."""
    with report_os_errors("reading", f"--data {data}"):
        tree = open_tree(data)
        layout = find_classes(tree, data)
        walk = AudioWalk(layout.tree)
        clips = to_table(walk.records(layout.classes))
    empty = _empty_classes(layout, clips, walk.omitted)
    layout.warnings += first_messages(
        [f"ignoring empty class folder '{layout.tree.path(name)}': no audio files found" for name in empty]
    )
    warnings = layout.warnings + walk.omitted.warnings()
    if clips["label"].nunique() < 2:
        warnings += nested_classes_warning(layout) or table_hint(tree)
    return clips, warnings


def _empty_classes(layout: Layout, clips: pd.DataFrame, omitted: Omitted) -> list[str]:
    """Return the class folders without audio files for which there is no other warning."""
    labels = set(clips["label"])
    reported = [*omitted.unreadable, *omitted.outputs, *omitted.other_class]
    folders = {str(path) for name in map(PurePosixPath, reported) for path in (name, *name.parents)}
    return [
        folder.name
        for folder in layout.classes
        if normalize_id(folder.label) not in labels and folder.name not in folders
    ]


def _read_folder(audio: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return all recordings below a folder, and warnings.

    Raises:
        UserError: a folder cannot be read, so that predictions would be missing.
    """
    with report_os_errors("reading", f"--audio {audio}"):
        tree = open_tree(audio)
        walk = AudioWalk(tree, keep_unsupported=True)
        clips = to_table(walk.records([ClassFolder("", "")]))
    for name, reason in walk.omitted.unreadable.items():
        raise UserError(
            f"--audio {audio}: cannot read folder {shown(tree.path(name))} ({reason}), so its files would "
            "have no prediction; make it readable, or pass another folder"
        )
    return clips, walk.omitted.warnings()


def _read_unlabeled_file(audio: Path) -> tuple[pd.DataFrame, list[str]]:
    if ending(audio.name) in _TABLE_EXTENSIONS:
        return read_unlabeled_table(audio)
    if ending(audio.name) in _LIST_EXTENSIONS:
        return read_path_list(audio)
    if _is_recording(audio) or not ending(audio.name):
        return to_table([clip_record(audio.name, str(audio), "", file_status(str(audio)))]), []
    raise UserError(f"--audio {audio}: neither an audio file nor a CSV or a list of files (.txt)")


def _is_recording(path: Path) -> bool:
    extension = ending(path.name)
    return (
        extension in EXTENSIONS
        or extension in UNSUPPORTED_EXTENSIONS
        or (extension not in OTHER_EXTENSIONS and is_audio_header(read_header(str(path))))
    )


def _sorted(clips: pd.DataFrame, name: str) -> pd.DataFrame:
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
    raise UserError(
        f"{name}: {len(duplicates)} duplicate paths, e.g. {shown(first['clip_id'])}; "
        "list each path in one row only"
    )


def _class_warnings(clips: pd.DataFrame) -> list[str]:
    """Return warnings about classes that cannot be learned or look like one class."""
    counts = clips["label"].value_counts()
    warnings = []
    if len(counts) < 2:
        warnings.append(f"only one class, '{counts.index[0]}': a classifier needs two or more")
    if single := sorted(counts.index[counts == 1]):
        classes = (
            "class {} has a single clip, so it"
            if len(single) == 1
            else "classes {} have a single clip, so each"
        )
        warnings.append(f"{classes.format(shown_list(single))} cannot be both trained on and validated")
    similar: dict[str, list[str]] = {}
    for name in sorted(counts.index):
        similar.setdefault(_plain_name(name), []).append(name)
    groups = [names for names in similar.values() if len(names) > 1]
    return warnings + first_messages(
        [
            f"classes {shown_list(names)} differ only in case, blanks, invisible characters or zeros of a "
            "number"
            for names in groups
        ]
    )


def _plain_name(name: str) -> str:
    """Return a class name without case, blanks, invisible characters, and zeros as in `01` and `1.0`."""
    visible = "".join(character for character in name if unicodedata.category(character) != "Cf")
    number = re.fullmatch(r"\s*0*(\d+)(?:\.0*)?\s*", visible)
    return number[1] if number else " ".join(visible.casefold().split())


def _apply_patterns(clips: pd.DataFrame, config: ManifestConfig) -> pd.DataFrame:
    def file_names() -> Iterator[str]:
        return (clip_id.rpartition("/")[2] for clip_id in clips["clip_id"])

    if config.group_pattern is not None:
        groups = (_match(config.group_pattern, name, "--group-pattern", -1) for name in file_names())
        # An empty match, as of `(\d*)`, names no recording that the clip would share with others.
        clips["group"] = [group or clip_id for group, clip_id in zip(groups, clips["clip_id"], strict=True)]
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
