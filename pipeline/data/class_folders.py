"""Clips of class folders: `<class>/*`, with splits or folds, or in a single other folder.

Lists of a split next to them, such as `testing_list.txt`, divide the clips, or name those to read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.data.annotations.annotated_folder import unread_annotations_warning
from pipeline.data.annotations.birdnet_folders import birdnet_label
from pipeline.data.clips import normalize_id, shown, to_table
from pipeline.data.labels import join_labels, split_labels
from pipeline.data.published.labeled_data import TableConfig
from pipeline.data.sources.audio_folders import AudioWalk, ClassFolder, Omitted
from pipeline.data.sources.folder_layout import (
    Layout,
    find_classes,
    nested_classes,
    nested_classes_warning,
    shared_folders_warning,
    table_hint,
)
from pipeline.data.sources.split_lists import only_listed, without_held_out
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_tree import FolderTree, open_tree
from pipeline.io.storage import to_path
from pipeline.io.text import first_messages


@dataclass(frozen=True)
class ClassFolderClips:
    """Clips of class folders, and warnings."""

    clips: pd.DataFrame
    warnings: list[str]
    layout: Layout
    """Folders of the classes, with labels as clips have them."""


def read_class_folders(tree: FolderTree, data: Path, config: TableConfig) -> ClassFolderClips:
    """Read the training clips of the class folders in the folder `data`, whose files `tree` lists.

    Raises:
        UserError: a folder cannot be read, or has several interpretations.
    """
    found = _read_all(tree, data, config)
    with report_os_errors("reading", f"--data {data}"):
        clips, warnings = without_held_out(found.layout.tree, found.clips)
    return replace(found, clips=clips, warnings=found.warnings + warnings)


def read_list_of_class_folders(path: Path, config: TableConfig) -> ClassFolderClips:
    """Read the clips of class folders that a list in the folder of these names, such as a test split.

    Raises:
        UserError: as `read_class_folders`, or the list has no clip.
    """
    with report_os_errors("reading", f"--data {path}"):
        tree = open_tree(path.parent)
    found = _read_all(tree, path.parent, config)
    clips, warnings = only_listed(path, found.clips)
    return replace(found, clips=clips, warnings=found.warnings + warnings)


def _read_all(tree: FolderTree, data: Path, config: TableConfig) -> ClassFolderClips:
    """Read all clips of class folders; arguments and errors are those of `read_class_folders`."""
    with report_os_errors("reading", f"--data {data}"):
        layout = find_classes(tree, data)
        layout.classes = [folder._replace(label=_label(folder, config)) for folder in layout.classes]
        walk = AudioWalk(layout.tree)
        clips = to_table(walk.records(layout.classes))
        shared = shared_folders_warning(layout)
        unread = [] if config.window is None else unread_annotations_warning(layout.tree, clips["clip_id"])
    warnings = layout.warnings + _empty_class_warnings(layout, clips, walk.omitted)
    warnings += walk.omitted.warnings() + unread + shared
    if clips["label"].nunique() < 2:
        warnings += nested_classes_warning(layout) or table_hint(tree)
    return ClassFolderClips(clips, warnings, layout)


def _label(folder: ClassFolder, config: TableConfig) -> str:
    """Return the label of the clips in a folder; with several classes as in `labels.py`."""
    if config.birdnet_folders:
        return birdnet_label(normalize_id(folder.label))
    if config.multi_label:
        return join_labels(split_labels(normalize_id(folder.label)))
    return folder.label


def read_nested_classes(layout: Layout, data: Path, config: TableConfig) -> ClassFolderClips | None:
    """Read the clips of the class folders in the only class folder of a layout, such as `train/audio`.

    Returns:
        None if that is a class itself, or can only be read as one.

    Raises:
        UserError: a folder cannot be read.
    """
    with report_os_errors("reading", f"--data {data}"):
        folder = nested_classes(layout)
    if folder is None:
        return None
    try:
        inside = read_class_folders(layout.tree.subtree(folder), to_path(layout.tree.path(folder)), config)
    except UserError:  # folds, for example; how to read it is in a warning about the class folder
        return None
    note = (
        f"reading the folders in {shown(folder)} as classes, as there is no other class folder; if "
        f"{shown(folder)} is one class, put its recordings directly into it"
    )
    return ClassFolderClips(inside.clips, [*layout.warnings, note, *inside.warnings], inside.layout)


def _empty_class_warnings(layout: Layout, clips: pd.DataFrame, omitted: Omitted) -> list[str]:
    """Return warnings about class folders without audio files for which there is no other one."""
    labels = set(clips["label"])
    reported = [*omitted.unreadable, *omitted.outputs, *omitted.other_class]
    folders = {str(path) for name in map(PurePosixPath, reported) for path in (name, *name.parents)}
    return first_messages(
        [
            f"ignoring empty class folder '{layout.tree.path(folder.name)}': no audio files found"
            for folder in layout.classes
            if normalize_id(folder.label) not in labels and folder.name not in folders
        ]
    )
