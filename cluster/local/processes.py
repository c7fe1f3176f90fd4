"""Find and stop the processes of the local cluster."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

import psutil

from cluster.connection.local_state import LocalCluster
from pipeline.io.errors import UserError

# Time that processes have to exit after SIGTERM, and then to be gone after SIGKILL.
TERM_TIMEOUT_S, KILL_TIMEOUT_S = 3.0, 30.0


def terminate_cluster(cluster: LocalCluster) -> int:
    """Stop all processes of a cluster; return how many there were.

    Raises:
        UserError: some cannot be stopped.
    """
    processes = set(cluster_processes(cluster))
    # Nodes stop their own processes in order; what takes too long, or outlived its node, is killed.
    _signal([process for node in cluster.nodes if (process := node.find())], signal.SIGTERM)
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
    """Return the processes of a cluster: nodes, their descendants, and orphans that outlived a node."""
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
    """Return whether the process's session has the id of a `ray start` of the cluster, which created it."""
    session = os.getsid(process.pid)
    node = next((node for node in cluster.nodes if node.pid == session), None)
    if node is None:
        return False
    # A session keeps its id as long as it has members. If the node is gone, the id can only belong to a new
    # session whose leader has this id, or had it and exited.
    return node.find() is not None or (
        not psutil.pid_exists(session) and "ray" in " ".join(process.cmdline())
    )


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
