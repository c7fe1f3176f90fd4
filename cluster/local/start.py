"""Starting nodes on this machine: each is a `ray start` in a process session of its own, on a loopback address of its own."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cluster.connection.address import JobServer
from cluster.connection.dashboard import get_json
from cluster.connection.local_state import LocalCluster, ProcessRef, save_state, state_dir
from cluster.connection.session import RAY_ENVIRONMENT
from cluster.connection.token import AUTH_ENV_VARS, read_token, write_token
from pipeline.io.errors import UserError

RAY_START = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
# Parts of the free memory that all nodes may take together; Ray would let each take as much.
MEMORY_FRACTION, OBJECT_STORE = 0.6, 0.3
# Free ports are looked for below those that the system gives to connections, which could take them meanwhile.
PORTS = range(20_000, 32_000)


def start_nodes(
    nodes: int, cpus: int, port: int | None, dashboard_port: int | None, deadline: float
) -> LocalCluster:
    """Starts a head and workers; each is remembered as soon as it runs.

    Args:
        port: of Ray's protocol; a free one where None, as `dashboard_port`.
        deadline: until when all must be there, in `time.monotonic()`.

    Raises:
        UserError: a port in use, a node that dies, no time left; what was started still runs.
    """
    for wanted in (port, dashboard_port):
        if wanted is not None and not is_free(wanted):
            raise UserError(
                f"port {wanted} is in use: choose another --port or --dashboard-port, or leave it out"
            )
    free = free_ports(3 + nodes)
    address = f"{host(0)}:{port or free.pop()}"
    dashboard_port, client_port = dashboard_port or free.pop(), free.pop()
    token = state_dir() / "cluster.token"
    write_token(token)
    # Not in melray's home: the paths of Ray's sockets must be short.
    folder = Path(tempfile.mkdtemp(prefix="melray-", dir="/tmp"))
    common = [f"--num-cpus={cpus}", *memory_flags(nodes), "--min-worker-port=0", "--max-worker-port=0"]
    environment = node_environment(token)

    def start(number: int, flags: list[str]) -> ProcessRef:
        own = [f"--node-ip-address={host(number)}", f"--dashboard-agent-listen-port={free.pop()}"]
        with log_file(folder, number).open("wb") as log:
            process = subprocess.Popen(
                [*RAY_START, *flags, *own, *common],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        return ProcessRef.of(psutil.Process(process.pid))

    head = [
        "--head",
        f"--port={address.rpartition(':')[2]}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard_port}",
    ]
    head += [f"--ray-client-server-port={client_port}", f"--temp-dir={folder / 'r'}", "--disable-usage-stats"]
    cluster = LocalCluster(
        address=address,
        dashboard=f"http://127.0.0.1:{dashboard_port}",
        token=token,
        folder=folder,
        cpus=cpus,
        nodes=(start(0, head),),
    )
    save_state(cluster)
    wait_for(lambda: listens(address), cluster, deadline)
    # One log monitor reads the files of all nodes; and the GPUs are the head's, as Ray would count them once a node.
    worker = [f"--address={address}", "--include-log-monitor=false", "--num-gpus=0"]
    for number in range(1, nodes):
        cluster = cluster.model_copy(update={"nodes": (*cluster.nodes, start(number, worker))})
        save_state(cluster)
    server = JobServer(cluster.dashboard, read_token(token, "the cluster's file"), here=True)
    wait_for(lambda: count_alive(server) >= nodes, cluster, deadline)
    return cluster


def host(number: int) -> str:
    """The address of a node: on Linux all of 127.* is loopback, elsewhere one address is."""
    return f"127.0.{number // 250}.{number % 250 + 2}" if sys.platform == "linux" else "127.0.0.1"


def node_environment(token: Path) -> dict[str, str]:
    """What a node, and the jobs on it, find in their environment: where the token is, not the token."""
    foreign = {*AUTH_ENV_VARS, "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_TMPDIR"}
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return (
        kept
        | RAY_ENVIRONMENT
        | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            # Ray keeps to one node on a Mac unless told otherwise.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
            # A job's `python` is to be the one that melray runs with.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
    )


def memory_flags(nodes: int) -> list[str]:
    """An even share of what is free for each of several nodes."""
    if nodes == 1:
        return []
    free = psutil.virtual_memory().available
    store = OBJECT_STORE * free
    if Path("/dev/shm").is_dir():
        store = min(store, 0.9 * shutil.disk_usage("/dev/shm").free)
    # Ray refuses an object store below 75 MiB.
    return [
        f"--memory={int(MEMORY_FRACTION * free / nodes)}",
        f"--object-store-memory={max(80 * 2**20, int(store / nodes))}",
    ]


def free_ports(count: int) -> list[int]:
    """So many ports on which nobody listens."""
    found: list[int] = []
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    return found


def is_free(port: int) -> bool:
    """Whether a port can be listened on, at all addresses, as Ray does."""
    with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def listens(address: str) -> bool:
    """Whether `host:port` takes connections."""
    name, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((name, int(port))) == 0


def count_alive(server: JobServer) -> int:
    """How many nodes the dashboard knows; none while it is not up itself."""
    try:
        nodes = get_json(server, "/api/v0/nodes")["data"]["result"]["result"]
    except UserError:
        return 0
    return sum(node["state"] == "ALIVE" for node in nodes)


def wait_for(ready: Callable[[], bool], cluster: LocalCluster, deadline: float) -> None:
    """Returns when it is so.

    Raises:
        UserError: a node died, or the time is up.
    """
    while not ready():
        for number, mark in enumerate(cluster.nodes):
            if mark.find() is None:
                raise UserError(
                    f"node {number} did not start: {last_log_line(log_file(cluster.folder, number))}"
                )
        if time.monotonic() > deadline:
            raise UserError(
                "the cluster is not up in time: give it longer with --timeout, or start fewer --nodes"
            )
        time.sleep(0.1)


def log_file(folder: Path, number: int) -> Path:
    """What a node's `ray start` prints."""
    return folder / f"node-{number}.log"


def last_log_line(log: Path) -> str:
    """The last line of a log."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
