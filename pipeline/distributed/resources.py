"""Resources of a Ray cluster: available and requested ones, and waiting for autoscaled nodes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field

from models.config import Config
from pipeline.distributed.execution import local_cpus, uses_ray
from pipeline.distributed.this_host import host_gpus, host_memory
from pipeline.distributed.worker_options import WorkerOptions
from pipeline.io.console import HEARTBEAT_S, duration, logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural


class AutoscalingConfig(Config):
    """Settings for clusters whose autoscaler adds nodes."""

    wait_for_nodes: float = Field(0.0, ge=0)
    """Minutes to wait for the autoscaler to provide missing resources; 0 fails immediately."""


@dataclass(frozen=True)
class NodeResources:
    """Resources of a node, in use or not."""

    cpus: float
    gpus: float
    others: Mapping[str, float] = field(default_factory=dict)
    """Amounts of memory, in bytes, custom resources and accelerator types by Ray's names."""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ResourceRequest:
    """Minimum resources of a job: a number of workers, each on a single node."""

    workers: int
    cpus: float
    """CPUs per worker."""
    gpus: float = 0.0
    """GPUs per worker."""
    spread: bool = False
    """Whether the autoscaler should provide a node for each worker; if it cannot, several share a node."""
    options: WorkerOptions = WorkerOptions()
    """What each worker needs beyond CPUs and GPUs."""

    @property
    def each(self) -> str:
        """Resources of one worker as text, such as `2 CPUs and 1 GPU`."""
        parts = (_format_resources(self.cpus, self.gpus), str(self.options))
        return " and ".join(filter(None, parts))

    @property
    def counts(self) -> dict[str, float]:
        """Numbers of CPUs and GPUs of one worker; only those that it needs."""
        return {name: count for name, count in (("CPU", self.cpus), ("GPU", self.gpus)) if count}

    @property
    def bundle(self) -> dict[str, float]:
        """Resources of one worker as a bundle of a Ray placement group."""
        return self.counts | self.options.amounts


def cluster_nodes() -> list[NodeResources]:
    """Return the nodes that are alive; without a Ray session, this host alone."""
    if not uses_ray():
        return [NodeResources(local_cpus(), host_gpus(), {"memory": host_memory()})]
    import ray

    return [node_resources(node) for node in ray.nodes() if node["Alive"]]


def node_resources(node: Mapping[str, Any]) -> NodeResources:
    """Return the resources of an entry of `ray.nodes()`."""
    amounts = node["Resources"]
    return NodeResources(amounts.get("CPU", 0.0), amounts.get("GPU", 0.0), amounts, node.get("Labels") or {})


def max_workers(need: ResourceRequest, nodes: Sequence[NodeResources]) -> int:
    """Return the number of workers that fit on the nodes if nothing else runs there."""
    return sum(_workers_on(node, need) for node in nodes)


def is_met(need: ResourceRequest, nodes: Sequence[NodeResources]) -> bool:
    """Return whether all workers fit on the nodes, each on another one if they are to be spread."""
    if need.spread:
        return sum(_workers_on(node, need) > 0 for node in nodes) >= need.workers
    return max_workers(need, nodes) >= need.workers


def _workers_on(node: NodeResources, need: ResourceRequest) -> int:
    if not need.options.suits(node.labels):
        return 0
    amounts = [(node.cpus, need.cpus), (node.gpus, need.gpus)]
    amounts += [(node.others.get(name, 0.0), amount) for name, amount in need.options.amounts.items()]
    # Rounded, because tenths of a GPU do not add up exactly.
    limits = [int(available / per_worker + 1e-9) for available, per_worker in amounts if per_worker]
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
    if minutes and uses_ray() and not is_met(need, nodes):
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
    if not uses_ray():
        return ""
    import ray

    available, total = ray.available_resources(), ray.cluster_resources()
    short = [
        name
        for name, per_worker in need.counts.items()
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
    strategy = "STRICT_SPREAD" if need.spread else "PACK"
    labels = [dict(need.options.labels)] * need.workers if need.options.labels else None
    group: Any = ray.util.placement_group(
        [need.bundle] * need.workers, strategy=strategy, bundle_label_selector=labels
    )
    try:
        while True:
            nodes = cluster_nodes()
            fitting = max_workers(need, nodes)
            now = time.monotonic()
            if is_met(need, nodes):
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
