"""Find and stop the processes of the local cluster, and find the addresses at which they listen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from typing import NamedTuple

import psutil

from cluster.connection.local_state import LocalCluster
from cluster.connection.loopback import is_loopback
from pipeline.io.errors import UserError

# Time that processes have to exit after SIGTERM, and then to be gone after SIGKILL.
TERM_TIMEOUT_S, KILL_TIMEOUT_S = 3.0, 30.0


def terminate_cluster(cluster: LocalCluster) -> int:
    """Stop all processes of a cluster; return how many there were.

    Raises:
        UserError: some cannot be stopped.
    """
    processes = set(cluster_processes(cluster))
    # The supervisor stops the nodes in order; what takes too long, or outlived it, is killed.
    _signal([supervisor] if (supervisor := cluster.supervisor.find()) else [], signal.SIGTERM)
    _wait_for_exit(processes, TERM_TIMEOUT_S)
    deadline = time.monotonic() + KILL_TIMEOUT_S
    while remaining := {process for process in processes if is_alive(process)} | set(
        cluster_processes(cluster)
    ):
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in remaining)
            raise UserError(
                f"could not stop processes {pids} of the cluster; kill them manually, "
                "then rerun `melray cluster down`"
            )
        processes |= remaining
        _signal(list(remaining), signal.SIGKILL)
        _wait_for_exit(remaining, 1.0)
    return len(processes)


def cluster_processes(cluster: LocalCluster) -> list[psutil.Process]:
    """Return the processes of a cluster: the supervisor, its descendants, and orphans that outlived it."""
    children: dict[int, list[psutil.Process]] = {}
    pending = []
    # One pass over all processes of the host: `children` of psutil would make one for each.
    for process in psutil.process_iter():
        try:
            if is_alive(process):
                children.setdefault(process.ppid(), []).append(process)
                pending += [process] if _belongs_to(process, cluster) else []
        except (psutil.Error, ProcessLookupError):
            continue
    found: dict[psutil.Process, None] = {}
    while pending:
        process = pending.pop()
        if process not in found:
            found[process] = None
            pending += children.get(process.pid, [])
    return list(found)


def is_alive(process: psutil.Process) -> bool:
    """Return whether a process is running, and not a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _belongs_to(process: psutil.Process, cluster: LocalCluster) -> bool:
    """Return whether a process is in the session that the supervisor of the cluster created."""
    supervisor = cluster.supervisor
    if os.getsid(process.pid) != supervisor.pid:
        return False
    # A session keeps its id as long as it has members. If the supervisor is gone, the id can only belong to a
    # new session whose leader has this id, or had it and exited.
    return supervisor.find() is not None or (
        not psutil.pid_exists(supervisor.pid) and "ray" in " ".join(process.cmdline())
    )


class Listener(NamedTuple):
    """A process that accepts connections at a port."""

    process: str
    """Name of the process."""
    host: str
    """Address at which it listens; `0.0.0.0` and `::` are all addresses of the host."""
    port: int

    @property
    def is_exposed(self) -> bool:
        """Whether other hosts can connect."""
        return not is_loopback(self.host)


def find_listeners(processes: Iterable[psutil.Process]) -> list[Listener]:
    """Return where processes of this user listen, sorted by name and port."""
    listeners = set()
    for process in processes:
        try:
            name, connections = process.name(), process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        listeners |= {
            Listener(name, connection.laddr.ip, connection.laddr.port)
            for connection in connections
            if connection.status == psutil.CONN_LISTEN
        }
    return sorted(listeners)


def _wait_for_exit(processes: Iterable[psutil.Process], timeout_s: float) -> None:
    """Wait until all processes have exited; `psutil.wait_procs` also waits until their parent notices.

    Orphans of a container without an init process stay zombies forever.
    """
    deadline = time.monotonic() + timeout_s
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)  # checks first that the id was not reused
        except psutil.NoSuchProcess:
            continue
