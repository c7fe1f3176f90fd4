"""How a search divides a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.distributed.resources import NodeResources
from tune.config import SearchConfig
from tune.plan import plan_trials


def plan(nodes: list[NodeResources], left: int = 30, **changes: object):
    return plan_trials(SearchConfig(shards=Path("s"), run=Path("r"), **changes), nodes, left)


@pytest.mark.parametrize(
    "nodes, changes, at_once, cpus, free",
    [
        ([NodeResources(2, 0)], {}, 2, 1, 0),
        ([NodeResources(64, 0)], {}, 8, 8, 0),  # a quarter of 30 trials, which share all CPUs
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
        ),  # 2 each would fit by the sum alone
    ],
)
def test_trials_share_what_there_is(
    nodes: list[NodeResources], changes: dict, at_once: int, cpus: int, free: float
) -> None:
    made = plan(nodes, **changes)
    assert (made.at_once, made.cpus, made.free_cpus) == (at_once, cpus, free)
    used = made.at_once * made.workers * made.cpus
    assert used <= sum(node.cpus for node in nodes)
    assert str(made).startswith(f"{at_once} trial")


def test_few_trials_do_not_all_run_at_once_for_they_could_not_learn_from_each_other() -> None:
    assert plan([NodeResources(64, 0)], left=8).at_once == 2
    assert (
        plan([NodeResources(64, 0)], left=8, scheduler="pbt", trials=8).at_once == 8
    )  # but a population does
