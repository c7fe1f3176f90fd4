"""What fits on a cluster, and what is said of what doesn't."""

from __future__ import annotations

import pytest

from pipeline.distributed.resources import (
    NodeResources,
    ResourceRequest,
    describe_shortage,
    max_cpus_per_worker,
    max_workers,
)


@pytest.mark.parametrize(
    "need, nodes, room",
    [
        (ResourceRequest(1, 1), [NodeResources(2, 0), NodeResources(3, 0)], 5),
        (
            ResourceRequest(1, 2),
            [NodeResources(2, 0), NodeResources(3, 0)],
            2,
        ),  # 5 CPUs, but the last one alone
        (ResourceRequest(1, 1, 1), [NodeResources(8, 2), NodeResources(8, 0)], 2),
        (
            ResourceRequest(1, 1, 0.1),
            [NodeResources(100, 1)],
            10,
        ),  # tenths are counted without their rounding
        (ResourceRequest(1, 0, 1), [NodeResources(0, 4)], 4),
        (ResourceRequest(1, 1), [NodeResources(0, 4)], 0),
        (ResourceRequest(1, 1), [], 0),
    ],
)
def test_a_worker_lies_on_one_machine(need: ResourceRequest, nodes: list[NodeResources], room: int) -> None:
    assert max_workers(need, nodes) == room


@pytest.mark.parametrize(
    "need, nodes, cpus",
    [
        (ResourceRequest(1, 1), [NodeResources(2, 0), NodeResources(8, 0)], 8),
        (ResourceRequest(2, 1), [NodeResources(8, 0)], 4),
        (ResourceRequest(2, 1), [NodeResources(8, 0), NodeResources(8, 0)], 8),
        (ResourceRequest(3, 1), [NodeResources(5, 0), NodeResources(1, 0)], 1),
        (
            ResourceRequest(2, 1, 1),
            [NodeResources(96, 0), NodeResources(8, 2)],
            4,
        ),  # those of the machine with the GPUs
        (ResourceRequest(4, 1), [NodeResources(2, 0)], 1),  # no room at all: one, and others say so
    ],
)
def test_workers_get_as_many_cpus_as_leave_each_a_place(
    need: ResourceRequest, nodes: list[NodeResources], cpus: int
) -> None:
    assert max_cpus_per_worker(need, nodes) == cpus


@pytest.mark.parametrize(
    "need, nodes, fault",
    [
        (
            ResourceRequest(1, 4),
            [NodeResources(2, 0)],
            "needs 1 worker with 4 CPUs; the cluster has room for 0 (2 CPUs): ",
        ),
        (
            ResourceRequest(3, 1),
            [NodeResources(2, 0)],
            "needs 3 workers with 1 CPU each; the cluster has room for 2 (2 CPUs): ",
        ),
        (
            ResourceRequest(1, 1, 1),
            [NodeResources(2, 0)],
            "1 CPU and 1 GPU; the cluster has room for 0 (2 CPUs)",
        ),
        (ResourceRequest(1, 3), [NodeResources(2, 0)] * 5, "room for 0 (2 CPUs, 2 CPUs, 2 CPUs, 2 CPUs, …)"),
        (ResourceRequest(1, 0, 2), [NodeResources(4, 1)], "1 worker with 2 GPUs; "),
        (ResourceRequest(1, 1), [], "(no machine)"),
        (ResourceRequest(1, 1), [NodeResources(0, 0)], "(no machine)"),
        (
            ResourceRequest(2, 1),
            [NodeResources(1, 0.5), NodeResources(0, 0)],
            "room for 1 (1 CPU and 0.5 GPU)",
        ),
    ],
)
def test_what_has_no_room_says_what_is_missing(
    need: ResourceRequest, nodes: list[NodeResources], fault: str
) -> None:
    text = describe_shortage(need, nodes, 0, "lower --workers")
    assert fault in text and text.endswith(
        "lower --workers, or add machines (--wait-for-nodes 10 asks a cluster that can grow)"
    )
    assert "after 5 min 0 s" in describe_shortage(
        need, nodes, 5, "lower --workers"
    ) and "raise --wait" in describe_shortage(need, nodes, 5, "")
