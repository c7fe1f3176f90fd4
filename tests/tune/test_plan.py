"""Concurrency and resources of trials."""

from __future__ import annotations

import pytest

from pipeline.distributed.resources import NodeResources
from tests.tune.searches import search_config
from tune.plan import ConcurrencyLimit, Plan, plan_trials


def plan(nodes: list[NodeResources], remaining: int = 30, **overrides: object) -> Plan:
    return plan_trials(search_config(**{"trials": 30} | overrides), nodes, remaining)


@pytest.mark.parametrize(
    "nodes, overrides, concurrent_trials, cpus, idle_cpus",
    [
        ([NodeResources(2, 0)], {}, 2, 1, 0),
        ([NodeResources(64, 0)], {}, 8, 8, 0),  # a quarter of 30 trials, which use all CPUs
        ([NodeResources(64, 0)], {"max_concurrent": 20}, 20, 3, 4),
        ([NodeResources(2, 0)], {"workers_per_trial": 2}, 1, 1, 0),
        ([NodeResources(4, 0), NodeResources(4, 0)], {"workers_per_trial": 2, "max_concurrent": 1}, 1, 4, 0),
        ([NodeResources(8, 0)], {"cpus_per_worker": 3}, 2, 3, 2),
        ([NodeResources(8, 2)], {"gpus_per_trial": 0.5}, 4, 2, 0),
        ([NodeResources(8, 1)], {"gpus_per_trial": 1}, 1, 8, 0),
        ([NodeResources(16, 4)], {"gpus_per_trial": 2, "workers_per_trial": 2}, 2, 4, 0),
        ([NodeResources(1, 0), NodeResources(1, 0), NodeResources(1, 0)], {}, 3, 1, 0),
        (
            [NodeResources(5, 0), NodeResources(1, 0)],
            {"workers_per_trial": 3, "max_concurrent": 1},
            1,
            1,
            3,
        ),  # 2 CPUs per worker would fit by the total, but not by node
    ],
)
def test_plan_divides_cluster_among_trials(
    nodes: list[NodeResources], overrides: dict, concurrent_trials: int, cpus: int, idle_cpus: float
) -> None:
    result = plan(nodes, **overrides)
    assert (result.concurrent_trials, result.cpus, result.idle_cpus) == (concurrent_trials, cpus, idle_cpus)
    used = result.concurrent_trials * result.workers * result.cpus
    assert used <= sum(node.cpus for node in nodes)


def test_plan_runs_at_most_a_quarter_concurrently() -> None:
    assert plan([NodeResources(64, 0)], remaining=8).concurrent_trials == 2


def test_plan_shares_cluster_among_remaining_trials() -> None:
    result = plan([NodeResources(8, 0)], remaining=2, max_concurrent=8)
    assert (result.concurrent_trials, result.cpus) == (2, 4)


def test_plan_runs_whole_population_concurrently() -> None:
    assert plan([NodeResources(64, 0)], remaining=8, scheduler="pbt", trials=8).concurrent_trials == 8


@pytest.mark.parametrize(
    "nodes, cpus_per_worker, concurrent_trials, reserved",
    [
        ([NodeResources(8, 0)], 1, 2, 4),
        ([NodeResources(9, 0)], 1, 2, 4),
        ([NodeResources(8, 0)], None, 2, 4),
        ([NodeResources(2, 0)] * 2, 2, 2, 2),
        ([NodeResources(2, 0)] * 3, 1, 3, 2),  # each holds one, and nothing else limits them
    ],
)
def test_trials_of_a_population_reserve_what_others_must_not_use(
    nodes: list[NodeResources], cpus_per_worker: int | None, concurrent_trials: int, reserved: int
) -> None:
    """Ray Tune starts those of a population whenever they fit."""
    settings = {"scheduler": "pbt", "trials": 8, "max_concurrent": 2, "cpus_per_worker": cpus_per_worker}
    result = plan(nodes, remaining=8, **settings)
    assert (result.concurrent_trials, result.trial.cpus) == (concurrent_trials, reserved)


@pytest.mark.parametrize(
    "result, text",
    [
        (Plan(2, 2, 1, 1, 0.0, 0, 0), "2 trials concurrently (1 CPU each; 0 CPUs idle)"),
        (Plan(1, 1, 1, 8, 1.0, 0, 1), "1 trial at a time (8 CPUs and 1 GPU; 0 CPUs and 1 GPU idle)"),
        (Plan(2, 2, 3, 2, 0.0, 4, 0), "2 trials concurrently (3 workers with 2 CPUs each; 4 CPUs idle)"),
    ],
)
def test_plan_is_described_in_one_line(result: Plan, text: str) -> None:
    assert str(result) == text


def test_limit_follows_the_nodes_of_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [NodeResources(1, 0)]
    monkeypatch.setattr("tune.plan.cluster_nodes", lambda: nodes)
    monkeypatch.setattr("tune.plan.REFRESH_S", 0.0)
    started = plan(nodes, max_concurrent=3)
    limit, waiting = ConcurrencyLimit(started, wait_for_nodes=0), ConcurrencyLimit(started, wait_for_nodes=5)
    limits = []
    for count in (1, 2, 4, 0):
        nodes[:] = [NodeResources(1, 0)] * count
        limits.append(limit())
    assert limits == [1, 2, 3, 1]
    assert waiting() == 3, "no trial waits, so that the autoscaler adds no node"


def test_no_trial_waits_if_no_node_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [NodeResources(1, 0)]
    monkeypatch.setattr("tune.plan.cluster_nodes", lambda: nodes)
    limit = ConcurrencyLimit(plan(nodes, max_concurrent=3), wait_for_nodes=1e-9)
    assert limit() == 1
