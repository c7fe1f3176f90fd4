"""Paths on local disk or in an object store, such as `s3://bucket/folder`.

A `PathOrURI` of a configuration is a `pathlib.Path`, or a `RemotePath` (`pipeline/io/remote_path.py`) for
the URI of an object store.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer

from pipeline.io.arguments import shown_value
from pipeline.io.concurrent import map_concurrently
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.hub_bucket import split_hub_key
from pipeline.io.remote_path import RemotePath, parse_uri
from pipeline.io.store_connections import ALIASES, SCHEMES, check_options
from pipeline.io.store_errors import StoreAccessError


def to_path(path: Path | str) -> Any:
    """Return the `RemotePath` of a URI, or an absolute local path, which workers in other folders can use.

    `~` is the home folder: no shell replaces it in `--out=~/x`, or in a file of settings.

    Raises:
        ValueError: unsupported scheme, no bucket, an unknown option or credentials in a URI, a variable of
            the shell, or a path that is not valid UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError("not valid UTF-8; rename the folder") from None  # cannot be written to any table
    if "\0" in str(path):
        raise ValueError("a path has no null characters")
    parts = parse_uri(str(path))
    if parts is None:
        return without_parent_steps(_expand_home(Path(path)).absolute())
    scheme, key, options = parts
    scheme = ALIASES.get(scheme, scheme)
    if scheme not in SCHEMES or not key.strip("/"):
        supported = ", ".join(f"{name}://bucket/…" for name in SCHEMES[:-1])
        raise ValueError(
            f"unsupported storage URI; use a local path, {supported} or {SCHEMES[-1]}://datasets/owner/name/…"
        )
    if scheme == "hf" and not split_hub_key(key.strip("/"))[0]:
        raise ValueError("names no dataset on the hub; expected hf://datasets/owner/name[@revision][/folder]")
    if scheme != "hf" and "@" in key.partition("/")[0]:
        raise ValueError(
            "the bucket has an @: credentials in a URI end up in logs (set environment variables), and "
            "of Azure a URI names only the container (az://container/…, AZURE_STORAGE_ACCOUNT_NAME)"
        )
    options = re.sub(r"\b(https?):/+", r"\1://", options)  # pathlib replaces double slashes
    check_options(options)
    return RemotePath(scheme, key.strip("/"), options)


def user_path(path: Path | str) -> Path:
    """Return the path of a folder or URI that a Python program gives, as `to_path`.

    Raises:
        UserError: an unusable path, which the message names.
        ValueError: another type than text or a path.
    """
    if not isinstance(path, (str, os.PathLike, RemotePath)):
        raise ValueError(f"path {shown_value(path)}: expected a path or URI, as text or pathlib.Path")
    try:
        converted: Path = to_path(path)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return converted


def _expand_home(path: Path) -> Path:
    first = path.parts[0] if path.parts else ""
    if re.fullmatch(r"\$(\w+|\{\w+\})", first):
        raise ValueError(f"the variable {first} is not replaced here; write its value")
    return path.expanduser() if first == "~" else path


def without_parent_steps(path: Path) -> Path:
    """Return the same absolute path without `..`; of links, only those before a `..` are resolved."""
    if ".." not in path.parts:
        return path
    result = Path(path.anchor)
    for name in path.parts[1:]:
        if name != "..":
            result = result / name
        else:
            result = (result.resolve() if result.is_symlink() else result).parent
    return result


def _remote_to_text(value: Any) -> Any:
    return str(value) if isinstance(value, RemotePath) else value


# Typed as Path, whose interface RemotePath shares as far as it is used.
PathOrURI = Annotated[
    Path, BeforeValidator(_remote_to_text), AfterValidator(to_path), PlainSerializer(str, return_type=str)
]


_URI_STARTS = tuple(f"{scheme}://" for scheme in (*SCHEMES, *ALIASES))


def is_remote(path: Any) -> bool:
    """Return whether a path is in an object store."""
    return isinstance(path, RemotePath)


def pyarrow_source(path: Path, partial: bool = False) -> Any:
    """Return a local or remote file in a form that pyarrow readers accept.

    Args:
        path: the file.
        partial: a small part of the file will be read, such as its footer; otherwise an object is read into
            memory by one request.
    """
    if not isinstance(path, RemotePath):
        return path
    import pyarrow as pa  # slow to import, and command lines with paths are parsed without it

    return path.open_input() if partial else pa.BufferReader(path.read_bytes())


def file_size(path: Path) -> int:
    """Return the bytes of a file; 0 if there is no such object."""
    if isinstance(path, RemotePath):
        info = path.info()
        return 0 if info is None else info.size
    return path.stat().st_size


def remove_tree(path: Path) -> None:
    """Delete a folder recursively, if it exists."""
    if isinstance(path, RemotePath):
        path.remove_tree()
    else:
        shutil.rmtree(path, ignore_errors=True)


def remove_files(paths: Iterable[Path]) -> None:
    """Delete the files of one folder that exist; in an object store a thousand by each request."""
    remote: list[RemotePath] = []
    for path in paths:
        if isinstance(path, RemotePath):
            remote.append(path)
        else:
            path.unlink(missing_ok=True)
    if remote:
        remote[0].remove_objects(remote)


def copy_tree(source: Path, target: Path, exclude: Sequence[str] = ()) -> None:
    """Replace the folder `target` by a copy of `source`, without entries named in `exclude`.

    Local files are hard-linked where the file system allows, as files are never modified in place. At any
    time a local `target` is the old copy, the new one, or for a moment missing; in an object store it may
    lack files (see `has_files_of`).
    """
    if not isinstance(source, RemotePath):
        new, old = (target.with_name(f".{target.name}.{state}") for state in ("new", "old"))
        for path in (new, old):  # of a process that was killed
            shutil.rmtree(path, ignore_errors=True)
        new.mkdir(parents=True)
        if source.is_dir():
            _copy_folder(source, new, exclude)
        with suppress(FileNotFoundError):
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        return
    assert isinstance(target, RemotePath)
    remove_tree(target)
    copied = _file_names(source, exclude)
    for _ in map_concurrently(lambda name: (source / name).copy_to(target / name), copied):
        pass


def has_files_of(folder: Path, source: Path, exclude: Sequence[str] = ()) -> bool:
    """Return whether a folder has all files of another one by name, without entries named in `exclude`.

    It has not if it is a copy that was interrupted.
    """
    return set(_file_names(source, exclude)) <= set(_file_names(folder, exclude))


def _file_names(folder: Path, exclude: Sequence[str]) -> list[Path]:
    """Return the paths of all files below a folder, relative to it, without entries named in `exclude`."""
    if isinstance(folder, RemotePath):
        paths = [path for path, _ in folder.walk()]
    else:
        paths = [path for path in folder.rglob("*") if path.is_file()]
    names = [path.relative_to(folder) for path in paths]
    return [name for name in names if not set(name.parts) & set(exclude)]


def _copy_folder(source: Path, target: Path, exclude: Sequence[str]) -> None:
    for entry in source.iterdir():
        if entry.name in exclude:
            continue
        copy = target / entry.name
        if entry.is_dir():
            copy.mkdir()
            _copy_folder(entry, copy, exclude)
        else:
            _link_or_copy(entry, copy)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # No hard links (FUSE, SMB, exFAT), too many of them, or another file system. Only the content: such
        # file systems may not allow to set modes and times either.
        shutil.copyfile(source, target)


@contextmanager
def local_file(path: Path) -> Iterator[Path]:
    """Provide a local file with the content of `path`, for libraries that cannot read remote ones."""
    if not isinstance(path, RemotePath):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


def storage_arguments(path: Path) -> dict[str, Any]:
    """Return the storage arguments of Ray's `RunConfig`."""
    if isinstance(path, RemotePath):
        from pipeline.io.ray_filesystem import ray_filesystem  # needs pyarrow, which is slow to import

        return {"storage_path": path.key, "storage_filesystem": ray_filesystem(path)}
    return {"storage_path": str(path)}


def is_store_uri(text: str) -> bool:
    """Return whether a text is the URI of an object store."""
    return text.startswith(_URI_STARTS)


def check_right_to_delete(folder: Path, flag: str) -> None:
    """Check that objects in a folder of an object store may be deleted: before any work, not after it.

    A request to delete an object that does not exist succeeds only with that right. A local folder is not
    checked.

    Args:
        folder: output folder of a command.
        flag: command-line flag of the folder, for messages.

    Raises:
        UserError: the store refuses it.
    """
    if not isinstance(folder, RemotePath):
        return
    try:
        (folder / ".right-to-delete").unlink(missing_ok=True)
    except StoreAccessError as error:
        raise UserError(
            f"{flag} {folder}: {error}; old locks, checkpoints and parts have to be deleted there: grant "
            "that right, such as s3:DeleteObject"
        ) from None


def check_writable(folder: Path) -> None:
    """Write and delete an empty file in a folder: before minutes of work rather than after them.

    Of a local folder that does not exist yet, its next existing parent is checked. In an object store that
    refuses to delete, the empty file stays: its callers need only the right to write.

    Raises:
        UserError: it cannot be written to.
    """
    with report_os_errors("writing to", folder):
        if isinstance(folder, RemotePath):
            probe = folder / ".writable"
            probe.write_bytes(b"")
            with suppress(StoreAccessError):
                probe.unlink(missing_ok=True)
            return
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
