"""Local sessions in the environments of users: their own files, long TMPDIR, no home, interrupts, blanks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cluster.local.processes import is_alive
from tests.cluster.test_process import UID, run_as_unknown_user, unknown_user
from tests.helpers.processes import COMMAND, wait_until
from tests.helpers.sounds import write_tones

__all__ = ["unknown_user"]

FEATURES = (
    "--copies 0 --features.mel.sample-rate 8000 --features.mel.n-fft 256 "
    "--features.mel.hop-length 256 --features.mel.n-mels 16"
).split()
# Like the script `melray`, without the current folder on the search path.
MELRAY = [sys.executable, "-P", *COMMAND[1:]]
EXTRACT = [*MELRAY, "extract", "--cpus", "1", *FEATURES]
# Files that Ray's workers would import instead of packages if the driver's folder was on their path.
FILES = ["models.py", "models/config.py", "pipeline.py", "soundfile.py", "numpy/__init__.py", "queue.py"]
WAITING = """
import sys, time
from cluster.cli import main
import cluster.commands
from cluster.connection.session import session
def dispatch(command, flags, common, job_arguments):
    with session(cpus=1):
        import ray
        print("started", flush=True)
        time.sleep(60)
cluster.commands.dispatch = dispatch
main()
"""


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of a user: without the tests' own settings of Ray."""
    return {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")} | changes


def session_folders(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.glob("melray-*") if "cache" not in path.name)


def extract(folder: Path, settings: dict[str, str], where: str = "--ray") -> subprocess.CompletedProcess[str]:
    """Extract tones, with `folder` as current folder."""
    write_tones(folder / "tones", classes=2, clips=4)
    return subprocess.run(
        [*EXTRACT, where, "--data", "tones", "--out", "shards"],
        cwd=folder,
        env=settings,
        capture_output=True,
        text=True,
        timeout=90,
    )


@pytest.mark.parametrize("where", [pytest.param("--ray", marks=pytest.mark.slow), "--no-ray"])
def test_files_of_the_user_do_not_reach_workers(where: str, tmp_path: Path) -> None:
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit('a file of the user was imported')\n")
    completed = extract(tmp_path, environment(), where)
    assert completed.returncode == 0, completed.stderr
    assert "8 clips, 8 rows, 0 rejected" in completed.stdout + completed.stderr


@pytest.mark.slow
def test_long_tmpdir_is_no_obstacle(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    completed = extract(tmp_path, environment(TMPDIR=str(long)))
    assert completed.returncode == 0, completed.stderr
    assert session_folders(long) == []


@pytest.mark.slow
def test_unknown_user_extracts(unknown_user: dict[str, str], tmp_path: Path) -> None:
    write_tones(tmp_path / "tones", classes=2, clips=4)
    flags = ["--data", str(tmp_path / "tones"), "--out", str(tmp_path / "shards")]
    completed = run_as_unknown_user(unknown_user, *EXTRACT, "--ray", *flags)
    assert completed.returncode == 0, completed.stderr
    assert (tmp_path / "shards").stat().st_uid == UID


@pytest.mark.parametrize("moment", ["start", "run", pytest.param("twice", marks=pytest.mark.slow)])
def test_interrupt_ends_in_one_line_without_processes(moment: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING, "demo"],
        env=environment(RAY_TMPDIR="/dev/shm"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        if moment == "start":
            wait_until(lambda: any("gcs_server" in child.name() for child in children(process.pid)))
        else:
            assert process.stdout.readline() == "started\n"
        started = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        if moment == "twice":
            time.sleep(0.3)
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "\ninterrupted; run the command again to resume\n"
    wait_until(lambda: not [child for child in started if is_alive(child)], 10)


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@pytest.mark.slow
def test_folder_of_killed_command_is_deleted_by_the_next() -> None:
    settings = environment(RAY_TMPDIR="/dev/shm")
    command = [sys.executable, "-c", WAITING, "demo"]
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"started\n"
        (folder,) = session_folders(Path("/dev/shm"))
        process.kill()
    assert (Path("/dev/shm") / folder).exists()
    code = "from cluster.connection.session import session_folder; session_folder()"
    subprocess.run([sys.executable, "-c", code], env=settings, check=True)
    assert session_folders(Path("/dev/shm")) == []
