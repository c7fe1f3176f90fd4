"""Files by the names in a table, which may differ from those on disk in form, case, separator or ending.

What is in object stores is requested for many names concurrently: `plan` once for the whole table, `prepare`
before some names are looked up with `find`, which otherwise requests what it needs.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.audio.file_types import EXTENSIONS, UNSUPPORTED_EXTENSIONS, ending
from pipeline.data.clips import normalize_id, shown
from pipeline.data.sources.object_status import NOT_FOUND, ObjectStatuses, request_status
from pipeline.io.concurrent import map_concurrently
from pipeline.io.folder_tree import MISSING, FileStatus, local_status
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import is_store_uri, to_path

# The beginning of a URL, whatever its scheme is.
_URL = re.compile(r"\s*[a-z][a-z0-9+.\-]*://", re.IGNORECASE)


class UnreadURLError(ValueError):
    """A name is a URL, and not that of an object store."""


class FoundFile(NamedTuple):
    """A file that a table names."""

    path: str
    """Absolute path or URI; where the file was expected if it does not exist."""
    status: FileStatus
    name: str
    """The name as written, without surrounding blanks and with forward slashes, unless the file has them."""
    same_case: bool = True
    """Whether the name is that of the file, also in upper and lower case, but for a missing ending."""


class FileFinder:
    """Finds files by names relative to a folder; lists a local folder only if it has no file of that name."""

    def __init__(self, folder: Path):
        """Set the folder, on disk or in an object store."""
        self._folder, self._is_local = folder, not isinstance(folder, RemotePath)
        self._root = os.path.abspath(folder) if self._is_local else str(folder)
        self._objects = ObjectStatuses()
        self._uris: dict[str, str] = {}  # of the names that are prepared
        self._indexes: dict[str, _NameIndex] = {}
        self._folders: dict[str, str | None] = {}  # existing folder of each folder in the table

    def is_remote(self, name: str) -> bool:
        """Return whether a name is that of an object in an object store."""
        return is_store_uri(name) or not (self._is_local or os.path.isabs(name))

    def plan(self, names: Iterable[str]) -> None:
        """List the folders in object stores of which a table names many objects.

        Raises:
            OSError: the object store cannot be reached.
        """
        rows: Counter[RemotePath] = Counter()
        for name in filter(self.is_remote, names):
            with suppress(ValueError):
                rows[self._remote_path(plain_path(name)).parent] += 1
        self._objects.list_folders(rows)

    def prepare(self, names: Iterable[str]) -> None:
        """Request what `find` needs for some names, concurrently; forget what it needed for others.

        Raises:
            OSError: the object store cannot be reached.
        """
        self._objects.forget()
        self._uris = {}
        paths = {name: self._variant_paths(name) for name in names if self.is_remote(name)}
        self._objects.request(path for variants in paths.values() for path in variants)
        missing = [
            variants[-1]
            for variants in paths.values()
            if variants and all(self._objects.status(str(path)).size == MISSING for path in variants)
        ]
        folders = {str(path.parent) for path in missing} - self._indexes.keys()
        for folder, entries in zip(folders, map_concurrently(_entries, folders), strict=True):
            self._indexes[folder] = _NameIndex(entries)
        self._objects.request(to_path(uri) for uri in map(self._unique_equivalent, missing) if uri)

    def _variant_paths(self, name: str) -> list[RemotePath]:
        """Return the paths that a name may stand for, last its plain form; none if it is not valid."""
        paths = []
        with suppress(ValueError):  # raised for the row, with its number
            for variant in _variants(name):
                path = self._remote_path(variant)
                self._uris[variant] = str(path)
                paths.append(path)
        return paths

    def _unique_equivalent(self, path: RemotePath) -> str | None:
        with suppress(ValueError):
            return self._equivalent(str(path))
        return None

    def find(self, name: str) -> FoundFile:
        """Find a file by its path, by an equivalent one (Unicode form, case), or by its path without ending
        or with that of another audio format.

        Raises:
            UnreadURLError: the name is a URL such as `https://…`.
            ValueError: the name stands for several files, is that of a folder, or is not a valid URI.
            OSError: the object store cannot be reached.
        """
        if self._is_local and is_normal_path(name):  # nearly all names: a table may have millions
            path = name if name.startswith("/") else f"{self._root}/{name}"
            status = local_status(path)
            if status.size != MISSING and status.is_regular:
                return FoundFile(path, status, name)
        for variant in _variants(name):
            path = self._absolute(variant)
            status = self._status(path)
            if status.size != MISSING and status.is_regular:
                return FoundFile(path, status, variant)
        plain = plain_path(name)
        if not is_store_uri(plain) and _URL.match(plain):
            raise UnreadURLError(
                f"{shown(name)} is a URL, which is not read: download the file, and write its path"
            )
        path = self._absolute(plain)
        equivalent = self._equivalent(path)
        if equivalent is None:
            return FoundFile(path, NOT_FOUND, plain)
        status = self._status(equivalent)
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
        if name in self._uris:
            return self._uris[name]
        if self.is_remote(name):
            return str(self._remote_path(name))
        return os.path.abspath(name if os.path.isabs(name) else f"{self._root}/{name}")

    def _remote_path(self, name: str) -> RemotePath:
        if is_store_uri(name):
            return to_path(name)
        assert isinstance(self._folder, RemotePath)
        return self._folder.with_key(posixpath.normpath(f"{self._folder.key}/{name}"))

    def _status(self, path: str) -> FileStatus:
        return self._objects.status(path) if is_store_uri(path) else local_status(path)

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
            return self._converted(form)
        if len(matches) > 1:
            raise ValueError(f"{shown(name)} can be {' or '.join(shown(str(match)) for match in matches)}")
        return matches[0]

    def _converted(self, form: str) -> str | None:
        """Return the only file of the same name with another ending of audio, as after a conversion."""
        is_audio = ending(form) in EXTENSIONS | UNSUPPORTED_EXTENSIONS
        matches = self._by_stem.get(form.rpartition(".")[0], []) if is_audio else []
        return matches[0] if len(matches) == 1 else None


def is_normal_path(name: str) -> bool:
    """Return whether a name is a local path in normal form, which can be no other way to write another."""
    return not (
        "//" in name
        or "/." in name
        or "\\" in name
        or name.startswith(".")
        or name.endswith("/")
        or name != name.strip()
    )


def file_status(path: str) -> FileStatus:
    """Return size and time of a local file or an object.

    Raises:
        OSError: the object store cannot be reached.
    """
    return request_status(path) if is_store_uri(path) else local_status(path)


def without_file_scheme(name: str) -> str:
    """Return the local path that a URI as `file:///data/a%20b.wav` stands for; other names as they are."""
    if name.lstrip()[:5].lower() != "file:":
        return name
    parts = urlsplit(name.strip())
    is_local = parts.netloc in ("", "localhost") and parts.path.startswith("/")
    return url2pathname(parts.path) if is_local else name


def plain_path(name: str) -> str:
    """Return a name without surrounding blanks, with forward slashes."""
    return name.strip().replace("\\", "/")


def _variants(name: str) -> Iterable[str]:
    """Return the names that a name in a table may stand for; the plain form is the last one."""
    stripped = name.strip()
    return dict.fromkeys((name, stripped, stripped.replace("\\", "/")))


def _entries(folder: str) -> list[str]:
    if is_store_uri(folder):
        return [path.name for path in to_path(folder).iterdir()]
    try:
        return os.listdir(folder)
    except OSError:
        return []
