"""How many trials run at once, and with what: told before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.distributed.resources import NodeResources, ResourceRequest, max_cpus_per_worker, max_workers
from tune.config import SearchConfig


@dataclass(frozen=True)
class Plan:
    """What a search takes of the cluster."""

    at_once: int
    """Trials."""
    workers: int
    """Of each trial."""
    cpus: int
    """Of each worker."""
    gpus: float
    """Of each worker."""
    free_cpus: float
    free_gpus: float

    def __str__(self) -> str:
        each = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}" + (
            f" and {self.gpus:g} GPU" if self.gpus else ""
        )
        workers = f"{self.workers} workers, {each} each" if self.workers > 1 else each
        free = f"{self.free_cpus:g} CPUs" + (
            f" and {self.free_gpus:g} GPUs" if self.gpus or self.free_gpus else ""
        )
        return (
            f"{self.at_once} trial{'s' if self.at_once > 1 else ''} at once with {workers}; {free} stay free"
        )


def plan_trials(config: SearchConfig, nodes: Sequence[NodeResources], left: int) -> Plan:
    """Divides the machines among trials.

    Args:
        config: of the search.
        nodes: the machines that are alive, with room for a trial at least.
        left: trials that are still to run.
    """
    workers, gpus = config.workers_per_trial, config.gpus_per_worker
    cpus = config.cpus_per_worker or _even_part(config, nodes, left)
    room = max_workers(ResourceRequest(workers, cpus, gpus), nodes)
    at_once = max(1, min(room // workers, _wanted(config, left)))
    return Plan(
        at_once,
        workers,
        cpus,
        gpus,
        sum(node.cpus for node in nodes) - at_once * workers * cpus,
        round(sum(node.gpus for node in nodes) - at_once * workers * gpus, 6),
    )


def _wanted(config: SearchConfig, left: int) -> int:
    """Trials that should run together: those that start together can't learn from each other, so a quarter of them, no more."""
    if config.max_concurrent:
        return config.max_concurrent
    return max(1, left if config.changes_values else -(-left // 4))


def _even_part(config: SearchConfig, nodes: Sequence[NodeResources], left: int) -> int:
    """CPUs of a worker, so that as many trials as are wanted and fit share all there are."""
    at_once = max(1, min(_wanted(config, left), max_workers(config.need, nodes) // config.workers_per_trial))
    return max_cpus_per_worker(replace(config.need, workers=at_once * config.workers_per_trial), nodes)
