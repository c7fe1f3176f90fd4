"""Processes of a local cluster without Ray: what is stopped and how long it takes; the interpreter's path."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cluster.connection.local_state import LocalCluster, ProcessRef
from cluster.local.processes import cluster_processes, is_alive, terminate_cluster
from cluster.local.start import is_free, python_for_ray, supervisor_settings

# A node with a child in the same session and a grandchild in its own, as Ray starts jobs.
NODE = "setsid sleep 70 & (sleep 60; true) & wait"


def test_all_descendants_are_stopped_without_waiting_for_zombies(tmp_path: Path) -> None:
    # Their exit is not noticed before the end of the test: they stay zombies.
    node = subprocess.Popen(["bash", "-c", NODE], start_new_session=True)
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        cluster = LocalCluster(
            address="127.0.0.2:1",
            dashboard="http://127.0.0.1:1",
            token=tmp_path / "token",
            folder=tmp_path,
            nodes=1,
            cpus=1,
            supervisor=ProcessRef.of(psutil.Process(node.pid)),
        )
        while len(psutil.Process(node.pid).children(recursive=True)) < 3:
            time.sleep(0.05)
        processes = cluster_processes(cluster)
        assert len(processes) == 4
        start = time.monotonic()
        assert terminate_cluster(cluster) == 4
        assert time.monotonic() - start < 8
        assert not any(map(is_alive, processes)) and bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        node.kill()
        node.wait()


def test_interpreter_gets_a_path_without_blanks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = tmp_path / "my checkout" / ".venv"
    environment.parent.mkdir()
    environment.symlink_to(sys.prefix)
    name = Path(sys.executable).relative_to(sys.prefix)
    assert python_for_ray(tmp_path) == Path(sys.executable)
    monkeypatch.setattr("sys.prefix", str(environment))
    monkeypatch.setattr("sys.executable", str(environment / name))
    python = python_for_ray(tmp_path)
    code = "import sys, yaml; print(sys.prefix, yaml.__file__)"
    output = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.startswith(f"{tmp_path}/python {tmp_path}/python/lib")


def test_each_node_unpacks_jobs_into_its_own_folder(tmp_path: Path) -> None:
    """In a folder of all nodes, one would delete and unpack again the files with which others are working."""
    from ray._private.parameter import RayParams

    settings = supervisor_settings(tmp_path, nodes=3, cpus=1, port=20_000, dashboard_port=20_001)
    nodes = [RayParams(**parameters) for parameters in (settings["head"], *settings["workers"])]
    assert len({node.runtime_env_dir_name for node in nodes}) == 3


def test_free_ports_are_found_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutIPv6(socket.socket):
        """Sockets of a kernel with `ipv6.disable=1`, to which `socket.has_ipv6` does not refer."""

        def __init__(self, family: int = socket.AF_INET, *arguments: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *arguments)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        monkeypatch.setattr(socket, "socket", WithoutIPv6)
        assert not is_free(port)
    assert is_free(port)
