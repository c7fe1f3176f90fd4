"""Number of workers that fit on the nodes of a cluster, and the message if too few do."""

from __future__ import annotations

import pytest

from pipeline.distributed.resources import (
    NodeResources,
    ResourceRequest,
    describe_shortage,
    is_met,
    max_cpus_per_worker,
    max_workers,
)


@pytest.mark.parametrize(
    ("need", "nodes", "workers"),
    [
        (ResourceRequest(1, 1), [NodeResources(2, 0), NodeResources(3, 0)], 5),
        # Five CPUs in all, but the last one of the larger node is left over.
        (ResourceRequest(1, 2), [NodeResources(2, 0), NodeResources(3, 0)], 2),
        (ResourceRequest(1, 1, 1), [NodeResources(8, 2), NodeResources(8, 0)], 2),
        # Tenths do not add up exactly in binary.
        (ResourceRequest(1, 1, 0.1), [NodeResources(100, 1)], 10),
        (ResourceRequest(1, 0, 1), [NodeResources(0, 4)], 4),
        (ResourceRequest(1, 1), [NodeResources(0, 4)], 0),
        (ResourceRequest(1, 1), [], 0),
    ],
)
def test_worker_fits_on_a_single_node(need: ResourceRequest, nodes: list[NodeResources], workers: int):
    assert max_workers(need, nodes) == workers


@pytest.mark.parametrize(
    ("nodes", "spread", "met"),
    [
        ([NodeResources(4, 0)], False, True),
        ([NodeResources(4, 0)], True, False),
        ([NodeResources(4, 0), NodeResources(0, 0)], True, False),
        ([NodeResources(4, 0), NodeResources(1, 0)], True, True),
    ],
)
def test_spread_workers_need_a_node_each(nodes: list[NodeResources], spread: bool, met: bool):
    assert is_met(ResourceRequest(2, 1, spread=spread), nodes) == met


@pytest.mark.parametrize(
    ("need", "nodes", "cpus"),
    [
        (ResourceRequest(1, 1), [NodeResources(2, 0), NodeResources(8, 0)], 8),
        (ResourceRequest(2, 1), [NodeResources(8, 0)], 4),
        (ResourceRequest(2, 1), [NodeResources(8, 0), NodeResources(8, 0)], 8),
        (ResourceRequest(3, 1), [NodeResources(5, 0), NodeResources(1, 0)], 1),
        # Only the node with GPUs counts.
        (ResourceRequest(2, 1, 1), [NodeResources(96, 0), NodeResources(8, 2)], 4),
        # Nothing fits: one CPU, and `wait_for_resources` raises the error.
        (ResourceRequest(4, 1), [NodeResources(2, 0)], 1),
    ],
)
def test_max_cpus_per_worker_lets_all_workers_fit(
    need: ResourceRequest, nodes: list[NodeResources], cpus: int
):
    assert max_cpus_per_worker(need, nodes) == cpus


@pytest.mark.parametrize(
    ("need", "nodes", "message"),
    [
        (
            ResourceRequest(1, 4),
            [NodeResources(2, 0)],
            "needs 1 worker with 4 CPUs, but only 0 fit (2 CPUs): ",
        ),
        (
            ResourceRequest(3, 1),
            [NodeResources(2, 0)],
            "needs 3 workers with 1 CPU each, but only 2 fit (2 CPUs): ",
        ),
        (ResourceRequest(1, 1, 1), [NodeResources(2, 0)], "1 CPU and 1 GPU, but only 0 fit (2 CPUs)"),
        (ResourceRequest(1, 3), [NodeResources(2, 0)] * 5, "only 0 fit (2 CPUs, 2 CPUs, 2 CPUs, 2 CPUs, …)"),
        (ResourceRequest(1, 0, 2), [NodeResources(4, 1)], "1 worker with 2 GPUs, "),
        (ResourceRequest(1, 1), [], "(no nodes)"),
        (ResourceRequest(1, 1), [NodeResources(0, 0)], "(no nodes)"),
        (
            ResourceRequest(2, 1),
            [NodeResources(1, 0.5), NodeResources(0, 0)],
            "only 1 fits (1 CPU and 0.5 GPU)",
        ),
    ],
)
def test_shortage_message_states_request_and_available_nodes(
    need: ResourceRequest, nodes: list[NodeResources], message: str
):
    text = describe_shortage(need, nodes, 0, "lower --workers")
    assert message in text
    assert text.endswith(": lower --workers, add nodes, or wait for autoscaling with --wait-for-nodes 10")


def test_shortage_message_states_time_waited():
    text = describe_shortage(ResourceRequest(2, 1), [NodeResources(1, 0)], 5, "lower --workers")
    assert "only 1 fits after 5 min 0 s (1 CPU)" in text
    assert text.endswith("wait for autoscaling with a larger --wait-for-nodes")
