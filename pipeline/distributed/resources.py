"""Room on a cluster: what its machines have, and machines that come when they are asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import Field, model_validator

from models.config import Config
from pipeline.io.console import HEARTBEAT_S, duration
from pipeline.io.errors import UserError


class AutoscalingConfig(Config):
    """What a command does when the cluster has too little for it."""

    wait_for_nodes: float = Field(0.0, ge=0)
    """Minutes to wait where the cluster has too little room: its autoscaler is asked for machines; 0 says at once what is missing."""


@dataclass(frozen=True)
class NodeResources:
    """What a machine of the cluster has."""

    cpus: float
    gpus: float


@dataclass(frozen=True)
class ResourceRequest:
    """What some work can't begin without: so many workers, each on one machine."""

    workers: int
    cpus: float
    """Of each worker."""
    gpus: float = 0.0
    """Of each worker."""

    @property
    def each(self) -> str:
        """What a worker needs, in words."""
        return _in_words(self.cpus, self.gpus)

    @property
    def bundle(self) -> dict[str, float]:
        """What a worker needs, for Ray."""
        return {name: value for name, value in (("CPU", self.cpus), ("GPU", self.gpus)) if value}


def cluster_nodes() -> list[NodeResources]:
    """The machines that are alive."""
    import ray

    return [
        NodeResources(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def max_workers(need: ResourceRequest, nodes: Sequence[NodeResources]) -> int:
    """Workers that the machines have room for, were nothing else there."""
    return sum(_workers_on(node, need) for node in nodes)


def _workers_on(node: NodeResources, need: ResourceRequest) -> int:
    of_each = [
        int(have / each + 1e-9) for have, each in ((node.cpus, need.cpus), (node.gpus, need.gpus)) if each
    ]
    return min(of_each, default=0)


def max_cpus_per_worker(need: ResourceRequest, nodes: Sequence[NodeResources]) -> int:
    """The most CPUs that each worker of `need` can have so that all have a place; 1 at least."""
    largest = int(max((node.cpus for node in nodes), default=1))
    return next(
        (
            cpus
            for cpus in range(largest, 1, -1)
            if max_workers(replace(need, cpus=cpus), nodes) >= need.workers
        ),
        1,
    )


def wait_for_resources(need: ResourceRequest, minutes: float, remedy: str) -> list[NodeResources]:
    """The machines of the cluster, which have room for `need`; asks for more and waits for them where they have not.

    Args:
        need: without which the work can't begin.
        minutes: to wait; 0 does not.
        remedy: the flags that would make the need smaller, such as "lower --workers".

    Raises:
        UserError: there is too little, now or when the time is up, with what is missing.
    """
    nodes = cluster_nodes()
    if max_workers(need, nodes) < need.workers and minutes:
        nodes = _wait(need, minutes)
    if max_workers(need, nodes) < need.workers:
        raise UserError(describe_shortage(need, nodes, minutes, remedy))
    _warn_if_busy(need)
    return nodes


def _warn_if_busy(need: ResourceRequest) -> None:
    """Says why nothing will happen for a while, where other work holds what this needs; Ray then waits in silence."""
    import ray

    def held() -> str:
        free, all_there = ray.available_resources(), ray.cluster_resources()
        short = [name for name, each in need.bundle.items() if free.get(name, 0) < need.workers * each - 1e-9]
        counts = [(all_there.get(name, 0.0), free.get(name, 0.0), name) for name in short]
        return " and ".join(f"{total - unused:g} of {total:g} {name}s" for total, unused, name in counts)

    if held():
        # What has just ended may not be counted as free yet.
        time.sleep(1)
        if words := held():
            print(
                f"other work holds {words} of the cluster: this begins when there is room",
                file=sys.stderr,
                flush=True,
            )


def describe_shortage(
    need: ResourceRequest, nodes: Sequence[NodeResources], minutes: float, remedy: str
) -> str:
    """What the machines lack for `need`, in words."""
    workers = f"{need.workers} worker{'' if need.workers == 1 else 's'} with {need.each}{'' if need.workers == 1 else ' each'}"
    machines = [_in_words(node.cpus, node.gpus) for node in nodes if node.cpus or node.gpus]
    have = ", ".join(machines[:4]) + (", …" if len(machines) > 4 else "")
    after = f" after {duration(60 * minutes)}" if minutes else ""
    grow = "raise --wait-for-nodes" if minutes else "--wait-for-nodes 10 asks a cluster that can grow"
    return f"needs {workers}; the cluster has room for {max_workers(need, nodes)}{after} ({have or 'no machine'}): {remedy}, or add machines ({grow})"


def _in_words(cpus: float, gpus: float) -> str:
    named = ((cpus, "CPU"), (gpus, "GPU"))
    return " and ".join(f"{count:g} {name}{'' if count <= 1 else 's'}" for count, name in named if count)


def _wait(need: ResourceRequest, minutes: float) -> list[NodeResources]:
    """Asks the autoscaler for `need` until it is there or the time is up; the machines of then.

    By a placement group: it asks for this command alone, and no longer than this command lives.
    """
    import ray

    began = said = time.monotonic()
    print(
        f"waiting up to {duration(60 * minutes)} for machines: {need.workers} x {need.each}, room for {max_workers(need, cluster_nodes())} so far",
        file=sys.stderr,
        flush=True,
    )
    group: Any = ray.util.placement_group([need.bundle] * need.workers, strategy="PACK")
    try:
        while True:
            nodes = cluster_nodes()
            room = max_workers(need, nodes)
            now = time.monotonic()
            if room >= need.workers:
                print(f"the machines are there after {duration(now - began)}", file=sys.stderr, flush=True)
                return nodes
            if now - began > 60 * minutes:
                return nodes
            if now - said > HEARTBEAT_S:
                said = now
                print(
                    f"waiting for machines: room for {room} of {need.workers}, {duration(now - began)}",
                    file=sys.stderr,
                    flush=True,
                )
            time.sleep(min(1.0, 6 * minutes))
    finally:
        ray.util.remove_placement_group(group)


class ResourceConfig(AutoscalingConfig):
    """What a training takes of the cluster; may differ when a run is continued."""

    workers: int = Field(1, ge=1)
    """Workers that share each batch (DDP)."""
    min_workers: int | None = Field(None, ge=1)
    """Go on with so few when machines are lost, and with all again when they are back; by default wait for all."""
    cpus_per_worker: int | None = Field(None, ge=1)
    """CPUs of each worker; by default its even part of a machine's."""
    gpus_per_worker: float = Field(0.0, ge=0)
    """GPUs of each worker; 0 trains on CPUs."""
    max_failures: int = Field(3, ge=0)
    """Lost workers after which the training is given up; each time before, it goes on from the last epoch."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps on a GPU."""

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(f"--min-workers {self.min_workers}: more than --workers {self.workers}")
        return self

    def need(self, cpus: int) -> ResourceRequest:
        """What the training can't begin without, with so many CPUs for each worker."""
        return ResourceRequest(self.min_workers or self.workers, cpus, self.gpus_per_worker)
