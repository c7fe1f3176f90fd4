"""Plan of a search: the number of concurrent trials and the resources of each.

The resources of a trial are chosen once, as results depend on the number of threads. The number of concurrent
trials follows the cluster, whose autoscaler may add nodes, or which may lose some.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.distributed.resources import (
    NodeResources,
    ResourceRequest,
    cluster_nodes,
    max_cpus_per_worker,
    max_workers,
)
from pipeline.io.text import plural
from tune.config import SearchConfig

# Interval at which the size of the cluster is read; the number of trials is requested far more often.
REFRESH_S = 1.0


@dataclass(frozen=True)
class Plan:
    """Concurrency and resources per trial."""

    concurrent_trials: int
    """Number of trials that fit on the nodes present at the start."""
    max_concurrent: int
    """Maximum on a cluster that grows."""
    workers: int
    """Per trial."""
    cpus: int
    """Per worker."""
    gpus: float
    """Per worker."""
    idle_cpus: float
    idle_gpus: float
    unused_cpus: int = 0
    """Per worker, reserved so that of a population (PBT, PB2) no more trials run than --max-concurrent."""

    @property
    def trial(self) -> ResourceRequest:
        """Resources that one trial reserves."""
        return ResourceRequest(self.workers, self.cpus + self.unused_cpus, self.gpus)

    def __str__(self) -> str:
        count = self.concurrent_trials
        resources = plural(self.cpus, "CPU")
        resources += f" and {plural(self.gpus, 'GPU')}" if self.gpus else ""
        idle = plural(self.idle_cpus, "CPU")
        idle += f" and {plural(self.idle_gpus, 'GPU')}" if self.gpus or self.idle_gpus else ""
        if self.workers > 1:
            resources = f"{self.workers} workers with {resources} each"
        each = " each" if self.workers == 1 and count > 1 else ""
        trials = f"{count} trials concurrently" if count > 1 else "1 trial at a time"
        return f"{trials} ({resources}{each}; {idle} idle)"


def plan_trials(config: SearchConfig, nodes: Sequence[NodeResources], remaining: int) -> Plan:
    """Divide the resources of a cluster among trials.

    Args:
        config: settings of the search, with a chosen number of GPUs.
        nodes: resources of the nodes that are alive, enough for at least one trial.
        remaining: number of trials still to run.
    """
    workers, gpus = config.workers_per_trial, config.min_resources.gpus
    cpus = config.cpus_per_worker or _equal_share(config, nodes, remaining)
    capacity = max_workers(ResourceRequest(workers, cpus, gpus), nodes) // workers
    limit = _max_concurrent(config, remaining)
    trials = max(1, min(capacity, limit))
    unused_cpus = 0
    if config.mutates_params and trials < min(capacity, remaining):
        request = ResourceRequest(trials * workers, cpus, gpus)
        unused_cpus = max_cpus_per_worker(request, nodes) - cpus
        reserved = ResourceRequest(workers, cpus + unused_cpus, gpus)
        # More than the limit on nodes that hold one trial each: nothing else limits them.
        trials = min(max_workers(reserved, nodes) // workers, remaining)
    return Plan(
        trials,
        limit,
        workers,
        cpus,
        gpus,
        sum(node.cpus for node in nodes) - trials * workers * cpus,
        round(sum(node.gpus for node in nodes) - trials * workers * gpus, 6),
        unused_cpus,
    )


def _max_concurrent(config: SearchConfig, remaining: int) -> int:
    """Return the maximum number of concurrent trials.

    By default a quarter of the remaining ones: suggestions for trials that start together cannot use each
    other's scores. All trials of a population (PBT, PB2) run concurrently, or take turns.
    """
    if config.max_concurrent:
        return min(config.max_concurrent, remaining)
    return max(1, remaining if config.mutates_params else -(-remaining // 4))


def _equal_share(config: SearchConfig, nodes: Sequence[NodeResources], remaining: int) -> int:
    """Return the CPUs per worker with which the concurrent trials use as much of the cluster as possible."""
    capacity = max_workers(config.min_resources, nodes) // config.workers_per_trial
    trials = max(1, min(_max_concurrent(config, remaining), capacity))
    return max_cpus_per_worker(
        replace(config.min_resources, workers=trials * config.workers_per_trial), nodes
    )


class ConcurrencyLimit:
    """Number of trials that may run or wait for resources at the moment.

    While nodes may be added, more trials than fit wait, so that the autoscaler adds nodes for them. Otherwise
    none waits: the later the values of a trial are suggested, the more scores they are based on.
    """

    def __init__(self, plan: Plan, wait_for_nodes: float):
        """Limit the trials of a plan; `wait_for_nodes` is the time in minutes to wait for another node."""
        self._plan, self._wait_s = plan, 60 * wait_for_nodes
        self._capacity, self._last_change = plan.concurrent_trials, time.monotonic()
        self._next_refresh = 0.0

    def __call__(self) -> int:
        """Return the number, at least 1."""
        now = time.monotonic()
        if now >= self._next_refresh:
            self._next_refresh = now + REFRESH_S
            trial = self._plan.trial
            capacity = max_workers(trial, cluster_nodes()) // trial.workers
            if capacity != self._capacity:
                self._capacity, self._last_change = capacity, now
        limit = self._plan.max_concurrent
        return limit if now - self._last_change < self._wait_s else max(1, min(self._capacity, limit))
