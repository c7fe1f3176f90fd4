"""Temporary folders: short enough for sockets, deleted at exit, and after a kill by the next command."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.connection.temp_folder import (
    LOCK_NAME,
    LONGEST_NAME,
    MAX_FOLDER_BYTES,
    create_temp_folder,
    remove_stale_folders,
    short_temp_folder,
)
from pipeline.io.errors import UserError

# Creates a folder, prints it, then ends as its argument says.
OWNER = """
import sys, time
from pathlib import Path
from cluster.connection.temp_folder import create_temp_folder
print(create_temp_folder(Path(sys.argv[1]), keep=sys.argv[2] == "keep"), flush=True)
time.sleep(60 if sys.argv[2] == "wait" else 0)
"""


def start_owner(parent: Path, end: str) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that creates a folder; return both."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(parent), end], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    return owner, Path(owner.stdout.readline().strip())


def test_longest_socket_path_is_accepted_by_the_system(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * MAX_FOLDER_BYTES)
    with pytest.raises(OSError, match="AF_UNIX path too long"), socket.socket(socket.AF_UNIX) as probe:
        probe.bind(f"{folder}{LONGEST_NAME}")
    with pytest.raises(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
        probe.bind("/" + "x" * (MAX_FOLDER_BYTES - 1) + LONGEST_NAME)


def test_long_tmpdir_is_replaced_by_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(long))
    assert short_temp_folder() == Path("/tmp")
    monkeypatch.setenv("RAY_TMPDIR", "/dev/shm")
    assert short_temp_folder() == Path("/dev/shm")
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    assert short_temp_folder() == Path("/tmp")


def test_no_writable_folder_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match="set RAY_TMPDIR"):
        short_temp_folder()


def test_folder_is_deleted_at_exit_unless_kept(tmp_path: Path) -> None:
    for end, exists in (("exit", False), ("keep", True)):
        owner, folder = start_owner(tmp_path, end)
        owner.wait(30)
        assert folder.parent == tmp_path and folder.exists() == exists
    remove_stale_folders(tmp_path)
    assert folder.exists()


def test_folder_of_killed_process_is_deleted_later(tmp_path: Path) -> None:
    owner, folder = start_owner(tmp_path, "wait")
    (folder / "log").write_text("x")
    remove_stale_folders(tmp_path)
    assert (folder / "log").exists()
    owner.send_signal(signal.SIGKILL)
    owner.wait(30)
    other = tmp_path / "melray-of-another-command"
    other.mkdir()
    new = create_temp_folder(tmp_path)
    assert not folder.exists() and other.exists() and (new / LOCK_NAME).exists()
