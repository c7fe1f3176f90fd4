"""Which folder in the paths of files names their split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.data.sources.file_finder import plain_path
from pipeline.data.sources.split_names import is_development, split_of


class SplitFolder(NamedTuple):
    """A folder in the paths of files that names their split."""

    depth: int
    """Which one it is, as for `folder_at`."""
    names: frozenset[str] | None = None
    """Names of it in paths of other splits than the training split; None: those that `split_of` knows."""

    def held_out(self, path: str) -> str:
        """Return the folder that a path of another split is in; empty for the training split."""
        folder = folder_at(path, self.depth)
        is_held_out = split_of(folder) == "held out" if self.names is None else folder in self.names
        return folder if is_held_out else ""


def split_folder(paths: Iterable[str]) -> SplitFolder | None:
    """Return which folder in some paths is their split; None if none is.

    It is the first one that names both training and held-out splits. One split alone may be all that there
    is, or a class.
    """
    parents = set(map(_parent, paths))
    folders: defaultdict[int, set[str]] = defaultdict(set)
    for parent in parents:
        for depth, folder in enumerate(parent.split("/")):
            folders[depth].add(folder)
    for depth in sorted(folders):
        if held_out := _held_out_folders(folders[depth]):
            return SplitFolder(depth, held_out)
    return None


def _held_out_folders(names: Iterable[str]) -> frozenset[str]:
    """Return those of some folders that are held out, if others of them are a training split."""
    kinds = {name: "development" if is_development(name) else split_of(name) for name in names}
    if "train" in kinds.values():
        return frozenset(name for name, kind in kinds.items() if kind in ("held out", "development"))
    if "development" in kinds.values():
        return frozenset(name for name, kind in kinds.items() if kind == "held out")
    return frozenset()


def folder_at(path: str, depth: int) -> str:
    """Return a folder of a path as people write it; empty if it has no folder there.

    `depth` is 0 for the first folder, of an absolute path 1.
    """
    folders = _parent(path).split("/")
    return folders[depth] if depth < len(folders) else ""


def _parent(path: str) -> str:
    return plain_path(path).removeprefix("./").rpartition("/")[0]
