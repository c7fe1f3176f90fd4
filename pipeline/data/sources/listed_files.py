"""Files that a table lists: which exist, and hints where missing ones are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.audio.file_types import ending
from pipeline.data.clips import shown
from pipeline.data.sources.file_finder import FileFinder, FoundFile
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError
from pipeline.io.folder_tree import MISSING
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import is_store_uri


class NoListedFileError(UserError):
    """No file that a table lists exists."""


@dataclass
class ListedFiles:
    """Finds the files of a table, and notes which are missing."""

    name: str
    """Flag and path of the table, for error messages."""
    finder: FileFinder
    found: int = 0
    missing: int = 0
    first_missing: FoundFile | None = None
    other_case: dict[str, list[str]] = field(default_factory=dict)
    """Names of files that are written in another case or with another ending in the table, by path."""

    def __len__(self) -> int:
        return self.found + self.missing

    def find(self, line: int, path: str) -> FoundFile:
        """Return the file of a row.

        Raises:
            UserError: the name stands for several files.
        """
        try:
            file = self.finder.find(path)
        except ValueError as error:
            raise UserError(f"{self.name}, line {line}: {error}") from None
        if file.status.size == MISSING:
            self.missing += 1
            self.first_missing = self.first_missing or file
        else:
            self.found += 1
        if not file.same_case:
            self.other_case.setdefault(file.path, []).append(file.name)
        return file

    def check(self, table: Path, paths: pd.Series) -> list[str]:
        """Return warnings about missing files, and about those with another ending than in the table.

        Args:
            table: the table.
            paths: the files of its clips.

        Raises:
            NoListedFileError: none of the files exists.
            UserError: one file is listed in upper and in lower case, or with two endings.
        """
        self._check_case(paths)
        example = self.first_missing
        if example is None:
            return self._converted_warning()
        if not self.found:
            raise NoListedFileError(
                f"{self.name}: none of the {self.missing} listed files exists; the first was expected as "
                f"{shown(example.path)}{_neighbor_hint(table, example.name)}"
            )
        missing = f"{self.missing} of {len(self)} listed files do not exist, e.g. {shown(example.path)}"
        return [missing, *self._converted_warning()]

    def _converted_warning(self) -> list[str]:
        """Return a warning about files with another ending than in the table, if there are any."""
        converted = {
            path: name
            for path, (name, *_) in self.other_case.items()
            if ending(name) not in ("", ending(path.partition("?")[0] if is_store_uri(path) else path))
        }
        if not converted:
            return []
        path, name = next(iter(converted.items()))
        return [
            f"{len(converted)} of {len(self)} listed files exist with another ending only, e.g. "
            f"{shown(name)} as {shown(path)}"
        ]

    def _check_case(self, paths: pd.Series) -> None:
        """Check that no name such as `A.wav` or `a.mp3` stands for a file `a.wav` that has a row of its own.

        Raises:
            UserError: it does; a disk that ignores case may have kept only one of two files.
        """
        counts = paths[paths.isin(self.other_case.keys())].value_counts().to_dict()
        for path, names in self.other_case.items():
            if counts[path] > len(names) or len(set(names)) > 1:
                raise UserError(
                    f"{self.name}: {shown(names[0])} does not exist, only {shown(path)}, which has another "
                    "row; add the missing file, or correct the table"
                )


def _neighbor_hint(table: Path, name: str) -> str:
    """Return where a missing file is, if it is below a folder next to the table or to the table's folder."""
    for base, prefix in ((table.parent, ""), (table.parent.parent, "../")):
        folders = _folders_in(base)
        found = map_concurrently(lambda folder: FileFinder(folder).exists(name), folders)
        for folder, exists in zip(folders, found, strict=True):
            if exists:
                example = f"{prefix}{folder.name}/{name}"
                return f", but it is in '{folder}': move the CSV there, or write paths like {shown(example)}"
    return "; paths are relative to the folder of the CSV"


def _folders_in(folder: Path) -> list[Path]:
    if isinstance(folder, RemotePath):
        # Of a bucket's root, the folder would be the list of all buckets.
        return [path for path, info in folder.children() if info.is_folder] if folder.is_in_bucket else []
    return sorted(path for path in folder.iterdir() if path.is_dir())
