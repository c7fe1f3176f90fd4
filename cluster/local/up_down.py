"""`melray cluster`: `up` starts a local multi-node cluster, `status` shows its nodes, `down` stops it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from pydantic import Field

from cluster.arguments.common_flags import CommonFlags
from cluster.connection.address import job_server
from cluster.connection.dashboard import get_json
from cluster.connection.local_state import (
    LocalCluster,
    clear_state,
    cluster_name,
    local_cluster,
    state_dir,
)
from cluster.connection.nodes import describe_node, read_nodes, sum_resources
from cluster.local.processes import terminate_cluster
from cluster.local.start import start_nodes
from models.config import Config
from pipeline.distributed.this_host import host_cpus
from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural


class UpConfig(Config):
    """Start a cluster on this host: nodes with --cpus CPUs each, reachable from this host only, with a token.

    Without --cpus, the nodes share the CPUs of the host equally.
    """

    nodes: int = Field(2, ge=1, le=64)
    """Number of nodes including the head."""
    port: int | None = Field(None, ge=1024, le=65535)
    """GCS port (default: a free one)."""
    dashboard_port: int | None = Field(None, ge=1024, le=65535)
    """Port of the dashboard, which accepts jobs (default: a free one)."""
    timeout: float = Field(120.0, gt=0)
    """Startup timeout in seconds."""


class StatusConfig(Config):
    """Show nodes, free resources and running jobs of a cluster (default: the local one)."""


class DownConfig(Config):
    """Stop the local cluster and everything that runs on it, and delete its logs."""


def up(config: UpConfig, common: CommonFlags) -> int:
    """Start the nodes and wait until all are up; on an error stop those already started.

    Raises:
        UserError: a local cluster is already running, or a node fails to start.
    """
    start = time.monotonic()
    cpus = common.cpus or max(1, host_cpus() // config.nodes)
    with _exclusive_lock():
        if (previous := local_cluster()) is not None:
            if previous.is_running:
                raise UserError(
                    f"a {previous.nodes}-node cluster is already running, "
                    f"dashboard at {previous.dashboard}; use it or stop it with `melray cluster down`"
                )
            tear_down(previous)
        try:
            deadline = time.monotonic() + config.timeout
            cluster = start_nodes(config.nodes, cpus, config.port, config.dashboard_port, deadline)
        except BaseException:
            if (incomplete := local_cluster()) is not None:
                tear_down(incomplete)
            raise
    logger.info(
        "%s with %s%s, up in %s",
        plural(config.nodes, "node"),
        plural(cpus, "CPU"),
        " each" if config.nodes > 1 else "",
        duration(time.monotonic() - start),
    )
    print(f"dashboard:  {cluster.dashboard}")
    print(f"token file: {cluster.token}")
    print("usage:      melray submit -- COMMAND …, or melray COMMAND … --address auto", flush=True)
    return 0


def status(config: StatusConfig, common: CommonFlags) -> int:
    """Print nodes, free resources and running jobs."""
    server = job_server(common.address)
    nodes = read_nodes(server)
    count = plural(sum(node.alive for node in nodes), "node")
    print(f"{server.url}: {count}, {describe_node(*sum_resources(nodes))}")
    for node in nodes:
        role = "head" if node.head else "worker"
        state = describe_node(node.total, node.used) if node.alive else "dead"
        print(f"  {role:<6}  {node.address:<15}  {state}")
    jobs = get_json(server, "/api/jobs/")
    running = [job["submission_id"] for job in jobs if job["status"] == "RUNNING" and job["submission_id"]]
    print(f"running jobs: {', '.join(running) or 'none'}")
    return 0


def down(config: DownConfig, common: CommonFlags) -> int:
    """Stop the cluster and log how many nodes and processes that were."""
    start = time.monotonic()
    with _exclusive_lock():
        cluster = local_cluster()
        if cluster is None:
            logger.info("no local cluster is running")
            return 0
        count = tear_down(cluster)
    elapsed = duration(time.monotonic() - start)
    nodes, processes = plural(cluster.nodes, "node"), plural(count, "process")
    logger.info("stopped %s (%s) in %s", nodes, processes, elapsed)
    return 0


def tear_down(cluster: LocalCluster) -> int:
    """Stop the processes of a cluster and delete its files; return the number of processes.

    Raises:
        UserError: some processes cannot be stopped.
    """
    count = terminate_cluster(cluster)
    shutil.rmtree(cluster.folder, ignore_errors=True)
    cluster.token.unlink(missing_ok=True)
    clear_state()
    return count


@contextmanager
def _exclusive_lock() -> Iterator[None]:
    """Prevent concurrent commands from starting or stopping nodes: they would overwrite the state file."""
    try:
        with FileLock(state_dir() / f"{cluster_name()}.lock", timeout=0):
            yield
    except Timeout:
        raise UserError("another `melray cluster` command is running; wait for it to end") from None
