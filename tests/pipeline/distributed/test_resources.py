"""What fits on a cluster, and what is said of what doesn't."""

from __future__ import annotations

import pytest

from pipeline.distributed.resources import Need, Node, missing, most_cpus, places


@pytest.mark.parametrize(
    "need, nodes, room",
    [
        (Need(1, 1), [Node(2, 0), Node(3, 0)], 5),
        (Need(1, 2), [Node(2, 0), Node(3, 0)], 2),  # 5 CPUs, but the last one alone
        (Need(1, 1, 1), [Node(8, 2), Node(8, 0)], 2),
        (Need(1, 1, 0.1), [Node(100, 1)], 10),  # tenths are counted without their rounding
        (Need(1, 0, 1), [Node(0, 4)], 4),
        (Need(1, 1), [Node(0, 4)], 0),
        (Need(1, 1), [], 0),
    ],
)
def test_a_worker_lies_on_one_machine(need: Need, nodes: list[Node], room: int) -> None:
    assert places(need, nodes) == room


@pytest.mark.parametrize(
    "need, nodes, cpus",
    [
        (Need(1, 1), [Node(2, 0), Node(8, 0)], 8),
        (Need(2, 1), [Node(8, 0)], 4),
        (Need(2, 1), [Node(8, 0), Node(8, 0)], 8),
        (Need(3, 1), [Node(5, 0), Node(1, 0)], 1),
        (Need(2, 1, 1), [Node(96, 0), Node(8, 2)], 4),  # those of the machine with the GPUs
        (Need(4, 1), [Node(2, 0)], 1),  # no room at all: one, and others say so
    ],
)
def test_workers_get_as_many_cpus_as_leave_each_a_place(need: Need, nodes: list[Node], cpus: int) -> None:
    assert most_cpus(need, nodes) == cpus


@pytest.mark.parametrize(
    "need, nodes, fault",
    [
        (Need(1, 4), [Node(2, 0)], "needs 1 worker with 4 CPUs; the cluster has room for 0 (2 CPUs): "),
        (Need(3, 1), [Node(2, 0)], "needs 3 workers with 1 CPU each; the cluster has room for 2 (2 CPUs): "),
        (Need(1, 1, 1), [Node(2, 0)], "1 CPU and 1 GPU; the cluster has room for 0 (2 CPUs)"),
        (Need(1, 3), [Node(2, 0)] * 5, "room for 0 (2 CPUs, 2 CPUs, 2 CPUs, 2 CPUs, …)"),
        (Need(1, 0, 2), [Node(4, 1)], "1 worker with 2 GPUs; "),
        (Need(1, 1), [], "(no machine)"),
        (Need(1, 1), [Node(0, 0)], "(no machine)"),
        (Need(2, 1), [Node(1, 0.5), Node(0, 0)], "room for 1 (1 CPU and 0.5 GPU)"),
    ],
)
def test_what_has_no_room_says_what_is_missing(need: Need, nodes: list[Node], fault: str) -> None:
    text = missing(need, nodes, 0, "lower --workers")
    assert fault in text and text.endswith("lower --workers, or add machines (--wait-for-machines 10 asks a cluster that can grow)")
    assert "after 5 min 0 s" in missing(need, nodes, 5, "lower --workers") and "raise --wait" in missing(need, nodes, 5, "")
