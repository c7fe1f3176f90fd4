"""Clips whose names state their classes, as in RAVDESS and CREMA-D: all audio files below a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.data.annotations.annotated_folder import training_clips
from pipeline.data.clips import to_table
from pipeline.data.labels import join_labels, split_labels
from pipeline.data.sources.audio_folders import AudioWalk, ClassFolder
from pipeline.data.sources.name_patterns import named_classes
from pipeline.io.errors import report_os_errors
from pipeline.io.folder_tree import FolderTree


@dataclass(frozen=True)
class NamedClips:
    """Clips with the classes in their names, and warnings."""

    clips: pd.DataFrame
    warnings: list[str]


def read_named_clips(tree: FolderTree, data: Path, pattern: str, multi_label: bool) -> NamedClips:
    """Read the clips of all audio files in the folder `data`, which `tree` lists, with classes by a pattern.

    Those in folders of held-out splits next to a training split are left out.

    Raises:
        UserError: the folder cannot be read, or the pattern does not match a path.
    """
    with report_os_errors("reading", f"--data {data}"):
        walk = AudioWalk(tree)
        clips, warnings = training_clips(to_table(walk.records([ClassFolder("", "")])))
    names = named_classes(clips["clip_id"], pattern)
    labels = [join_labels(split_labels(name)) for name in names] if multi_label else names
    clips = clips.assign(label=labels).reset_index(drop=True)
    return NamedClips(clips, walk.omitted.warnings() + warnings)
