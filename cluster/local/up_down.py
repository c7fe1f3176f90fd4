"""A cluster on this machine: `melray cluster up` starts its nodes, `status` shows them, `down` ends them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from pydantic import Field

from cluster.arguments.flags import Common
from cluster.arguments.subcommands import Action, run_action
from cluster.connection.address import job_server
from cluster.connection.dashboard import get_json
from cluster.connection.local_state import LocalCluster, clear_state, local_cluster, state_dir
from cluster.connection.nodes import describe_node, read_nodes, sums
from cluster.local.processes import terminate_cluster
from cluster.local.start import start_nodes
from models.config import Config
from pipeline.io.console import duration
from pipeline.io.errors import UserError


class UpConfig(Config):
    """Starts a cluster on this machine: nodes of --cpus CPUs each, on loopback, open only to holders of its token.

    With --cpus left out, the nodes share the machine's CPUs evenly.
    """

    nodes: int = Field(2, ge=1, le=64)
    """Nodes; the first is the head, which works too."""
    port: int | None = Field(None, ge=1024, le=65535)
    """Port of Ray's own protocol; by default a free one."""
    dashboard_port: int | None = Field(None, ge=1024, le=65535)
    """Port of the dashboard, where jobs are submitted; by default a free one."""
    timeout: float = Field(120.0, gt=0)
    """Seconds in which all nodes must be there."""


class StatusConfig(Config):
    """Shows the nodes of a cluster, what is free on them, and the jobs that run: by default of the cluster on this machine."""


class DownConfig(Config):
    """Ends the cluster that `melray cluster up` started, and all that runs on it; its logs go with it."""


def command(common: Common, arguments: list[str]) -> int:
    """`melray cluster up|status|down`.

    Raises:
        UserError: one runs already, or can't be started, reached or ended.
    """
    actions = {
        "up": Action(UpConfig, up),
        "status": Action(StatusConfig, status),
        "down": Action(DownConfig, down),
    }
    return run_action("cluster", actions, common, arguments)


def up(config: UpConfig, common: Common) -> int:
    """Starts the nodes and waits for them: all are there at the end, or none."""
    begin = time.monotonic()
    cpus = common.cpus or max(1, (os.cpu_count() or 1) // config.nodes)
    with _exclusive_lock():
        if (there := local_cluster()) is not None:
            if there.runs:
                found = f"a cluster of {len(there.nodes)} nodes runs here already, its dashboard at {there.dashboard}"
                raise UserError(f"{found}; use it, or end it with `melray cluster down`")
            tear_down(there)
        try:
            cluster = start_nodes(
                config.nodes, cpus, config.port, config.dashboard_port, time.monotonic() + config.timeout
            )
        except BaseException:
            if (half := local_cluster()) is not None:
                tear_down(half)
            raise
    print(f"{config.nodes} nodes with {cpus} CPUs each, up in {duration(time.monotonic() - begin)}")
    print(f"dashboard: {cluster.dashboard}, open to who has the token in {cluster.token}")
    print("to use it: melray submit -- COMMAND …, or melray COMMAND … --address auto", flush=True)
    return 0


def status(config: StatusConfig, common: Common) -> int:
    """Prints nodes, free resources and running jobs."""
    server = job_server(common.address)
    nodes = read_nodes(server)
    print(f"{server.url}: {sum(node.alive for node in nodes)} nodes, {describe_node(*sums(nodes))}")
    for node in nodes:
        role = "head" if node.head else "worker"
        print(
            f"  {role:<6}  {node.address:<15}  {describe_node(node.total, node.used) if node.alive else 'dead'}"
        )
    jobs = get_json(server, "/api/jobs/")
    running = [job["submission_id"] for job in jobs if job["status"] == "RUNNING" and job["submission_id"]]
    print(f"running jobs: {', '.join(running) or 'none'}")
    return 0


def down(config: DownConfig, common: Common) -> int:
    """Ends the cluster, and says how much that was."""
    begin = time.monotonic()
    with _exclusive_lock():
        cluster = local_cluster()
        if cluster is None:
            print("no cluster of `melray cluster up` is here")
            return 0
        count = tear_down(cluster)
    print(
        f"ended {len(cluster.nodes)} nodes with {count} processes in {duration(time.monotonic() - begin)}; nothing of them is left"
    )
    return 0


def tear_down(cluster: LocalCluster) -> int:
    """Ends the processes of a cluster and removes what it left on the disk; returns how many processes there were.

    Raises:
        UserError: some can't be ended.
    """
    count = terminate_cluster(cluster)
    shutil.rmtree(cluster.folder, ignore_errors=True)
    cluster.token.unlink(missing_ok=True)
    clear_state()
    return count


@contextmanager
def _exclusive_lock() -> Iterator[None]:
    """Two commands that start or end nodes at once would lose sight of each other's."""
    try:
        with FileLock(state_dir() / "cluster.lock", timeout=0):
            yield
    except Timeout:
        raise UserError("another `melray cluster` command is at work; wait for its end") from None
