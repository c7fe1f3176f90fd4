"""Start the nodes of a local cluster: a `ray start` each, with its process session and loopback address."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cluster.connection.address import JobServer
from cluster.connection.dashboard import get_json
from cluster.connection.local_state import LocalCluster, ProcessRef, save_state, state_dir
from cluster.connection.session import RAY_ENVIRONMENT
from cluster.connection.temp_folder import create_temp_folder, short_temp_folder
from cluster.connection.token import AUTH_ENV_VARS, read_token, write_token
from pipeline.io.errors import UserError

START_ARGUMENTS = ["-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
RAY_START = [sys.executable, *START_ARGUMENTS]
# Fractions of the free memory that all nodes together use; Ray by itself would let every node use that much.
MEMORY_FRACTION, OBJECT_STORE_FRACTION = 0.6, 0.3
# Below the ephemeral ports, which the system could assign to a connection before a node listens.
PORTS = range(20_000, 32_000)


def start_nodes(
    nodes: int, cpus: int, port: int | None, dashboard_port: int | None, deadline: float
) -> LocalCluster:
    """Start a head and workers; each is saved in the state file as soon as its process is running.

    Args:
        nodes: number of nodes including the head.
        cpus: CPUs of each node.
        port: GCS port; None chooses a free one.
        dashboard_port: port of the dashboard; None chooses a free one.
        deadline: time limit for all nodes, in `time.monotonic()`.

    Raises:
        UserError: port in use, a node that dies, or timeout; nodes already started keep running.
    """
    for requested_port in (port, dashboard_port):
        if requested_port is not None and not is_free(requested_port):
            raise UserError(f"port {requested_port} is in use; choose another --port or --dashboard-port")
    ports = free_ports(3 + nodes)
    address = f"{host(0)}:{port or ports.pop()}"
    dashboard_port, client_port = dashboard_port or ports.pop(), ports.pop()
    token = state_dir() / "cluster.token"
    write_token(token)
    folder = create_temp_folder(short_temp_folder(), keep=True)
    common = [f"--num-cpus={cpus}", *memory_flags(nodes), "--min-worker-port=0", "--max-worker-port=0"]
    python = python_for_ray(folder)
    environment = node_environment(token, python)
    agent_ports = [ports.pop() for _ in range(nodes)]

    def start(number: int, flags: list[str]) -> ProcessRef:
        node_flags = [
            f"--node-ip-address={host(number)}",
            f"--dashboard-agent-listen-port={agent_ports[number]}",
        ]
        with log_file(folder, number).open("wb") as log:
            process = subprocess.Popen(
                [str(python), *START_ARGUMENTS, *flags, *node_flags, *common],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        return ProcessRef.of(psutil.Process(process.pid))

    head_flags = [
        "--head",
        f"--port={address.rpartition(':')[2]}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard_port}",
        f"--ray-client-server-port={client_port}",
        f"--temp-dir={folder / 'r'}",
        "--disable-usage-stats",
    ]
    cluster = LocalCluster(
        address=address,
        dashboard=f"http://127.0.0.1:{dashboard_port}",
        token=token,
        folder=folder,
        cpus=cpus,
        nodes=(start(0, head_flags),),
    )
    save_state(cluster)
    wait_for(lambda: listens(address), cluster, deadline)
    # One log monitor reads the files of all nodes. The GPUs are the head's: Ray would count them per node.
    worker_flags = [f"--address={address}", "--include-log-monitor=false", "--num-gpus=0"]
    for number in range(1, nodes):
        cluster = cluster.model_copy(update={"nodes": (*cluster.nodes, start(number, worker_flags))})
        save_state(cluster)
    server = JobServer(cluster.dashboard, read_token(token, "the cluster's file"), is_local=True)
    wait_for(lambda: count_alive(server) >= nodes, cluster, deadline)
    # A node that is listed as alive exits if its agent, which starts jobs, does not come up.
    wait_for(
        lambda: all(listens(f"{host(number)}:{port}") for number, port in enumerate(agent_ports)),
        cluster,
        deadline,
    )
    return cluster


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


def host(number: int) -> str:
    """Return the address of a node: on Linux all of 127.* is loopback, elsewhere only 127.0.0.1."""
    return f"127.0.{number // 250}.{number % 250 + 2}" if sys.platform == "linux" else "127.0.0.1"


def node_environment(token: Path, python: Path) -> dict[str, str]:
    """Return the environment of a node and its jobs; it holds the path of the token, not the token."""
    excluded = {*AUTH_ENV_VARS, "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_TMPDIR"}
    inherited = {name: value for name, value in os.environ.items() if name not in excluded}
    return (
        inherited
        | RAY_ENVIRONMENT
        | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            # Ray allows several nodes on macOS only with this variable.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
            # `python` in a job must be the interpreter that runs melray.
            "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
    )


def memory_flags(nodes: int) -> list[str]:
    """Return the flags that divide the free memory equally among several nodes; none for a single node."""
    if nodes == 1:
        return []
    free = psutil.virtual_memory().available
    object_store = OBJECT_STORE_FRACTION * free
    if Path("/dev/shm").is_dir():
        object_store = min(object_store, 0.9 * shutil.disk_usage("/dev/shm").free)
    # Ray rejects an object store below 75 MiB.
    return [
        f"--memory={int(MEMORY_FRACTION * free / nodes)}",
        f"--object-store-memory={max(80 * 2**20, int(object_store / nodes))}",
    ]


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
    """Return whether a port can be listened on at all addresses, as Ray does."""
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def listens(address: str) -> bool:
    """Return whether `host:port` accepts connections."""
    name, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((name, int(port))) == 0


def count_alive(server: JobServer) -> int:
    """Return the number of live nodes that the dashboard lists; 0 until it is up."""
    try:
        nodes = get_json(server, "/api/v0/nodes")["data"]["result"]["result"]
    except UserError:
        return 0
    return sum(node["state"] == "ALIVE" for node in nodes)


def wait_for(ready: Callable[[], bool], cluster: LocalCluster, deadline: float) -> None:
    """Wait until `ready()` is true.

    Raises:
        UserError: a node died, or the deadline has passed.
    """
    while not ready():
        for number, node in enumerate(cluster.nodes):
            if node.find() is None:
                raise UserError(
                    f"node {number} failed to start: {last_log_line(log_file(cluster.folder, number))}"
                )
        if time.monotonic() > deadline:
            raise UserError("startup timed out; raise --timeout or lower --nodes")
        time.sleep(0.1)


def log_file(folder: Path, number: int) -> Path:
    """Return the log file of a node's `ray start`."""
    return folder / f"node-{number}.log"


def last_log_line(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text(errors="replace", encoding="utf-8").strip().splitlines()
    return lines[-1].strip() if lines else "no output"
