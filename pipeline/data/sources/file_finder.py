"""Files by the names in a table, which may differ from those on disk in form, case, separator or ending."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.audio.file_types import EXTENSIONS, UNSUPPORTED_EXTENSIONS, ending
from pipeline.data.clips import normalize_id, shown
from pipeline.io.folder_tree import MISSING, FileStatus, local_status
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import is_store_uri, to_path


class FoundFile(NamedTuple):
    """A file that a table names."""

    path: str
    """Absolute path or URI; where the file was expected if it does not exist."""
    status: FileStatus
    name: str
    """The name as written, without surrounding blanks and with forward slashes, unless the file has them."""
    same_case: bool = True
    """Whether the name is that of the file also in upper and lower case."""


class FileFinder:
    """Finds files by names relative to a folder; lists a folder only if it has no file of that name."""

    def __init__(self, folder: Path):
        """Set the folder, on disk or in an object store."""
        self._folder = folder
        self._indexes: dict[str, _NameIndex] = {}
        self._folders: dict[str, str | None] = {}  # existing folder of each folder in the table

    def find(self, name: str) -> FoundFile:
        """Find a file by its path, by an equivalent one (Unicode form, case), or by its path without ending.

        Raises:
            ValueError: the name stands for several files, is that of a folder, or is not a valid URI.
            OSError: the object store cannot be reached.
        """
        plain = name.strip().replace("\\", "/")
        for variant in dict.fromkeys((name, name.strip(), plain)):
            path = self._absolute(variant)
            status = file_status(path)
            if status.size != MISSING and status.is_regular:
                return FoundFile(path, status, variant)
        path = self._absolute(plain)
        equivalent = self._equivalent(path)
        if equivalent is None:
            return FoundFile(path, FileStatus(MISSING, 0), plain)
        status = file_status(equivalent)
        if not status.is_regular:  # a named pipe, for example, would block its reader
            raise ValueError(f"{shown(name)} is not a file")
        return FoundFile(equivalent, status, plain, normalize_id(equivalent).startswith(normalize_id(path)))

    def exists(self, name: str) -> bool:
        """Return whether there is a file of that name, or several."""
        try:
            return self.find(name).status.size != MISSING
        except ValueError:
            return True

    def _absolute(self, name: str) -> str:
        if is_store_uri(name):
            return str(to_path(name))
        if os.path.isabs(name):
            return os.path.abspath(name)
        if isinstance(self._folder, RemotePath):
            return str(self._folder.with_key(posixpath.normpath(f"{self._folder.key}/{name}")))
        return os.path.abspath(self._folder / name)

    def _equivalent(self, path: str) -> str | None:
        """Return the file with an equivalent path; None if there is none."""
        if is_store_uri(path):
            remote: RemotePath = to_path(path)
            match = self._index(str(remote.parent)).match(remote.name)
            return None if match is None else str(remote.with_name(match))
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = self._existing_folder(folder)
        existing = self._folders[folder]
        match = None if existing is None else self._index(f"{existing}/").match(name)
        return None if match is None else f"{existing}/{match}"

    def _existing_folder(self, path: str) -> str | None:
        """Return the local folder with an equivalent path; None if there is none."""
        if os.path.isdir(f"{path}/"):
            return path
        parent, _, name = path.rpartition("/")
        existing = self._existing_folder(parent)
        match = None if existing is None else self._index(f"{existing}/").match_folder(name)
        return None if match is None else f"{existing}/{match}"

    def _index(self, folder: str) -> _NameIndex:
        if folder not in self._indexes:
            self._indexes[folder] = _NameIndex(_entries(folder))
        return self._indexes[folder]


class _NameIndex:
    """Names in a folder, by the names that are equivalent to them."""

    def __init__(self, names: Iterable[str]):
        self._by_form: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_case: dict[str, list[str]] = defaultdict(list)
        for name in names:
            form = normalize_id(name)
            self._by_form[form].append(name)
            self._by_case[form.casefold()].append(name)
            if ending(name) in EXTENSIONS | UNSUPPORTED_EXTENSIONS:
                self._by_stem[form.rpartition(".")[0]].append(name)

    def match_folder(self, name: str) -> str | None:
        """Return the equivalent name of a folder; None if there is none, or several."""
        form = normalize_id(name)
        matches = self._by_form.get(form) or self._by_case.get(form.casefold()) or []
        return matches[0] if len(matches) == 1 else None

    def match(self, name: str) -> str | None:
        """Return the equivalent name of a file, which may have an ending; None if there is none.

        Raises:
            ValueError: there are several.
        """
        form = normalize_id(name)
        matches = self._by_stem.get(form) or self._by_form.get(form) or self._by_case.get(form.casefold())
        if matches is None:
            return None
        if len(matches) > 1:
            raise ValueError(f"{shown(name)} can be {' or '.join(shown(str(match)) for match in matches)}")
        return matches[0]


def file_status(path: str) -> FileStatus:
    """Return size and time of a local file or an object.

    Raises:
        OSError: the object store cannot be reached.
    """
    if not is_store_uri(path):
        return local_status(path)
    info = to_path(path).info()
    return FileStatus(MISSING if info.size is None else info.size, info.mtime_ns or 0)


def _entries(folder: str) -> list[str]:
    if is_store_uri(folder):
        return [path.name for path in to_path(folder).iterdir()]
    try:
        return os.listdir(folder)
    except OSError:
        return []
