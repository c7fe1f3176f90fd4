"""Ownership of an output folder: one command at a time writes to it.

The owner holds a file lock, which the operating system releases when the process ends in any way, and renews
a record of itself (`.owner.json`) every few seconds. File locks do not exist in object stores, and on some
network file systems they do not reach other hosts: there the record alone decides. It counts as stale when
it is not renewed for a while; clocks of different hosts are never compared.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.files import remove_temporary_files, write_atomically
from pipeline.io.remote_path import RemotePath
from pipeline.io.storage import check_right_to_delete

RECORD_NAME, LOCK_NAME = ".owner.json", ".owner.lock"
# Seconds between two renewals of the record, and without a renewal until it is stale.
HEARTBEAT_S, STALE_S = 10.0, 35.0
# Seconds to wait for the lock: an owner that ends right now deletes its lock file before it releases it.
_LOCK_TIMEOUT_S = 0.5


class FolderOwner:
    """The owner of a folder, while `own_folder` is active."""

    def __init__(self, folder: Path, command: str, flag: str):
        self._folder, self._flag = folder, flag
        self._record = {
            "id": uuid.uuid4().hex,
            "command": command,
            "pid": os.getpid(),
            "process_started": psutil.Process().create_time(),
            "host": platform.node(),
            "boot": _boot_id(),
            "since": datetime.now().astimezone().isoformat(" ", "seconds"),
            "renewals": 0,
        }
        self._successor: dict[str, Any] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_stopped, daemon=True)

    def check(self) -> None:
        """Raise `UserError` if another command has taken over the folder, which it may if this host hung.

        To be called before results are published or files of earlier commands are deleted.
        """
        with report_os_errors("reading", self._folder / RECORD_NAME):
            record = self._successor or _read_record(self._folder)
        if record is not None and record["id"] != self._record["id"]:
            raise UserError(f"{self._flag} {self._folder}: {_describe(record)} has taken over this folder")

    def start(self) -> None:
        """Write the record and keep renewing it.

        Raises:
            UserError: another command has written its record at the same moment.
        """
        if isinstance(self._folder, RemotePath):
            self._create()
        else:
            self._write()
        self._thread.start()

    def _create(self) -> None:
        """Write the record to an object store, where only one of several commands can create it."""
        path: Any = self._folder / RECORD_NAME
        if path.create(self._text()):
            return
        record = _read_record(self._folder)
        if record and record["id"] == self._record["id"]:
            return  # the store answered with an error after it had written, and the request was repeated
        if record:
            raise _in_use(self._folder, self._flag, record)
        self._write()  # a damaged record

    def stop(self) -> None:
        """Stop renewing the record, and delete it unless it is another command's."""
        self._stop.set()
        self._thread.join()
        with suppress(OSError, UserError):
            self.check()
            (self._folder / RECORD_NAME).unlink(missing_ok=True)

    def _renew_until_stopped(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            # A full disk or an unreachable object store must not end the work.
            with suppress(OSError):
                record = _read_record(self._folder)
                if record is not None and record["id"] != self._record["id"]:
                    self._successor = record
                    return
                self._record["renewals"] += 1
                self._write()

    def _write(self) -> None:
        write_atomically(self._folder / RECORD_NAME, lambda file: file.write(self._text()))

    def _text(self) -> bytes:
        return json.dumps(self._record, indent=1, ensure_ascii=False).encode()


@contextmanager
def own_folder(folder: Path, command: str, flag: str = "--out") -> Iterator[FolderOwner]:
    """Own an output folder for the duration of a `with` block; the folder is created if it is missing.

    Use it around everything that reads or writes the folder's files, from planning to publishing:

        with own_folder(config.out, "extract") as owner:
            job = plan_job(...)
            job.run(...)
            owner.check()  # before publishing and deleting
            publish(...)

    A second command on the folder ends with a `UserError` that names the owner: command, process id, host and
    start. The record of an owner that no longer runs (killed, its host lost) is replaced, which takes
    `STALE_S` seconds if it ran on another host, and files directly in the folder that it was writing are
    deleted. Works for local paths and for URIs of object stores.

    Args:
        folder: the output folder.
        command: name of the command, such as `extract`.
        flag: command-line flag of the folder, for messages.

    Raises:
        UserError: another command is using the folder, the folder cannot be written to, or its object store
            refuses to delete objects.
    """
    with ExitStack() as stack:
        with report_os_errors("writing to", folder):
            _make_folder(folder, flag)
            locked = stack.enter_context(_file_lock(folder, flag))
            _check_previous(folder, flag, locked)
            check_right_to_delete(folder, flag)
            remove_temporary_files(folder)
            owner = FolderOwner(folder, command, flag)
            owner.start()
        stack.callback(owner.stop)
        yield owner


def _make_folder(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{flag} {folder}: not a folder; choose another {flag}") from None


@contextmanager
def _file_lock(folder: Path, flag: str) -> Iterator[bool]:
    """Hold the file lock of a folder; provide False where the file system has no locks.

    Raises:
        UserError: another process holds it.
        OSError: the lock file cannot be created.
    """
    if isinstance(folder, RemotePath):
        yield False
        return
    path = folder / LOCK_NAME
    lock = FileLock(path, timeout=_LOCK_TIMEOUT_S, fallback_to_soft=False)
    path.touch()  # errors of the folder itself, such as a full disk, are not about locks
    try:
        lock.acquire()
    except Timeout:
        raise _in_use(folder, flag, _read_record(folder)) from None
    except OSError:
        path.unlink(missing_ok=True)
        yield False
        return
    try:
        yield True
    finally:
        # Before the release: those who wait for this file then notice that it is gone, and create a new one.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            lock.release()


def _check_previous(folder: Path, flag: str, locked: bool) -> None:
    """Raise `UserError` if the record in the folder is that of a running command."""
    record = _read_record(folder)
    if record is None:
        return
    if (record["host"], record["boot"]) == (platform.node(), _boot_id()):
        running = not locked and _is_running(record)
    else:
        running = _is_renewed(folder, flag, record)
    if running:
        raise _in_use(folder, flag, record)
    (folder / RECORD_NAME).unlink(missing_ok=True)


def _is_running(record: dict[str, Any]) -> bool:
    """Return whether the process of a record of this host is running."""
    with suppress(psutil.Error):
        return abs(psutil.Process(record["pid"]).create_time() - record["process_started"]) < 1
    return False


def _is_renewed(folder: Path, flag: str, record: dict[str, Any]) -> bool:
    """Wait for a renewal of a record for up to `STALE_S` seconds; return whether there was one."""
    logger.info(
        "%s %s: waiting up to %s to see whether %s is still running",
        flag,
        folder,
        duration(STALE_S),
        _describe(record),
    )
    deadline = time.monotonic() + STALE_S
    while (current := _read_record(folder)) == record and time.monotonic() < deadline:
        time.sleep(min(1.0, HEARTBEAT_S / 4))
    return current not in (None, record)


def _in_use(folder: Path, flag: str, record: dict[str, Any] | None) -> UserError:
    if record is None:
        return UserError(
            f"{flag} {folder} is in use by another melray command; run this one when it has ended"
        )
    return UserError(
        f"{flag} {folder} is in use by {_describe(record)}; run this command when it has ended, or stop it "
        f"with `kill {record['pid']}`"
        + ("" if record["host"] == platform.node() else f" on {record['host']}")
    )


def _describe(record: dict[str, Any]) -> str:
    return (
        f"`melray {record['command']}` (process {record['pid']} on {record['host']}, since {record['since']})"
    )


def _read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of an owner; None if there is none, or it is damaged."""
    try:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    keys = ("id", "command", "pid", "process_started", "host", "boot", "since", "renewals")
    return record if isinstance(record, dict) and all(key in record for key in keys) else None


def _boot_id() -> str:
    """Return an id of this boot of the host, or an empty text where the system has none.

    Containers that have the same host name on different hosts differ in it.
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
