"""Recordings by the paths in a table that another program or computer wrote."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from pathlib import Path, PureWindowsPath

from pipeline.data.clips import normalize_id, shown
from pipeline.data.sources.audio_folders import AudioWalk, ClassFolder
from pipeline.data.sources.file_finder import FileFinder
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.folder_tree import open_tree
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import is_store_uri


class RecordingNames:
    """Finds recordings of a folder by names without their folders, and by absolute paths of other computers.

    Raven's `Begin File` is a name without folder, and BirdNET's `Begin Path` the path where it was run.
    """

    def __init__(self, table: str, folder: Path):
        """Set the folder; `table` is the flag and path of the table, for messages."""
        self._table, self._folder, self._finder = table, folder, FileFinder(folder)
        self._found: dict[str, str] = {}
        self._named: dict[str, str] = {}

    def path_of(self, name: str) -> str:
        """Return the path below the folder of the recording that a table names; the name if there is none.

        Raises:
            UserError: the name is that of several recordings, or two names are that of one.
        """
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> str:
        parts = _parts(name)
        if not parts or is_store_uri(name):
            return name
        if not isinstance(self._folder, RemotePath) and self._finder.exists(name):
            return name
        candidates, is_absolute = self._by_name.get(parts[-1], []), _is_absolute(name)
        if not is_absolute and any(_parts(path) == parts for path in candidates):
            return name
        matches = [
            path
            for path in candidates
            if (_is_end(_parts(path), parts) if is_absolute else _is_end(parts, _parts(path)))
        ]
        if len(matches) > 1:
            raise UserError(
                f"{self._table}: {shown(name)} can be {shown(matches[0])} or {shown(matches[1])}; write such "
                "paths in it"
            )
        if not matches:
            return name
        other = self._named.setdefault(matches[0], name)
        if _parts(other) != parts:
            raise UserError(
                f"{self._table}: {shown(other)} and {shown(name)} would both be {shown(matches[0])}; write "
                f"paths below {self._folder} in it"
            )
        return matches[0]

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Paths of all recordings, by the names of their files."""
        with report_os_errors("reading", f"--data {self._folder}"):
            records = list(AudioWalk(open_tree(self._folder)).records([ClassFolder("", "")]))
        paths = defaultdict(list)
        for clip_id, *_ in records:
            paths[_parts(clip_id)[-1]].append(clip_id)
        return paths


def _parts(path: str) -> list[str]:
    """Return the folders and the name of a path, which may be one of Windows, for comparisons."""
    return [part for part in normalize_id(path.strip()).casefold().replace("\\", "/").split("/") if part]


def _is_absolute(path: str) -> bool:
    return path.strip().startswith(("/", "\\")) or bool(PureWindowsPath(path.strip()).drive)


def _is_end(end: list[str], path: list[str]) -> bool:
    return path[-len(end) :] == end
