"""Where a command runs its work: when its Ray session is opened, and small work of commands without Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cluster.arguments.common_flags import CommonFlags, split_common_flags
from cluster.connection import execution as module
from cluster.connection.execution import command_execution
from pipeline.distributed.execution import local_cpus, start_ray
from pipeline.io.errors import UserError
from tests.helpers.processes import COMMAND, run_command, start_command, wait_until
from tests.helpers.sounds import write_tones


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record when sessions are opened and closed, instead of starting Ray."""
    events: list[str] = []

    @contextmanager
    def session(address: str | None, cpus: int | None) -> Iterator[None]:
        events.append(f"open {address} {cpus}")
        yield
        events.append("close")

    monkeypatch.setattr(module, "session", session)
    return events


@pytest.mark.parametrize("common", [CommonFlags(ray=True), CommonFlags(address="a:1"), CommonFlags()])
def test_session_is_opened_at_once_if_requested(common: CommonFlags, sessions: list[str]) -> None:
    with command_execution(common, needs_ray=common == CommonFlags()):
        assert sessions == [f"open {common.address} None"]
    assert sessions[1:] == ["close"]


@pytest.mark.parametrize("ray", [None, False])
def test_session_is_not_opened_before_it_is_needed(ray: bool | None, sessions: list[str]) -> None:
    with command_execution(CommonFlags(cpus=3, ray=ray)):
        assert local_cpus() == 3
        if ray is None:
            start_ray("the work")
            assert sessions == ["open None 3"]
    assert sessions[1:] == ([] if ray is False else ["close"])


def test_command_that_needs_ray_is_refused_without(sessions: list[str]) -> None:
    with (
        pytest.raises(UserError, match=r"^--no-ray: tune needs Ray; drop the flag$"),
        command_execution(CommonFlags(ray=False), needs_ray=True, command="tune"),
    ):
        pass
    with pytest.raises(UserError, match=r"^--address a:1 and --no-ray: drop one of them$"):
        split_common_flags(["--address", "a:1", "--no-ray"])
    with pytest.raises(
        UserError, match=r"^--cpus 2: CPUs of this host, which --address a:1 does not use; drop"
    ):
        split_common_flags(["--address", "a:1", "--cpus", "2"])


FEATURES = "--features.mel.sample-rate 8000 --features.mel.n-fft 256 --features.mel.hop-length 256".split()
# Fails if a command imports Ray.
WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from cluster.cli import main; main()"


def test_small_extraction_does_not_import_ray(tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", classes=2, clips=4)
    flags = ["extract", "--data", str(data), "--out", str(tmp_path / "out"), *FEATURES]
    completed = subprocess.run([sys.executable, "-c", WITHOUT_RAY, *flags], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert "8 clips, 16 rows, 0 rejected" in completed.stdout
    assert "running in processes of this host: about" in completed.stderr


def test_interrupt_ends_workers_in_one_line(tmp_path: Path) -> None:
    data, log = write_tones(tmp_path / "data", classes=2, clips=40), tmp_path / "log"
    flags = ("--data", data, "--out", tmp_path / "out", "--copies", 30, "--no-ray", *FEATURES)
    command = start_command("extract", *flags, log=log)
    wait_until(lambda: any((tmp_path / "out").glob("part-*")))
    processes = psutil.Process(command.pid).children(recursive=True)
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait(30) == 130
    output = log.read_text()
    assert output.endswith("\ninterrupted; run the command again to resume\n") and "Traceback" not in output
    wait_until(lambda: not any(map(psutil.Process.is_running, processes)), 10)


def test_terminated_command_resumes(tmp_path: Path) -> None:
    data, out = write_tones(tmp_path / "data", classes=2, clips=20), tmp_path / "out"
    flags = ("extract", "--data", data, "--out", out, "--copies", 9, "--no-ray", *FEATURES)
    command = start_command(*flags, log=tmp_path / "log")
    wait_until(lambda: any(out.glob("part-*")))
    os.killpg(command.pid, signal.SIGTERM)
    assert command.wait(30) == 130
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    completed = run_command(*flags)
    assert completed.returncode == 0, completed.stderr
    assert {name: (out / name).stat().st_mtime_ns for name in finished} == finished
    assert "of them earlier" in completed.stderr


def test_help_starts_no_process() -> None:
    code = "import multiprocessing.forkserver as f; f.ensure_running = None; " + COMMAND[2]
    assert (
        subprocess.run([sys.executable, "-c", code, "extract", "--help"], capture_output=True).returncode == 0
    )
