"""Class folders that are divided into splits, as `dog/train` and `dog/test`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from pipeline.data.clips import shown_list
from pipeline.data.sources.audio_folders import (
    ClassFolder,
    outside_warning,
    visible_folders,
    with_recordings,
)
from pipeline.data.sources.split_names import split_of
from pipeline.io.folder_tree import FolderTree, join

# Class folders that are looked into for splits: where one is divided, most are.
_LOOKED_INTO = 3


def classes_with_splits(
    tree: FolderTree, data: Path, names: list[str], warnings: list[str]
) -> list[ClassFolder] | None:
    """Return the folders of training clips in class folders with `train` and `test` in them, as `dog/train`.

    None if the first class folders are not divided so; then the others are not looked into.
    """
    if not any(_is_divided(tree, name) for name in names[:_LOOKED_INTO]):
        return None
    classes, held_out = [], []
    for name in names:
        parts: list[str] = []
        with suppress(OSError):  # an unreadable folder, which the walk reports
            parts = visible_folders(tree, name)
        if not any(map(split_of, parts)):
            classes.append(ClassFolder(name, name))
            continue
        warnings += outside_warning(tree, name, data)
        held_out += with_recordings(
            tree, [join(name, part) for part in parts if split_of(part) == "held out"]
        )
        classes += [ClassFolder(join(name, part), name) for part in parts if split_of(part) != "held out"]
    warnings.append(f"ignoring {shown_list(held_out, 3)}, named like held-out splits of their classes")
    return classes


def _is_divided(tree: FolderTree, name: str) -> bool:
    """Return whether a class folder has recordings in folders of training and of held-out clips."""
    try:
        parts = [part for part in visible_folders(tree, name) if split_of(part) is not None]
    except OSError:  # which the walk reports
        return False
    if {split_of(part) for part in parts} != {"train", "held out"}:
        return False
    found = with_recordings(tree, [join(name, part) for part in parts])
    return {split_of(folder.rpartition("/")[2]) for folder in found} == {"train", "held out"}
