"""The nodes of a cluster and what they have to give, as its dashboard or a driver tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cluster.connection.address import JobServer
from cluster.connection.dashboard import get_json

# As Ray names them, once by each of its two ways of writing JSON.
_OBJECT_STORE = ("object_store_memory", "objectStoreMemory")


class Node(NamedTuple):
    """One machine of a cluster, or what plays one; amounts by `CPU`, `GPU`, `memory` and `object store`, memory in bytes."""

    address: str
    head: bool
    alive: bool
    total: dict[str, float]
    used: dict[str, float] | None
    """None where the cluster doesn't tell."""


def read_nodes(server: JobServer) -> list[Node]:
    """Asks the dashboard; the head comes first.

    Raises:
        UserError: as `ask`.
    """
    listed = get_json(server, "/api/v0/nodes?detail=1")["data"]["result"]["result"]
    status = get_json(server, "/api/cluster_status")["data"].get("clusterStatus") or {}
    usage = (status.get("loadMetricsReport") or {}).get("usageByNode") or {}
    return sort_nodes([parse_node(entry, usage.get(entry["node_id"])) for entry in listed])


def parse_node(entry: Mapping[str, Any], usage: Mapping[str, list[float]] | None) -> Node:
    """A node from what the dashboard says of it; `usage` holds used and total amounts."""
    used = None if usage is None else amounts({name: pair[0] for name, pair in usage.items()})
    return Node(
        entry["node_ip"],
        bool(entry["is_head_node"]),
        entry["state"] == "ALIVE",
        amounts(entry["resources_total"]),
        used,
    )


def joined_nodes() -> list[Node]:
    """The nodes of the cluster that this process has joined."""
    import ray

    free = ray._private.state.available_resources_per_node()
    nodes = []
    for entry in ray.nodes():
        total, left = amounts(entry["Resources"]), amounts(free.get(entry["NodeID"], {}))
        used = {name: total[name] - left.get(name, 0.0) for name in total}
        nodes.append(
            Node(
                entry["NodeManagerAddress"],
                "node:__internal_head__" in entry["Resources"],
                entry["Alive"],
                total,
                used,
            )
        )
    return sort_nodes(nodes)


def sort_nodes(nodes: list[Node]) -> list[Node]:
    """The head first, the dead last."""
    return sorted(nodes, key=lambda node: (not node.alive, not node.head, node.address))


def amounts(resources: Mapping[str, float]) -> dict[str, float]:
    """Those resources that all clusters have, under one name each."""
    found = {name: float(resources.get(name, 0.0)) for name in ("CPU", "GPU", "memory")}
    return found | {
        "object store": float(next((resources[name] for name in _OBJECT_STORE if name in resources), 0.0))
    }


def sums(nodes: list[Node]) -> tuple[dict[str, float], dict[str, float] | None]:
    """Total and used amounts of all living nodes."""
    alive = [node for node in nodes if node.alive]
    total = {name: sum(node.total[name] for node in alive) for name in amounts({})}
    if any(node.used is None for node in alive):
        return total, None
    return total, {name: sum((node.used or {}).get(name, 0.0) for node in alive) for name in total}


def describe_node(total: Mapping[str, float], used: Mapping[str, float] | None) -> str:
    """`2 of 4 CPUs free, 1 of 1 GPUs free, 9.8 of 10.2 GiB memory free, 4.0 of 4.0 GiB object store free`."""
    parts = []
    for name, words, size in (
        ("CPU", "CPUs", 1),
        ("GPU", "GPUs", 1),
        ("memory", "GiB memory", 2**30),
        ("object store", "GiB object store", 2**30),
    ):
        if not total.get(name):
            continue
        of = f"{total[name] / size:.1f}" if size > 1 else f"{total[name]:g}"
        left = None if used is None else (total[name] - used.get(name, 0.0)) / size
        parts.append(
            f"{of} {words}"
            if left is None
            else f"{left:.1f} of {of} {words} free"
            if size > 1
            else f"{left:g} of {of} {words} free"
        )
    return ", ".join(parts)
