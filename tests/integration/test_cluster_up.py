"""Starts of a local cluster while other processes keep the CPUs busy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.connection.local_state import local_cluster
from tests.helpers.processes import run_command, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def busy_cpus() -> Iterator[None]:
    """Run two processes per CPU that compute without end."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def separate_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MELRAY_HOME", str(tmp_path))
    yield
    run_command("cluster", "down")


@pytest.mark.usefixtures("busy_cpus")
def test_cluster_starts_while_cpus_are_busy() -> None:
    for _ in range(3):
        up = run_command("cluster", "up", "--nodes", 3, "--cpus", 1, timeout=180)
        assert up.returncode == 0, up.stderr
        assert run_command("cluster", "down").returncode == 0


def test_lost_head_ends_the_cluster() -> None:
    assert run_command("cluster", "up", "--nodes", 2, "--cpus", 1).returncode == 0
    cluster = local_cluster()
    assert cluster is not None
    supervisor = cluster.supervisor.find()
    assert supervisor is not None
    (gcs,) = [child for child in supervisor.children() if child.name() == "gcs_server"]
    gcs.kill()
    wait_until(lambda: not cluster.is_running, 30)
    assert (cluster.folder / "supervisor.log").read_text().endswith("the head node has lost its gcs_server\n")
    # The next start deletes what is left.
    assert run_command("cluster", "up", "--nodes", 1, "--cpus", 1).returncode == 0
    assert not cluster.folder.exists()
