"""Resources of a Ray cluster: available and requested CPUs and GPUs, and waiting for autoscaled nodes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field

from models.config import Config
from pipeline.io.console import HEARTBEAT_S, duration, logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural


class AutoscalingConfig(Config):
    """Settings for clusters whose autoscaler adds nodes."""

    wait_for_nodes: float = Field(0.0, ge=0)
    """Minutes to wait for the autoscaler to provide missing resources; 0 fails immediately."""


@dataclass(frozen=True)
class NodeResources:
    """CPUs and GPUs of a node, in use or not."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class ResourceRequest:
    """Minimum resources of a job: a number of workers, each on a single node."""

    workers: int
    cpus: float
    """CPUs per worker."""
    gpus: float = 0.0
    """GPUs per worker."""

    @property
    def each(self) -> str:
        """Resources of one worker as text, such as `2 CPUs and 1 GPU`."""
        return _format_resources(self.cpus, self.gpus)

    @property
    def bundle(self) -> dict[str, float]:
        """Resources of one worker as a bundle of a Ray placement group."""
        return {name: count for name, count in (("CPU", self.cpus), ("GPU", self.gpus)) if count}


def cluster_nodes() -> list[NodeResources]:
    """Return the nodes that are alive."""
    import ray

    return [
        NodeResources(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def max_workers(need: ResourceRequest, nodes: Sequence[NodeResources]) -> int:
    """Return the number of workers that fit on the nodes if nothing else runs there."""
    return sum(_workers_on(node, need) for node in nodes)


def _workers_on(node: NodeResources, need: ResourceRequest) -> int:
    # Rounded, because tenths of a GPU do not add up exactly.
    limits = [
        int(available / per_worker + 1e-9)
        for available, per_worker in ((node.cpus, need.cpus), (node.gpus, need.gpus))
        if per_worker
    ]
    return min(limits, default=0)


def max_cpus_per_worker(need: ResourceRequest, nodes: Sequence[NodeResources]) -> int:
    """Return the largest number of CPUs per worker with which all workers of `need` fit; at least 1."""
    largest_node = int(max((node.cpus for node in nodes), default=1))
    return next(
        (
            cpus
            for cpus in range(largest_node, 1, -1)
            if max_workers(replace(need, cpus=cpus), nodes) >= need.workers
        ),
        1,
    )


def wait_for_resources(need: ResourceRequest, minutes: float, hint: str) -> list[NodeResources]:
    """Return the nodes of the cluster once `need` fits on them; request missing nodes from the autoscaler.

    Args:
        need: resources without which the work cannot start.
        minutes: time to wait for missing resources; 0 does not wait.
        hint: how to request fewer resources, such as "lower --workers".

    Raises:
        UserError: the resources are missing, now or after `minutes`.
    """
    nodes = cluster_nodes()
    if max_workers(need, nodes) < need.workers and minutes:
        nodes = _request_nodes(need, minutes)
    if max_workers(need, nodes) < need.workers:
        raise UserError(describe_shortage(need, nodes, minutes, hint))
    _report_busy_resources(need)
    return nodes


def _report_busy_resources(need: ResourceRequest) -> None:
    """Log that resources are in use by other jobs: Ray itself waits for them without a message."""
    if _busy_resources(need):
        # Resources of work that has just ended may not be counted as available yet.
        time.sleep(1)
        if busy := _busy_resources(need):
            logger.info("waiting: %s are in use by other jobs", busy)


def _busy_resources(need: ResourceRequest) -> str:
    """Return which resources are in use so that `need` must wait, such as `2 of 2 CPUs`; empty if none."""
    import ray

    available, total = ray.available_resources(), ray.cluster_resources()
    short = [
        name
        for name, per_worker in need.bundle.items()
        if available.get(name, 0) < need.workers * per_worker - 1e-9
    ]
    counts = [(total.get(name, 0.0) - available.get(name, 0.0), total.get(name, 0.0), name) for name in short]
    return " and ".join(f"{used:g} of {plural(count, name)}" for used, count, name in counts)


def describe_shortage(
    need: ResourceRequest, nodes: Sequence[NodeResources], minutes: float, hint: str
) -> str:
    """Return the message of a resource shortage: requested and available resources, and the fix."""
    request = f"{plural(need.workers, 'worker')} with {need.each}{' each' if need.workers > 1 else ''}"
    sizes = [_format_resources(node.cpus, node.gpus) for node in nodes if node.cpus or node.gpus]
    available = ", ".join(sizes[:4]) + (", …" if len(sizes) > 4 else "") or "no nodes"
    fitting = max_workers(need, nodes)
    waited = f" after {duration(60 * minutes)}" if minutes else ""
    flag = "a larger --wait-for-nodes" if minutes else "--wait-for-nodes 10"
    return (
        f"needs {request}, but only {fitting} {'fits' if fitting == 1 else 'fit'}{waited} ({available}): "
        f"{hint}, add nodes, or wait for autoscaling with {flag}"
    )


def _format_resources(cpus: float, gpus: float) -> str:
    return " and ".join(plural(count, name) for count, name in ((cpus, "CPU"), (gpus, "GPU")) if count)


def _request_nodes(need: ResourceRequest, minutes: float) -> list[NodeResources]:
    """Request `need` from the autoscaler; return the nodes once it fits or after the timeout.

    The request is a placement group, so it ends with this process.
    """
    import ray

    start = last_report = time.monotonic()
    logger.info(
        "waiting up to %s for %d × %s (%d available)",
        duration(60 * minutes),
        need.workers,
        need.each,
        max_workers(need, cluster_nodes()),
    )
    group: Any = ray.util.placement_group([need.bundle] * need.workers, strategy="PACK")
    try:
        while True:
            nodes = cluster_nodes()
            fitting = max_workers(need, nodes)
            now = time.monotonic()
            if fitting >= need.workers:
                logger.info("resources available after %s", duration(now - start))
                return nodes
            if now - start > 60 * minutes:
                return nodes
            if now - last_report > HEARTBEAT_S:
                last_report = now
                logger.info(
                    "waiting for nodes: %d of %d workers fit after %s",
                    fitting,
                    need.workers,
                    duration(now - start),
                )
            time.sleep(min(1.0, 6 * minutes))
    finally:
        ray.util.remove_placement_group(group)
