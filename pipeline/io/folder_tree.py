"""Folders of files, on local disk or in an object store, listed in the same way.

Folders and files are named by their path below the root, with forward slashes; the root itself is "".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from pipeline.io.bucket_listing import list_objects
from pipeline.io.folder_markers import without_folder_markers
from pipeline.io.remote_path import RemotePath

# Size of a file that does not exist.
MISSING = -1


class FileStatus(NamedTuple):
    """Size in bytes and modification time in nanoseconds since 1970; `MISSING` and 0 if there is no file."""

    size: int
    mtime_ns: int
    is_regular: bool = True
    """False for a device, a named pipe or a socket, which may block when it is opened."""


@dataclass
class Listing:
    """Sorted names of the entries of a folder."""

    folders: list[str] = field(default_factory=list)
    linked_folders: list[str] = field(default_factory=list)
    """Symbolic links to folders."""
    files: list[str] = field(default_factory=list)
    """All other entries, including links to files and broken links."""


class FolderTree(Protocol):
    """A folder and everything below it."""

    def list(self, folder: str) -> Listing:
        """List a folder.

        Raises:
            OSError: it cannot be read.
        """

    def path(self, name: str) -> str:
        """Return the absolute path or URI of a file or folder."""

    def status(self, name: str) -> FileStatus:
        """Return size and time of a file."""

    def identity(self, folder: str) -> Hashable:
        """Return a value that is equal for two names of the same folder.

        Raises:
            OSError: it cannot be read.
        """

    def contains_root(self, folder: str) -> bool:
        """Return whether the root is in this folder, as it may be behind a link."""

    def subtree(self, folder: str) -> FolderTree:
        """Return the tree of a folder."""


def open_tree(folder: Path) -> FolderTree:
    """Return the tree of a local folder or of a `RemotePath`."""
    return RemoteTree.read(folder) if isinstance(folder, RemotePath) else LocalTree(folder)


def join(folder: str, name: str) -> str:
    """Return the name of an entry of a folder."""
    return f"{folder}/{name}" if folder else name


class LocalTree:
    """A folder on disk."""

    def __init__(self, root: str | os.PathLike[str]):
        self._root = os.path.abspath(root)

    def list(self, folder: str) -> Listing:
        listing = Listing()
        with os.scandir(self.path(folder)) as entries:
            for entry in entries:
                if not _is_folder(entry):
                    listing.files.append(entry.name)
                elif entry.is_symlink():
                    listing.linked_folders.append(entry.name)
                else:
                    listing.folders.append(entry.name)
        for names in (listing.folders, listing.linked_folders, listing.files):
            names.sort()
        return listing

    def path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def status(self, name: str) -> FileStatus:
        return local_status(self.path(name))

    def identity(self, folder: str) -> Hashable:
        status = os.stat(self.path(folder))
        return status.st_dev, status.st_ino

    def contains_root(self, folder: str) -> bool:
        target = os.path.realpath(self.path(folder)).rstrip("/")
        return f"{os.path.realpath(self._root)}/".startswith(f"{target}/")

    def subtree(self, folder: str) -> LocalTree:
        return LocalTree(self.path(folder))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that cannot be followed
        return False


def local_status(path: str) -> FileStatus:
    """Return size and time of a local file."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: NUL character
        return FileStatus(MISSING, 0)
    return FileStatus(status.st_size, status.st_mtime_ns, stat.S_ISREG(status.st_mode))


class RemoteTree:
    """A folder in an object store, listed once."""

    def __init__(
        self, root: RemotePath, files: dict[str, FileStatus], folders: dict[str, Listing], prefix: str = ""
    ):
        """Create the tree below `prefix`; the dictionaries are of the whole listing."""
        self._root, self._files, self._folders, self._prefix = root, files, folders, prefix

    @classmethod
    def read(cls, root: RemotePath) -> RemoteTree:
        """List all objects below a folder.

        Raises:
            OSError: the object store cannot be reached.
        """
        listed = without_folder_markers(info._replace(key=name) for name, info in list_objects(root))
        files = {info.key: FileStatus(info.size, info.mtime_ns) for info in sorted(listed)}
        folders: dict[str, Listing] = {"": Listing()}
        for name in files:
            folder, file_name = _split_key(name)
            _add_folder(folders, folder)
            folders[folder].files.append(file_name)
        return cls(root, files, folders)

    def list(self, folder: str) -> Listing:
        return self._folders.get(self._full_name(folder), Listing())

    def path(self, name: str) -> str:
        full_name = self._full_name(name)
        return str(self._root / full_name if full_name else self._root)

    def status(self, name: str) -> FileStatus:
        return self._files[self._full_name(name)]

    def identity(self, folder: str) -> Hashable:
        return folder

    def contains_root(self, folder: str) -> bool:
        return False

    def subtree(self, folder: str) -> RemoteTree:
        return RemoteTree(self._root, self._files, self._folders, self._full_name(folder))

    def _full_name(self, name: str) -> str:
        return join(self._prefix, name) if name else self._prefix


def _split_key(key: str) -> tuple[str, str]:
    """Split a key into folder and file name.

    Folders have names, so the rest of a key with an empty part, as in `folder//file`, is the file's name.
    """
    folder, empty_part, rest = f"/{key}".partition("//")
    if empty_part:
        return folder.removeprefix("/"), f"/{rest}"
    folder, _, name = key.rpartition("/")
    return folder, name


def _add_folder(folders: dict[str, Listing], folder: str) -> None:
    """Add a folder and its parents, as far as they are missing."""
    if folder not in folders:
        parent, _, name = folder.rpartition("/")
        _add_folder(folders, parent)
        folders[folder] = Listing()
        folders[parent].folders.append(name)
