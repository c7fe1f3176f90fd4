"""All processes of a cluster on this machine, and no other: finding them, and ending them."""

from __future__ import annotations

import os
import signal
import time

import psutil

from cluster.connection.local_state import LocalCluster
from pipeline.io.errors import UserError

# Seconds that processes have to end by themselves, and then to be gone.
GRACE, KILLED = 3.0, 10.0


def terminate_cluster(cluster: LocalCluster) -> int:
    """Ends all of a cluster; returns how many processes there were.

    Raises:
        UserError: some can't be ended.
    """
    family = set(cluster_processes(cluster))
    # The nodes end what is theirs in good order; what takes too long for that, or outlived its node, is killed.
    _signal([process for mark in cluster.nodes if (process := mark.find())], signal.SIGTERM)
    psutil.wait_procs(family, timeout=GRACE)
    deadline = time.monotonic() + KILLED
    while left := {process for process in family if is_alive(process)} | set(cluster_processes(cluster)):
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in left)
            raise UserError(
                f"processes {pids} of the cluster can't be ended: end them yourself, then `melray cluster down` again"
            )
        family |= left
        _signal(list(left), signal.SIGKILL)
        psutil.wait_procs(left, timeout=1)
    return len(family)


def cluster_processes(cluster: LocalCluster) -> list[psutil.Process]:
    """The processes of a cluster: its nodes, all that they started, and what outlived the one that started it."""
    found: dict[psutil.Process, None] = {}
    for process in psutil.process_iter():
        try:
            if is_alive(process) and _belongs(process, cluster):
                found |= dict.fromkeys([process, *process.children(recursive=True)])
        except (psutil.Error, ProcessLookupError):
            continue
    return list(found)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs, and is not just waiting for its parent to notice its end."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _belongs(process: psutil.Process, cluster: LocalCluster) -> bool:
    """By its session, whose number is the id of the process that began it: a node's `ray start`."""
    session = os.getsid(process.pid)
    node = next((mark for mark in cluster.nodes if mark.pid == session), None)
    if node is None:
        return False
    # A number stays a session's as long as it has members. With the node gone, it could only be a new one's that is led by a
    # process of this id, or that was and has lost it.
    return node.find() is not None or (
        not psutil.pid_exists(session) and "ray" in " ".join(process.cmdline())
    )


def _signal(processes: list[psutil.Process], number: int) -> None:
    for process in processes:
        try:
            process.send_signal(number)  # which first makes sure that the id still means the same process
        except psutil.NoSuchProcess:
            continue
