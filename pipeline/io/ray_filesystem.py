"""The pyarrow filesystem through which Ray Train and Tune write their own state to an object store."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.fs as fs

from pipeline.io.object_store import ObjectInfo
from pipeline.io.remote_path import RemotePath


def ray_filesystem(path: RemotePath) -> fs.FileSystem:
    """Return a filesystem with the connection of `path`, for paths of the form `bucket/folder`."""
    return fs.PyFileSystem(_RemoteHandler(path.scheme, path.options))


class _RemoteHandler(fs.FileSystemHandler):
    """Operations of a pyarrow filesystem on `RemotePath`; can be pickled, for workers on other nodes."""

    def __init__(self, scheme: str, options: str):
        self._scheme, self._options = scheme, options

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _RemoteHandler) and vars(self) == vars(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self._scheme, self._options))

    def _path(self, key: str) -> RemotePath:
        return RemotePath(self._scheme, key.strip("/"), self._options)

    def get_type_name(self) -> str:
        return f"melray+{self._scheme}"

    def normalize_path(self, path: str) -> str:
        return path.strip("/")

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return [self._info(path) for path in paths]

    def _info(self, key: str) -> fs.FileInfo:
        path = self._path(key)
        if info := path.info():
            return _file_info(path, info)
        return fs.FileInfo(key, fs.FileType.Directory if path.is_dir() else fs.FileType.NotFound)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        folder = self._path(selector.base_dir)
        children = folder.walk() if selector.recursive else folder.children()
        infos = [_file_info(path, info) for path, info in children]
        if not infos and not selector.allow_not_found:
            raise FileNotFoundError(f"{folder}: no such folder")
        return infos

    def create_dir(self, path: str, recursive: bool) -> None:
        """Do nothing: object stores have no folders."""

    def delete_dir(self, path: str) -> None:
        self._path(path).remove_tree()

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        self._path(path).remove_tree()

    def delete_root_dir_contents(self) -> None:
        raise PermissionError("melray deletes no buckets")

    def delete_file(self, path: str) -> None:
        self._path(path).unlink()

    def move(self, source: str, target: str) -> None:
        self.copy_file(source, target)
        self.delete_file(source)

    def copy_file(self, source: str, target: str) -> None:
        self._path(source).copy_to(self._path(target))

    def open_input_stream(self, path: str) -> Any:
        return pa.BufferReader(self._path(path).read_bytes())

    def open_input_file(self, path: str) -> Any:
        return pa.PythonFile(self._path(path).open_input(), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        return pa.PythonFile(_Upload(self._path(path)), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError("objects cannot be appended to")


def _file_info(path: RemotePath, info: ObjectInfo) -> fs.FileInfo:
    if info.is_folder:
        return fs.FileInfo(path.key, fs.FileType.Directory)
    return fs.FileInfo(path.key, fs.FileType.File, size=info.size, mtime_ns=info.mtime_ns)


class _Upload(io.BytesIO):
    """A buffer that becomes an object when it is closed."""

    def __init__(self, path: RemotePath):
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            self._path.write_bytes(self.getvalue())
        super().close()
