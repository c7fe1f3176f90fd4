"""Atomic writes, portable file names, and CSV text."""

from __future__ import annotations

import csv
import errno
import io
import mmap
import os
import re
import tempfile
import unicodedata
import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.io.background_uploads import upload
from pipeline.io.remote_path import RemotePath

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")
# Size up to which a file for an object store is in memory before it is uploaded.
_MAX_MEMORY_BYTES = 64 << 20


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call `write(file)` on a temporary file next to `path`, and rename it to `path` after fsync.

    For an object store, the temporary file is in memory, or if it becomes large in the folder for temporary
    files, and is then uploaded.
    """
    if isinstance(path, RemotePath):
        with tempfile.SpooledTemporaryFile(_MAX_MEMORY_BYTES) as file:
            write(file)
            _upload(file, path)
        return
    _write_complete(path, write, os.replace)


def create_text_atomically(path: Path, text: str) -> bool:
    """Write the text file `path` unless it exists; return whether it was written.

    Of several processes that do so at the same moment, one gets True.
    """
    if isinstance(path, RemotePath):
        return path.create(text.encode())
    try:
        _write_complete(path, lambda file: file.write(text.encode()), _rename_new)
    except FileExistsError:
        return False
    return True


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename a file to a name that no file has.

    Raises:
        FileExistsError: a file has it.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links (FUSE, SMB, exFAT): an empty file reserves the name
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        os.replace(temporary, path)
    else:
        temporary.unlink()


def _write_complete(
    path: Path, write: Callable[[BinaryIO], Any], rename: Callable[[Path, Path], None]
) -> None:
    """Call `write(file)` on a temporary file next to `path`, and rename it to `path` after fsync."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            _sync(file)
        rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_temporary_files(folder: Path, keep: Collection[str] = ()) -> None:
    """Delete the temporary files that `write_atomically` left directly in a folder when it was killed.

    Args:
        folder: the folder.
        keep: names of files that another process may be writing now.
    """
    if isinstance(folder, RemotePath):
        return
    for path in folder.glob(".*.tmp"):
        name = _TEMPORARY.fullmatch(path.name)
        if name and name[1] not in keep:
            path.unlink(missing_ok=True)


def _upload(file: Any, path: RemotePath) -> None:
    size = file.tell()
    file.seek(0)
    if size <= _MAX_MEMORY_BYTES:
        upload(path, file.read())
        return
    file.flush()
    # Memory that is backed by the file, of which the system keeps as much as it has space for.
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        path.write_bytes(content)


def _sync(file: BinaryIO) -> None:
    """Write a file to disk now, where the file system supports it."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_text_atomically(path: Path, text: str) -> None:
    """Write or replace the text file `path` atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


# Devices of Windows, which cannot be names of files or folders there, also on a shared drive.
_PORTS = (f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))
RESERVED_NAMES = {"con", "prn", "aux", "nul", *_PORTS}


def file_names(labels: Sequence[str]) -> dict[str, str]:
    """Map each label to a file name that is valid on any file system and cannot escape its folder.

    Names are unique, also on file systems that ignore case.
    """
    names: dict[str, str] = {}
    used: set[str] = set()
    for label in labels:
        base = re.sub(r"[^\w\- ]", "_", unicodedata.normalize("NFC", label)).strip()
        # File systems limit names to 255 bytes; 80 leave space for a number, an extension and a temporary
        # suffix.
        base = base.encode("utf-8", "replace")[:80].decode("utf-8", "ignore").strip() or "_"
        if base.casefold() in RESERVED_NAMES:
            base += "_"
        name, number = base, 2
        while name.casefold() in used:
            name, number = f"{base}_{number}", number + 1
        used.add(name.casefold())
        names[label] = name
    return names
