"""How many trials run at once, and with what: told before the first one starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import UserError
from tune.search_config import SearchConfig


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster has."""

    cpus: float
    gpus: float


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
        each = f"{self.cpus} CPU{'s' if self.cpus > 1 else ''}" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        workers = f"{self.workers} workers, {each} each" if self.workers > 1 else each
        free = f"{self.free_cpus:g} CPUs" + (f" and {self.free_gpus:g} GPUs" if self.gpus or self.free_gpus else "")
        return f"{self.at_once} trial{'s' if self.at_once > 1 else ''} at once with {workers}; {free} stay free"


def make_plan(config: SearchConfig, nodes: Sequence[Node], left: int) -> Plan:
    """Divides the machines among trials.

    Args:
        config: of the search.
        nodes: the machines that are alive.
        left: trials that are still to run.

    Raises:
        UserError: when there is no room for a single trial, with what is missing.
    """
    workers, gpus = config.workers_per_trial, config.gpus_per_worker
    cpus = config.cpus_per_worker or _even_part(config, nodes, left)
    room = sum(_fits(node, cpus, gpus) for node in nodes)
    if room < workers:
        raise UserError(_missing(config, nodes, cpus, gpus, room))
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


def _even_part(config: SearchConfig, nodes: Sequence[Node], left: int) -> int:
    """CPUs of a worker, so that as many trials as are wanted and fit share all there are."""
    total = sum(node.cpus for node in nodes)
    at_once = min(_wanted(config, left), max(1, int(total) // config.workers_per_trial))
    if config.gpus_per_trial:
        at_once = min(at_once, max(1, int(sum(node.gpus for node in nodes) / config.gpus_per_trial + 1e-9)))
    even = int(total) // (at_once * config.workers_per_trial)
    return max(1, min(even, int(max((node.cpus for node in nodes), default=1))))


def _fits(node: Node, cpus: int, gpus: float) -> int:
    """Workers that a machine has room for."""
    by_gpu = int(node.gpus / gpus + 1e-9) if gpus else 10**9
    return min(int(node.cpus // cpus), by_gpu)


def _missing(config: SearchConfig, nodes: Sequence[Node], cpus: int, gpus: float, room: int) -> str:
    workers = config.workers_per_trial
    each = f"{cpus} CPU{'s' if cpus > 1 else ''}" + (f" and {gpus:g} GPU" if gpus else "")
    have = ", ".join(f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in nodes[:4]) or "no machine"
    what = f"{workers} workers with {each} each" if workers > 1 else each
    found = f"the cluster has room for {room} of its workers" if workers > 1 else "no machine of the cluster has that"
    flags = "--gpus-per-trial or --cpus-per-worker" if gpus else "--cpus-per-worker"
    return f"a trial needs {what}; {found} ({have}{', …' if len(nodes) > 4 else ''}): lower --workers-per-trial or {flags}, or add machines"
