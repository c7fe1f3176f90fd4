"""Start a local cluster: one process that runs all nodes on loopback, and that outlives the command."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from cluster.connection.local_state import (
    LOG_NAME,
    LocalCluster,
    ProcessRef,
    cluster_name,
    save_state,
    state_dir,
)
from cluster.connection.loopback import HOST, loopback_environment
from cluster.connection.session import RAY_ENVIRONMENT
from cluster.connection.temp_folder import create_temp_folder, short_temp_folder
from cluster.connection.token import AUTH_ENV_VARS, write_token
from pipeline.distributed.this_host import available_memory
from pipeline.io.errors import UserError

SUPERVISOR = Path(__file__).with_name("supervisor.py")
SETTINGS_NAME, READY_NAME = "settings.json", "ready"
# Fractions of the free memory that all nodes together use; Ray by itself would let every node use that much.
MEMORY_FRACTION, OBJECT_STORE_FRACTION = 0.6, 0.3
# Below the ephemeral ports, which the system could assign to a connection before a node listens.
PORTS = range(20_000, 32_000)


def start_nodes(
    nodes: int, cpus: int, port: int | None, dashboard_port: int | None, deadline: float
) -> LocalCluster:
    """Start a head and workers; the state file is saved as soon as the process that starts them is running.

    Args:
        nodes: number of nodes including the head.
        cpus: CPUs of each node.
        port: GCS port; None chooses a free one.
        dashboard_port: port of the dashboard; None chooses a free one.
        deadline: time limit for all nodes, in `time.monotonic()`.

    Raises:
        UserError: port in use, a node that does not start, or timeout; nodes already started keep running.
    """
    for requested_port in (port, dashboard_port):
        if requested_port is not None and not is_free(requested_port):
            raise UserError(f"port {requested_port} is in use; choose another --port or --dashboard-port")
    free = free_ports(2)
    port, dashboard_port = port or free[0], dashboard_port or free[1]
    token = state_dir() / f"{cluster_name()}.token"
    write_token(token)
    folder = create_temp_folder(short_temp_folder(), keep=True)
    settings = supervisor_settings(folder, nodes, cpus, port, dashboard_port)
    cluster = LocalCluster(
        address=f"{HOST}:{port}",
        dashboard=f"http://{HOST}:{dashboard_port}",
        token=token,
        folder=folder,
        nodes=nodes,
        cpus=cpus,
        supervisor=start_supervisor(folder, settings, token),
    )
    save_state(cluster)
    wait_until_ready(cluster, deadline)
    return cluster


def supervisor_settings(
    folder: Path, nodes: int, cpus: int, port: int, dashboard_port: int
) -> dict[str, Any]:
    """Return the settings of `supervisor.py`: Ray's parameters of each node."""
    common = {
        "node_ip_address": HOST,
        "num_cpus": cpus,
        "dashboard_agent_listen_port": 0,  # any free port, as all others
        "min_worker_port": 0,
        "max_worker_port": 0,
        **memory_parameters(nodes),
    }
    head = {
        "gcs_server_port": port,
        "include_dashboard": True,
        "dashboard_host": HOST,
        "dashboard_port": dashboard_port,
        "temp_dir": str(folder / "r"),
    }
    # One log monitor reads the files of all nodes. The GPUs are the head's: Ray would count them per node.
    worker = {"include_log_monitor": False, "num_gpus": 0}
    # A node unpacks the files of a job when it starts the first worker of it, and deletes what is there: in a
    # folder of all nodes, these would be the files that the job and its workers on other nodes are using.
    folders = [{"runtime_env_dir_name": f"runtime_resources_{number}"} for number in range(1, nodes)]
    return {
        "head": common | head,
        "workers": [common | worker | folder for folder in folders],
        "ready": str(folder / READY_NAME),
    }


def start_supervisor(folder: Path, settings: dict[str, Any], token: Path) -> ProcessRef:
    """Start the process that runs the nodes, in its own session: Ctrl-C of the command does not reach it."""
    path = folder / SETTINGS_NAME
    path.write_text(json.dumps(settings), encoding="utf-8")
    python = python_for_ray(folder)
    with (folder / LOG_NAME).open("wb") as log:
        process = subprocess.Popen(
            [str(python), "-P", str(SUPERVISOR), str(path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            env=node_environment(token, python),
            start_new_session=True,
        )
    return ProcessRef.of(psutil.Process(process.pid))


def wait_until_ready(cluster: LocalCluster, deadline: float) -> None:
    """Wait until all nodes are registered.

    Raises:
        UserError: a node did not start, or the deadline has passed.
    """
    while not (cluster.folder / READY_NAME).exists():
        if not cluster.is_running:
            raise UserError(f"the nodes did not start: {last_line(cluster.folder / LOG_NAME)}")
        if time.monotonic() > deadline:
            raise UserError("startup timed out; raise --timeout or lower --nodes")
        time.sleep(0.05)


def python_for_ray(folder: Path) -> Path:
    """Return a path of this interpreter without blanks, at which Ray splits its commands; a link if needed.

    The link is made in `folder`, to the environment of the interpreter.
    """
    python, environment = Path(sys.executable), Path(sys.prefix)
    if not re.search(r"[^\w./+@:-]", f"{python}{environment}") or not python.is_relative_to(environment):
        return python
    link = folder / "python"
    link.symlink_to(environment, target_is_directory=True)
    return link / python.relative_to(environment)


def node_environment(token: Path, python: Path) -> dict[str, str]:
    """Return the environment of the nodes and their jobs; it holds the path of the token, not the token."""
    excluded = {*AUTH_ENV_VARS, "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_TMPDIR"}
    inherited = {name: value for name, value in os.environ.items() if name not in excluded}
    return (
        inherited
        | RAY_ENVIRONMENT
        | loopback_environment()
        | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            # As long as `melray submit` allows for the installation of a job's packages.
            "RAY_JOB_START_TIMEOUT_SECONDS": "3600",
            # `python` in a job must be the interpreter that runs melray.
            "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
    )


def memory_parameters(nodes: int) -> dict[str, int]:
    """Return the parameters that divide the free memory equally among several nodes; none for one node."""
    if nodes == 1:
        return {}
    free = available_memory()
    object_store = OBJECT_STORE_FRACTION * free
    if Path("/dev/shm").is_dir():
        object_store = min(object_store, 0.9 * shutil.disk_usage("/dev/shm").free)
    # Ray rejects an object store below 75 MiB.
    return {
        "memory": int(MEMORY_FRACTION * free / nodes),
        "object_store_memory": max(80 * 2**20, int(object_store / nodes)),
    }


def free_ports(count: int) -> list[int]:
    """Return `count` free ports."""
    ports: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(ports) == count:
            break
        if is_free(port):
            ports.append(port)
    return ports


def is_free(port: int) -> bool:
    """Return whether a port can be listened on at all addresses of IPv4, and of IPv6 if the system has it."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            probe = socket.socket(family, socket.SOCK_STREAM)
        except OSError:  # a system without this family, such as a kernel with ipv6.disable=1
            continue
        with probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # the family has no address
                    return False
    return True


def last_line(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text(errors="replace", encoding="utf-8").strip().splitlines()
    return lines[-1].strip() if lines else "no output"
