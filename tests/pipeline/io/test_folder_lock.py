"""An output folder has one owner at a time; owners that were killed or lost never block it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.io import folder_lock as module
from pipeline.io.errors import UserError
from pipeline.io.folder_lock import RECORD_NAME, own_folder
from tests.helpers.processes import wait_until
from tests.helpers.s3_server import s3_server

OWNER = """
import sys, time
from pathlib import Path
from pipeline.io.folder_lock import own_folder
with own_folder(Path(sys.argv[1]), "extract"):
    print("owns", flush=True)
    time.sleep(60)
"""


@contextmanager
def other_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that owns a folder; kill it at the end."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"owns\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))


def write_record(folder: Path, **values: object) -> None:
    """Write a record of a command on another host."""
    defaults = {
        "id": "other",
        "command": "predict",
        "pid": 77,
        "process_started": 1.0,
        "host": "node-7",
        "boot": "b",
        "since": "2026-01-01 10:00:00+00:00",
        "renewals": 3,
    }
    (folder / RECORD_NAME).write_text(json.dumps(defaults | values), encoding="utf-8")


@pytest.fixture
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(module, "STALE_S", 0.5)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imitate a file system without file locks."""

    def fail(lock: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.FileLock, "acquire", fail)


def test_owner_leaves_an_empty_folder(tmp_path: Path):
    for _ in range(2):
        with own_folder(tmp_path / "out", "extract"):
            assert record(tmp_path / "out")["pid"] == os.getpid()
        assert list((tmp_path / "out").iterdir()) == []


def test_second_command_names_the_owner(tmp_path: Path):
    with other_process(tmp_path) as process:
        expected = (
            rf"^--out {tmp_path} is in use by `melray extract` \(process {process.pid} on {platform.node()}, "
            rf"since 20\d\d-.*\); run this command when it has ended, or stop it with `kill {process.pid}`$"
        )
        with pytest.raises(UserError, match=expected), own_folder(tmp_path, "predict"):
            raise AssertionError
        assert record(tmp_path)["pid"] == process.pid


def test_only_one_of_many_threads_owns(tmp_path: Path):
    owners, refused, ready = [], [], threading.Barrier(8)

    def run() -> None:
        ready.wait()
        try:
            with own_folder(tmp_path, "extract"):
                owners.append(1)
                finished.wait(10)
        except UserError:
            refused.append(1)

    finished = threading.Event()
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(refused) == 7, 10)
    finished.set()
    for thread in threads:
        thread.join()
    assert len(owners) == 1


@pytest.mark.parametrize("locks", [True, False], ids=["file locks", "no file locks"])
def test_killed_owner_is_replaced_immediately(
    locks: bool, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
):
    if not locks:
        request.getfixturevalue("no_locks")
    with other_process(tmp_path) as process:
        process.kill()
        process.wait()
        assert record(tmp_path)["pid"] == process.pid
        with own_folder(tmp_path, "extract"):
            assert record(tmp_path)["pid"] == os.getpid()
    assert not caplog.messages  # no waiting


def test_files_that_a_killed_owner_was_writing_are_deleted(tmp_path: Path):
    """The footers of a large dataset have megabytes."""
    left = [
        tmp_path / f".{name}.0a1b2c3d.tmp" for name in (RECORD_NAME, "_footers.parquet", "_manifest.json")
    ]
    others = [tmp_path / name for name in (".mine.tmp", "notes.txt")]
    for path in left + others:
        path.touch()
    with own_folder(tmp_path, "extract"):
        assert not any(path.exists() for path in left)
    assert sorted(tmp_path.iterdir()) == sorted(others)


@pytest.mark.usefixtures("no_locks")
def test_running_owner_without_file_locks_is_found(tmp_path: Path):
    with (
        other_process(tmp_path) as process,
        pytest.raises(UserError, match=rf"process {process.pid} on .*kill {process.pid}"),
        own_folder(tmp_path, "predict"),
    ):
        raise AssertionError


@pytest.mark.usefixtures("short_times")
def test_owner_on_another_host_is_refused(tmp_path: Path):
    write_record(tmp_path)
    stop = threading.Event()

    def renew() -> None:
        for number in range(4, 1000):
            if stop.wait(0.05):
                return
            write_record(tmp_path, renewals=number)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        message = r"`melray predict` \(process 77 on node-7, .*stop it with `kill 77` on node-7$"
        with pytest.raises(UserError, match=message), own_folder(tmp_path, "extract"):
            raise AssertionError
    finally:
        stop.set()
        thread.join()


@pytest.mark.usefixtures("short_times")
@pytest.mark.parametrize("values", [{}, {"host": platform.node()}], ids=["other host", "earlier boot"])
def test_lost_owner_on_another_host_is_replaced(
    values: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write_record(tmp_path, **values)
    with caplog.at_level("INFO", logger="melray"), own_folder(tmp_path, "extract"):
        assert record(tmp_path)["pid"] == os.getpid()
    assert "to see whether `melray predict` (process 77 on" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 1}', "\x00"])
def test_damaged_record_is_ignored(text: str, tmp_path: Path):
    (tmp_path / RECORD_NAME).write_text(text, encoding="utf-8")
    with own_folder(tmp_path, "extract"):
        assert record(tmp_path)["command"] == "extract"


@pytest.mark.usefixtures("short_times")
def test_owner_notices_a_successor(tmp_path: Path):
    with own_folder(tmp_path, "extract") as owner:
        owner.check()
        write_record(tmp_path)
        with pytest.raises(UserError, match=r"`melray predict` .*node-7.* has taken over this folder"):
            owner.check()

        def has_ended() -> bool:
            write_record(tmp_path)  # again, if the owner was about to renew its record
            return not owner._thread.is_alive()

        wait_until(has_ended, 20)
    assert record(tmp_path)["id"] == "other"


@pytest.mark.usefixtures("short_times")
def test_failing_heartbeat_does_not_end_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with own_folder(tmp_path, "extract") as owner:

        def fail(path: Path, write: object) -> None:
            failures.append(1)
            raise OSError(28, "No space left on device")

        failures: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(module, "write_atomically", fail)
            wait_until(lambda: len(failures) > 2, 5)
        before = record(tmp_path)["renewals"]
        wait_until(lambda: record(tmp_path)["renewals"] > before, 5)
        owner.check()


@pytest.mark.usefixtures("short_times")
def test_record_is_written_again_after_deletion(tmp_path: Path):
    with own_folder(tmp_path, "extract") as owner:
        (tmp_path / RECORD_NAME).unlink()
        wait_until((tmp_path / RECORD_NAME).is_file, 5)
        owner.check()


def test_full_disk_is_reported_before_the_work(full_disk: Path):
    with pytest.raises(OSError, match="No space"), open(full_disk / "filler", "wb") as file:
        file.write(bytes(1_000_000))
    with pytest.raises(UserError, match="disk full while writing to"), own_folder(full_disk, "extract"):
        raise AssertionError
    assert [path.name for path in full_disk.iterdir()] in (["filler"], ["filler", module.LOCK_NAME])


@pytest.mark.parametrize("name", ["file", "file/out", "link"])
def test_path_that_is_no_folder_is_reported(name: str, tmp_path: Path):
    (tmp_path / "file").write_text("thesis", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    message = f"^--out {tmp_path / name}: not a folder; choose another --out$"
    with pytest.raises(UserError, match=message), own_folder(tmp_path / name, "extract"):
        raise AssertionError


@pytest.mark.usefixtures("short_times")
def test_simultaneous_commands_on_object_store_have_one_owner():
    def try_to_own(folder: Any) -> str:
        try:
            with own_folder(folder, "extract"):
                barrier.wait()
            return "owner"
        except UserError as error:
            barrier.wait()
            return str(error)

    with s3_server(latency_s=0.05) as server:
        barrier = threading.Barrier(4, timeout=30)
        folders = [server.bucket() / "out"] * 4
        with ThreadPoolExecutor(4) as pool:
            results = sorted(pool.map(try_to_own, folders))
    assert results.count("owner") == 1 and all("is in use by" in text for text in results if text != "owner")


@pytest.mark.usefixtures("short_times")
def test_object_store_folder_has_one_owner(monkeypatch: pytest.MonkeyPatch):
    with s3_server() as server:
        folder = server.bucket() / "out"
        with own_folder(folder, "extract"):
            monkeypatch.setattr(module, "_boot_id", lambda: "another host")
            message = "is in use by `melray extract`"
            with pytest.raises(UserError, match=message), own_folder(folder, "predict"):
                raise AssertionError
        assert not (folder / RECORD_NAME).exists()


@pytest.mark.usefixtures("short_times")
def test_store_that_answers_with_an_error_after_it_has_written_is_no_other_command():
    """The request is repeated, and refused since the object exists: it is this command's own record."""
    with s3_server() as server:
        folder = server.bucket() / "out"
        server.configure(lost_answers=1)
        with own_folder(folder, "extract") as owner:
            owner.check()
        assert not (folder / RECORD_NAME).exists()


@pytest.mark.usefixtures("short_times")
def test_store_without_conditional_writes_has_one_owner():
    with s3_server() as server:
        folder = server.bucket() / "out"
        server.configure(conditional_writes=False)
        with own_folder(folder, "extract") as owner:
            owner.check()
            message = "is in use by `melray extract`"
            with pytest.raises(UserError, match=message), own_folder(folder, "predict"):
                raise AssertionError
        assert not (folder / RECORD_NAME).exists()
