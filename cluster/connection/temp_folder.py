"""Temporary folders for Ray's files: short enough for its sockets, and deleted even if the process is killed.

The path of a socket is limited to about a hundred bytes, of which Ray's own names below the folder take more
than half; the TMPDIR of Slurm, of a CI system or of macOS is often too long.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline.io.errors import UserError, report_os_errors

PREFIX = "melray-"
MAX_SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
LONGEST_NAME = f"/{PREFIX}12345678/r/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store"
MAX_FOLDER_BYTES = MAX_SOCKET_BYTES - len(LONGEST_NAME)
# Locked by the owner of a folder as long as its process lives.
LOCK_NAME = "session.lock"
# Ray's workers exit a moment after the session, and write to their logs until then.
REMOVE_TIMEOUT_S = 3.0


def short_temp_folder() -> Path:
    """Return a folder for Ray's files: RAY_TMPDIR, TMPDIR or one of the system, the first that Ray can use.

    Raises:
        UserError: all are too long or not writable.
    """
    for folder in _candidates():
        if is_short(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise UserError(
        f"no folder for Ray's sockets: RAY_TMPDIR, TMPDIR and /tmp are not writable, or longer than "
        f"{MAX_FOLDER_BYTES} bytes; set RAY_TMPDIR to a writable folder with a shorter path"
    )


def is_short(folder: Path) -> bool:
    """Return whether the paths of Ray's sockets in a folder are within the limit of the system."""
    return len(os.fsencode(folder)) <= MAX_FOLDER_BYTES


def _candidates() -> Iterator[Path]:
    if path := os.environ.get("RAY_TMPDIR"):
        yield Path(path).absolute()
    with suppress(OSError):  # no usable temporary folder
        yield Path(tempfile.gettempdir()).absolute()
    yield Path("/tmp")
    if path := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(path)
    yield from (Path("/var/tmp"), Path("/dev/shm"))


def create_temp_folder(parent: Path, keep: bool = False) -> Path:
    """Create a folder that only this user can access; it is deleted when the process exits, unless `keep`.

    Folders in `parent` of processes that were killed are deleted first.

    Raises:
        UserError: `parent` is full or not writable.
    """
    remove_stale_folders(parent)
    with report_os_errors("creating a temporary folder in", parent):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        if not keep:
            _lock(folder)
            atexit.register(remove_folder, folder)
    return folder


def _lock(folder: Path) -> None:
    """Lock a folder until this process ends, however it ends.

    The lock file gets its name after the lock was acquired: no other process can find it unlocked in between.
    """
    unnamed = folder / f"{LOCK_NAME}.new"
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT, 0o600)
    with suppress(OSError):  # without locks, such as on some network file systems, the folder stays unnamed
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(folder / LOCK_NAME)


def remove_stale_folders(parent: Path) -> None:
    """Delete folders of this user in `parent` whose process was killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and _is_stale(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_stale(folder: Path) -> bool:
    """Return whether a folder has a lock that no process holds.

    Raises:
        OSError: it has no lock: it was not made by `create_temp_folder`, or is to be kept.
    """
    with (folder / LOCK_NAME).open("rb+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def remove_folder(folder: Path) -> None:
    """Delete a folder, also while the last processes that write to it are exiting."""
    deadline = time.monotonic() + REMOVE_TIMEOUT_S
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05 * folder.exists())
