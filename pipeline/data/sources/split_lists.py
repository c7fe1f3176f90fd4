"""Lists of the files of a split next to class folders: `testing_list.txt` of Speech Commands and the like.

A line is the path of a recording, below the folder of the list or with folders above it, as people write it:
with or without ending, and perhaps followed by a class.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.audio.file_types import ending, is_audio
from pipeline.data.clips import normalize_id, shown, shown_list
from pipeline.data.sources.file_finder import plain_path
from pipeline.data.sources.split_names import splits_in
from pipeline.io.csv_files import open_text
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import FolderTree
from pipeline.io.storage import to_path
from pipeline.io.text import plural

LIST_ENDING = "txt"
# What may be between a path and a class, and is rare in paths.
_SEPARATOR = re.compile(r"[\t,;|]")


class ListedClips:
    """Finds clips by the lines of lists."""

    def __init__(self, clip_ids: Iterable[str]):
        """Take the ids, which are paths below the folder of the clips."""
        self._by_name: defaultdict[str, list[str]] = defaultdict(list)
        for clip_id in clip_ids:
            self._by_name[PurePosixPath(clip_id).stem].append(clip_id)

    def find_all(self, lines: Iterable[str]) -> set[str]:
        """Return the ids of the clips that some lines name."""
        return {clip_id for line in lines if (clip_id := self.find(line)) is not None}

    def find(self, line: str) -> str | None:
        """Return the id of the only clip that a line names; None without any, or if it may be several."""
        first = _SEPARATOR.split(line, maxsplit=1)[0]
        return self._find(line) or self._find(first) or self._find(line.rpartition(" ")[0])

    def _find(self, text: str) -> str | None:
        path = PurePosixPath(normalize_id(plain_path(text)))
        names = {path.stem, path.name}
        fitting = [
            clip_id
            for name in sorted(names)
            for clip_id in self._by_name.get(name, [])
            if _same_end(path.parts, PurePosixPath(clip_id).parts)
        ]
        return fitting[0] if len(fitting) == 1 else None


def _same_end(listed: tuple[str, ...], clip: tuple[str, ...]) -> bool:
    """Return whether the parts of one path end those of the other; the listed one may lack the ending."""
    if listed[-1] not in (clip[-1], PurePosixPath(clip[-1]).stem):
        return False
    common = min(len(listed), len(clip))
    return listed[-common:-1] == clip[-common:-1]


def read_lines(path: Path, flag: str) -> Iterator[str]:
    """Yield the lines of a list that are not empty.

    Raises:
        UserError: not a text file.
    """
    with open_text(path, flag) as file:
        yield from (line for text in file if (line := text.strip()))


@dataclass
class SplitLists:
    """Clips in the lists of a folder, by the names of these."""

    training: dict[str, set[str]] = field(default_factory=dict)
    held_out: dict[str, set[str]] = field(default_factory=dict)
    """Of test and validation splits."""
    warnings: list[str] = field(default_factory=list)

    @staticmethod
    def read(tree: FolderTree, clip_ids: Iterable[str]) -> SplitLists:
        """Read the lists in the root of a tree of clips: text files named like a split, with a clip.

        Raises:
            OSError: the folder cannot be read.
        """
        names = sorted(name for name in tree.list("").files if _list_split(name) is not None)
        lists = SplitLists()
        lookup = ListedClips(clip_ids if names else ())
        for name in names:
            try:
                lines = list(read_lines(to_path(tree.path(name)), "--data"))
            except UserError as error:
                lists.warnings.append(f"not read as a list of clips: {error}")
                continue
            if clips := lookup.find_all(lines):
                found = lists.training if _list_split(name) == "train" else lists.held_out
                found[name] = clips
                lists.warnings += _unknown_lines_warning(name, len(lines) - len(clips))
        return lists

    def left_out(self, clip_ids: Iterable[str]) -> dict[str, set[str]]:
        """Return the clips that are not of the training split, by the reason for it."""
        reasons = {f"in {shown(name)}": clips for name, clips in self.held_out.items()}
        if self.training:
            others = set(clip_ids).difference(*self.training.values(), *self.held_out.values())
            reasons[f"not in {shown_list(self.training)}"] = others
        return {reason: clips for reason, clips in reasons.items() if clips}


def _list_split(name: str) -> str | None:
    """Return which split a file in the folder of the clips lists, by its name; None if it is no list."""
    splits = splits_in(name.rpartition(".")[0])
    return splits.pop() if ending(name) == LIST_ENDING and len(splits) == 1 else None


def _unknown_lines_warning(name: str, count: int) -> list[str]:
    if count == 0:
        return []
    return [f"{plural(count, 'line')} of the list {shown(name)}: no clip, or one of another line"]


def without_held_out(tree: FolderTree, clips: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Leave out clips that are not of the training split by lists in the root of a tree.

    These are the clips in lists of a test or validation split, and those that no list has if there is one of
    the training split.

    Args:
        tree: tree of the class folders.
        clips: manifest of their clips.

    Returns:
        the other clips, or all if there are no others; and warnings.

    Raises:
        OSError: the folder cannot be read.
    """
    lists = SplitLists.read(tree, clips["clip_id"])
    reasons = lists.left_out(clips["clip_id"])
    if not reasons:
        return clips, lists.warnings
    counts = ", ".join(f"{len(found):,} {reason}" for reason, found in reasons.items())
    kept = clips[~clips["clip_id"].isin(set().union(*reasons.values()))].reset_index(drop=True)
    if kept.empty:
        return clips, [*lists.warnings, f"lists leave no clip for training ({counts}): reading all clips"]
    left_out = plural(len(clips) - len(kept), "clip")
    note = f"leaving out {left_out} of other splits ({counts}); to use them, move these lists away"
    return kept, [*lists.warnings, note, *_missing_classes_warning(clips, kept)]


def _missing_classes_warning(clips: pd.DataFrame, kept: pd.DataFrame) -> list[str]:
    missing = sorted(set(clips["label"]) - set(kept["label"]))
    return [f"lists leave no clip of {shown_list(missing)} for training"] if missing else []


def only_listed(path: Path, clips: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the clips that a list names, and warnings.

    Raises:
        UserError: not a text file, or none of its lines is a clip.
    """
    lines = list(read_lines(path, "--data"))
    found = ListedClips(clips["clip_id"]).find_all(lines)
    if lines and not found:
        raise UserError(
            f"--data {path}: none of its {plural(len(lines), 'line')} is a recording in class folders in the "
            f"folder of the list, e.g. {shown(lines[0])}; put the list there, or write a CSV with the "
            "columns path,label"
        )
    kept = clips[clips["clip_id"].isin(found)].reset_index(drop=True)
    return kept, _unknown_lines_warning(path.name, len(lines) - len(found))


def is_path_list(path: Path) -> bool:
    """Return whether a file is a list of paths, and not a table, by its first line.

    Raises:
        UserError: not a text file.
    """
    if ending(path.name) != LIST_ENDING:
        return False
    line = next(read_lines(path, "--data"), "")
    return _SEPARATOR.search(line) is None and (is_audio(line) or "/" in line)
