"""Recordings of a folder with the events in their annotation files."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from pipeline.data.annotations.annotation import Annotation
from pipeline.data.annotations.annotation_files import read_annotation_file
from pipeline.data.annotations.file_search import RecordingIndex, annotation_names, only_recording
from pipeline.data.clips import shown, shown_list, to_table
from pipeline.data.labels import join_labels, split_labels
from pipeline.data.sources.audio_folders import AudioWalk, ClassFolder
from pipeline.data.sources.split_folder import split_folder
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_tree import FolderTree, open_tree
from pipeline.io.storage import to_path
from pipeline.io.text import plural

Events = dict[str, list[Annotation]]


@dataclass
class AnnotatedClips:
    """Audio files with their events."""

    clips: pd.DataFrame
    """Manifest with a row for each file; its label has the classes of all events."""
    events: Events
    """Events of each clip, by its id."""
    warnings: list[str] = field(default_factory=list)
    columns: str = ""
    """Which columns of a table were used for what; empty if the events are not from a table."""
    held_out_files: Sequence[str] = field(default_factory=list)
    """Files of the rows of other splits, as the table writes their paths."""


def union_label(events: list[Annotation]) -> str:
    """Return the label with the classes of all events."""
    return join_labels(name for event in events for name in split_labels(event.label))


def read_annotated_folder(
    data: Path,
    annotations: Path | Literal["auto"],
    label_column: str | None,
    data_flag: str = "--data",
    wanted: pd.DataFrame | None = None,
) -> AnnotatedClips:
    """Read the recordings below a folder that have an annotation file, and their events.

    Args:
        data: folder of the recordings.
        annotations: folder of the annotation files; `auto`, or `data`: next to the recordings.
        label_column: column of the classes in tables.
        data_flag: command-line flag of `data`, for messages.
        wanted: recordings whose events are read, by their `path` (default: all, but for those in folders of
            other splits than the training split). Files of others are neither read nor mentioned.

    Raises:
        UserError: a folder or file cannot be read, or no recording has an annotation file.
    """
    tree, walk, clips = _walk(data, data_flag)
    is_elsewhere = annotations not in ("auto", data)
    if annotations != "auto" and is_elsewhere:
        tree = _open_annotations(annotations)
    all_ids = clips["clip_id"]
    notes: list[str] = []
    if wanted is not None:
        clips = clips[clips["path"].isin(wanted["path"])]
    else:
        clips, notes = training_clips(clips)
    files, warnings = _find_files(tree, all_ids, is_elsewhere, frozenset(clips["clip_id"]))
    events = _read_events(tree, files, label_column)
    warnings += notes + _unannotated_warning(clips["clip_id"], events, f"--annotations {annotations}")
    clips = clips[clips["clip_id"].isin(events.keys())].reset_index(drop=True)
    clips["label"] = [union_label(events[clip_id]) for clip_id in clips["clip_id"]]
    omitted = walk.omitted.warnings() if wanted is None else []
    return AnnotatedClips(clips, events, omitted + warnings)


def training_clips(clips: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the recordings outside of folders of held-out splits next to a training split, and a warning."""
    folder = split_folder(clips["clip_id"])
    if folder is None:
        return clips, []
    held_out = clips["clip_id"].map(folder.held_out)
    count, names = plural((held_out != "").sum(), "recording"), sorted(set(held_out) - {""})
    return clips[held_out == ""], [f"ignoring {count} in folders of other splits ({shown_list(names)})"]


def recordings_below(data: Path, data_flag: str) -> pd.DataFrame:
    """Return the manifest of the recordings below a folder, without classes.

    Raises:
        UserError: the folder cannot be read.
    """
    return _walk(data, data_flag)[2]


def _walk(data: Path, data_flag: str) -> tuple[FolderTree, AudioWalk, pd.DataFrame]:
    with report_os_errors("reading", f"{data_flag} {data}"):
        tree = open_tree(data)
        walk = AudioWalk(tree)
        return tree, walk, to_table(walk.records([ClassFolder("", "")]))


def unread_annotations_warning(tree: FolderTree, clip_ids: pd.Series) -> list[str]:
    """Return a warning if recordings, by their paths in a folder, have annotation files next to them.

    Raises:
        OSError: a folder cannot be read.
    """
    files, _ = _find_files(tree, clip_ids, any_folder=False, wanted=frozenset(clip_ids))
    if not files:
        return []
    some = [name for names in files.values() for name in names]
    return [
        f"files named like annotations of {len(files)} of {plural(len(clip_ids), 'recording')} are not read: "
        f"{shown_list(some)}; --annotations auto takes classes from these, not from folders"
    ]


def _open_annotations(folder: Path) -> FolderTree:
    if not folder.is_dir():
        raise UserError(f"--annotations {folder}: no such folder or CSV file")
    with report_os_errors("reading", f"--annotations {folder}"):
        return open_tree(folder)


def _unannotated_warning(clip_ids: pd.Series, events: Events, name: str) -> list[str]:
    """Return a warning about recordings without annotation file.

    Raises:
        UserError: all of them are.
    """
    missing = clip_ids[~clip_ids.isin(events.keys())].tolist()
    if missing and not events:
        raise UserError(
            f"{name}: none of {plural(len(clip_ids), 'recording')} has an annotation file; that of "
            f"{shown(missing[0])} would be named {shown(_example(missing[0]))}"
        )
    if not missing:
        return []
    return [
        f"{len(missing)} of {plural(len(clip_ids), 'recording')} have no annotation file and are left out: "
        f"{shown_list(missing)}; an empty file states that there is no event"
    ]


def _example(clip_id: str) -> str:
    return f"{os.path.splitext(clip_id)[0]}.txt"


def _find_files(
    tree: FolderTree, clip_ids: pd.Series, any_folder: bool, wanted: Set[str]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the annotation files of each wanted recording, and warnings about files of no recording.

    Raises:
        UserError: a file can belong to two recordings.
        OSError: a folder cannot be read.
    """
    index, files, unknown = RecordingIndex(clip_ids), defaultdict(list), []
    for name in annotation_names(tree):
        found = index.find(name, any_folder)
        if not found:
            unknown.append(name)
        elif not wanted.isdisjoint(found):
            files[only_recording(name, found)].append(name)
    warnings = []
    if unknown:
        warnings.append(
            f"{plural(len(unknown), 'text file')} named like no recording, ignored: {shown_list(unknown)}"
        )
    several = [names for names in files.values() if len(names) > 1]
    if several:
        warnings.append(
            f"{plural(len(several), 'recording')} with several annotation files, whose events are combined: "
            f"{shown_list(several[0])}"
        )
    return files, warnings


def _read_events(tree: FolderTree, files: dict[str, list[str]], label_column: str | None) -> Events:
    """Return the events in the annotation files of each recording.

    Raises:
        UserError: a file cannot be read.
    """

    def read(pair: tuple[str, str]) -> list[Annotation]:
        clip_id, name = pair
        return read_annotation_file(to_path(tree.path(name)), clip_id, label_column)

    pairs = [(clip_id, name) for clip_id, names in files.items() for name in names]
    events: Events = defaultdict(list)
    for (clip_id, _), found in zip(pairs, map_concurrently(read, pairs), strict=True):
        events[clip_id] += found
    return dict(events)
