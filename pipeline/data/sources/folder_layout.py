"""Which folders below a data folder are classes: recognizes splits and folds, leaves out other folders."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.audio.file_types import ending, is_hidden
from pipeline.data.clips import NO_FOLD, shown, shown_list
from pipeline.data.sources.audio_folders import (
    ClassFolder,
    has_own_recordings,
    has_recordings,
    is_output,
    outside_warning,
    visible_folders,
    with_recordings,
)
from pipeline.data.sources.divided_classes import classes_with_splits
from pipeline.data.sources.name_patterns import PATTERN_HINT
from pipeline.data.sources.split_names import split_of, splits_in
from pipeline.io.errors import UserError, explain_os_error
from pipeline.io.folder_tree import FolderTree, join

# Noise recordings of Speech Commands, attributes of macOS archives, caches.
_NO_CLASSES = frozenset(("_background_noise_", "__macosx", "__pycache__"))
_FOLD_NAME = re.compile(r"fold[_\- ]?(\d{1,6})", re.IGNORECASE)
# Folders in each class folder that may be the classes; more of them are rather recordings or speakers.
_MAX_SHARED_FOLDERS = 20
_CSV_HINT = "list the files in a CSV with the columns path,label[,fold]"


@dataclass
class Layout:
    """Class folders of a tree."""

    tree: FolderTree
    """Tree of the data folder or of its training split; ids are paths below its root."""
    classes: list[ClassFolder]
    warnings: list[str] = field(default_factory=list)


def find_classes(tree: FolderTree, data: Path) -> Layout:
    """Find the class folders of the data folder `data`.

    Raises:
        UserError: a folder cannot be read, or has several interpretations.
    """
    try:
        warnings: list[str] = []
        split = _training_split(tree, data, warnings)
        if split is not None:
            tree, data = tree.subtree(split), data / split
        names = _class_names(tree, warnings)
        if split is None:
            names = _without_held_out(tree, data, names, warnings)
        classes = (
            _fold_classes(tree, data, names, warnings)
            or classes_with_splits(tree, data, names, warnings)
            or [ClassFolder(name, name) for name in names]
        )
    except OSError as error:
        raise UserError(explain_os_error(error, f"reading --data {data}")) from None
    warnings += outside_warning(tree, "", data) + _split_classes_warning(tree, data, names)
    return Layout(tree, classes, warnings)


def _class_names(tree: FolderTree, warnings: list[str]) -> list[str]:
    """Return the folders in the root, without those that cannot be classes."""
    listing = tree.list("")
    hidden = [name for name in listing.folders + listing.linked_folders if is_hidden(name)]
    names = visible_folders(tree, "")
    ignored = [name for name in names if name.lower() in _NO_CLASSES] + hidden
    ignored = with_recordings(tree, ignored)
    if ignored:
        warnings.append(f"ignoring folders that are no classes: {shown_list(ignored)}")
    return [name for name in names if name.lower() not in _NO_CLASSES]


def _training_split(tree: FolderTree, data: Path, warnings: list[str]) -> str | None:
    """Return the folder of the training split, such as `train`; None if the root has the class folders.

    A folder named so is a class if it has recordings of its own and is next to other classes.

    Raises:
        UserError: it can be a class as well, or has no class folders.
    """
    names = [name for name in visible_folders(tree, "") if name.lower() not in _NO_CLASSES]
    named = with_recordings(tree, [name for name in names if split_of(name) == "train"])
    if not named:
        return None
    held_out = [name for name in names if split_of(name) == "held out"]
    others = with_recordings(tree, [name for name in names if split_of(name) is None])
    splits = [name for name in named if _has_class_folders(tree, name)]
    if others:
        splits = [name for name in splits if not has_own_recordings(tree, name)]
    if not splits and not others:
        raise UserError(
            f"--data {data}: {shown(named[0])} holds recordings but no class folders; sort them into one "
            f"folder per class, or {_CSV_HINT}; {PATTERN_HINT}{_join_hint(table_hint(tree))}"
        )
    if not splits:
        return None
    if len(splits) > 1 or (others and not held_out):
        raise _ambiguous_split(data, splits[0], splits[1:] or others)
    ignored = sorted({*held_out, *others, *named} - {splits[0], "test"})
    if ignored:
        warnings.append(f"reading the class folders in {shown(splits[0])}, not {shown_list(ignored)}")
    return splits[0]


def _ambiguous_split(data: Path, split: str, neighbors: list[str]) -> UserError:
    return UserError(
        f"--data {data}: {shown(split)} can be a training split or a class next to "
        f"{shown_list(neighbors, 3)}; to read its class folders, pass --data {data / split}; "
        "if it is a class, rename it"
    )


def _join_hint(hints: list[str]) -> str:
    return "".join(f"; {hint}" for hint in hints)


def _has_class_folders(tree: FolderTree, folder: str) -> bool:
    return any(has_recordings(tree, join(folder, name)) for name in visible_folders(tree, folder))


def _without_held_out(tree: FolderTree, data: Path, names: list[str], warnings: list[str]) -> list[str]:
    """Leave out folders named like a test or validation split.

    Raises:
        UserError: there are no others, or such a folder can be one of two classes.
    """
    held_out = [name for name in names if _is_held_out(tree, name)]
    if not held_out:
        return names
    rest = [name for name in names if name not in held_out]
    classes = with_recordings(tree, rest)
    if not classes:
        raise UserError(
            f"--data {data}: no training split or class folder next to {shown_list(held_out)}; "
            + _held_out_hint(tree, data, held_out)
        )
    if len(classes) == 1 and not _has_class_folders(tree, held_out[0]):
        raise UserError(
            f"--data {data}: {shown(held_out[0])} can be a split or a class next to {shown(classes[0])}; "
            f"if it is a class, rename it, else move it out of --data"
        )
    warnings.append(
        f"ignoring {shown_list(held_out)}, named like a test or validation split; if it is a class, rename it"
    )
    return rest


def _held_out_hint(tree: FolderTree, data: Path, held_out: list[str]) -> str:
    """Return what to do if there is nothing but folders of test or validation splits."""
    with_classes = next((name for name in held_out if _has_class_folders(tree, name)), None)
    if with_classes is not None:
        return f"to read its class folders, pass --data {data / with_classes}"
    return next(
        iter(table_hint(tree)),
        f"none of them has class folders: sort them into these, or {_CSV_HINT}; {PATTERN_HINT}",
    )


def _is_held_out(tree: FolderTree, name: str) -> bool:
    """Return whether a folder is a split next to class folders; `valid` may be a class next to `invalid`."""
    if split_of(name) != "held out" or not has_recordings(tree, name):
        return False
    return name.lower() != "valid" or _has_class_folders(tree, name)


def _split_classes_warning(tree: FolderTree, data: Path, names: list[str]) -> list[str]:
    """Return a warning about class folders that seem to be splits, such as `birds_train` and `birds_test`.

    Without a training split, all classes are named so (`vox1_dev_wav`, `vox1_test_wav`).
    """
    named = with_recordings(tree, filter(splits_in, names))
    train = [name for name in named if "train" in splits_in(name)]
    has_both = 0 < len(train) < len(named)
    are_held_out = not train and 1 < len(named) == len(with_recordings(tree, names))
    if not (has_both or are_held_out):
        return []
    split = data / (train or named)[0]
    return [
        f"{shown_list(named)} are read as classes; if they are splits, pass --data {split}, or {_CSV_HINT}"
    ]


def _fold_classes(
    tree: FolderTree, data: Path, names: list[str], warnings: list[str]
) -> list[ClassFolder] | None:
    """Return the class folders in folders named `fold1`, `fold2`, …; None if there are no such folders.

    Raises:
        UserError: there are class folders next to folds, or none in them.
    """
    folds = {name: int(match[1]) for name in names if (match := _FOLD_NAME.fullmatch(name))}
    folds = {name: folds[name] for name in with_recordings(tree, folds)}
    others = with_recordings(tree, [name for name in names if name not in folds]) if folds else []
    if not folds or (others and len(folds) == 1):
        return None
    if others:
        raise UserError(
            f"--data {data}: {shown_list(folds, 3)} are named like folds, next to class folders "
            f"{shown_list(others, 3)}; rename them, or {_CSV_HINT}"
        )
    classes = [
        ClassFolder(join(name, label), label, number)
        for name, number in folds.items()
        for label in visible_folders(tree, name)
    ]
    if not any(has_recordings(tree, folder.name) for folder in classes):
        raise UserError(
            f"--data {data}: {shown_list(folds, 3)} are folds without class folders in them "
            f"(as in UrbanSound8K); {_CSV_HINT}{_join_hint(table_hint(tree))}"
        )
    warnings.append(f"reading {shown_list(folds, 3)} as folds, and the folders in them as classes")
    for name in folds:
        warnings += outside_warning(tree, name, data)
    return classes


def nested_classes(layout: Layout) -> str | None:
    """Return the folder with class folders in the only class folder, or deeper; None if it is a class itself.

    Neither has recordings of its own.

    Raises:
        OSError: a folder cannot be read.
    """
    tree = layout.tree
    folders = with_recordings(tree, [folder.name for folder in layout.classes])
    while len(folders) == 1 and not has_own_recordings(tree, folders[0]):
        (folder,) = folders
        names = [name for name in visible_folders(tree, folder) if name.lower() not in _NO_CLASSES]
        folders = with_recordings(tree, [join(folder, name) for name in names])
        if len(folders) > 1:
            return folder
    return None


def nested_classes_warning(layout: Layout) -> list[str]:
    """Return a warning if the only class folder with recordings looks like a folder of class folders."""
    for folder in layout.classes:
        if has_recordings(layout.tree, folder.name) and not has_own_recordings(layout.tree, folder.name):
            below = [join(folder.name, name) for name in visible_folders(layout.tree, folder.name)]
            if len(with_recordings(layout.tree, below)) > 1:
                path = layout.tree.path(folder.name)
                return [f"if the folders in {shown(folder.name)} are the classes, pass --data {path}"]
    return []


def shared_folders_warning(layout: Layout) -> list[str]:
    """Return a warning if each class folder has nothing but the same folders, which may be the classes.

    In MIMII each machine, such as `id_00`, has `normal` and `abnormal`.
    """
    tree = layout.tree
    folders = [folder.name for folder in layout.classes if folder.fold == NO_FOLD]
    try:
        names = {tuple(sorted(visible_folders(tree, folder))) for folder in folders}
        if len(folders) < 2 or len(names) != 1:
            return []
        (shared,) = names
        is_few = 1 < len(shared) <= _MAX_SHARED_FOLDERS
        if not is_few or any(has_own_recordings(tree, folder) for folder in folders):
            return []
    except OSError:  # an unreadable folder, which is reported otherwise
        return []
    pattern = "|".join(map(re.escape, shared))
    return [
        f"each class folder has the folders {shown_list(shared)}: if these are the classes, and "
        f"{shown_list(folders, 3)} are none, add --label-pattern '/({pattern})/'"
    ]


def table_hint(tree: FolderTree) -> list[str]:
    """Return which table in a folder, or in a folder in it, may have the labels of the recordings."""
    for folder in ["", *visible_folders(tree, "")]:
        with suppress(OSError):  # an unreadable folder
            listing = tree.list(folder)
            tables = [name for name in listing.files if ending(name) in ("csv", "tsv")]
            if tables and not is_output(listing):
                path = tree.path(join(folder, tables[0]))
                return [f"if {shown(tables[0])} has the labels, pass --data {path}"]
    return []
