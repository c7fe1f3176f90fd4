"""Folders in listings of object stores: which objects only stand for one, and which folders keys imply."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from pipeline.io.object_store import ObjectInfo


def add_implied_folders(infos: list[ObjectInfo], root: str) -> list[ObjectInfo]:
    """Return the files below `root` and the folders that their keys imply."""
    files = list(without_folder_markers(infos))
    folders = {
        str(folder)
        for info in files
        for folder in PurePosixPath(info.key).parents
        if str(folder) != root and str(folder) != "." and folder.is_relative_to(root or ".")
    }
    return [*files, *(ObjectInfo(key, is_folder=True) for key in folders)]


def without_folder_markers(infos: Iterable[ObjectInfo]) -> list[ObjectInfo]:
    """Leave out objects that stand for folders, as consoles and other programs create them.

    They are empty, and their names end with a slash, which clients leave out. Without it they are known by
    objects below them, or by having no ending.
    """
    infos = list(infos)
    empty = {info.key for info in infos if not info.size and not info.is_folder}
    markers = {key for key in empty if "." not in key.rpartition("/")[2]}
    if empty > markers:
        keys = sorted(info.key for info in infos)
        markers |= {key for key in empty - markers if _is_start(f"{key}/", keys)}
    return [info for info in infos if info.is_folder or info.key not in markers]


def _is_start(text: str, keys: Sequence[str]) -> bool:
    """Return whether one of the sorted keys starts with a text."""
    index = bisect.bisect_left(keys, text)
    return index < len(keys) and keys[index].startswith(text)
