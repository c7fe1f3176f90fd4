"""Nodes of a cluster with their resources, from the dashboard or from a connected driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cluster.connection.address import JobServer
from cluster.connection.dashboard import get_json
from pipeline.io.text import plural

# Ray lists 100 nodes by default, lost ones among them; this is the most that it allows.
MAX_NODES = 10_000
# Ray's two spellings, one in each of its JSON formats.
_OBJECT_STORE = ("object_store_memory", "objectStoreMemory")


class Node(NamedTuple):
    """A node and its resources by name: `CPU`, `GPU`, `memory` and `object store`, memory in bytes."""

    address: str
    head: bool
    alive: bool
    total: dict[str, float]
    used: dict[str, float] | None
    """None where the cluster does not report it."""


def read_nodes(server: JobServer) -> list[Node]:
    """Return the nodes that the dashboard lists, the head first.

    Raises:
        UserError: as `get_json`.
    """
    entries = get_json(server, f"/api/v0/nodes?detail=1&limit={MAX_NODES}")["data"]["result"]["result"]
    status = get_json(server, "/api/cluster_status")["data"].get("clusterStatus") or {}
    usage = (status.get("loadMetricsReport") or {}).get("usageByNode") or {}
    return sort_nodes([parse_node(entry, usage.get(entry["node_id"])) for entry in entries])


def parse_node(entry: Mapping[str, Any], usage: Mapping[str, list[float]] | None) -> Node:
    """Return a node from its entry in the dashboard; `usage` maps resources to used and total amounts."""
    used = None if usage is None else amounts({name: pair[0] for name, pair in usage.items()})
    return Node(
        entry["node_ip"],
        bool(entry["is_head_node"]),
        entry["state"] == "ALIVE",
        amounts(entry["resources_total"]),
        used,
    )


def joined_nodes() -> list[Node]:
    """Return the nodes of the cluster that this process is connected to."""
    import ray

    available_by_node = ray._private.state.available_resources_per_node()
    nodes = []
    for entry in ray.nodes():
        total = amounts(entry["Resources"])
        available = amounts(available_by_node.get(entry["NodeID"], {}))
        used = {name: total[name] - available.get(name, 0.0) for name in total}
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
    """Sort nodes: the head first, dead nodes last."""
    return sorted(nodes, key=lambda node: (not node.alive, not node.head, node.address))


def amounts(resources: Mapping[str, float]) -> dict[str, float]:
    """Return the amounts of the resources that every cluster has; 0 where one is absent."""
    values = {name: float(resources.get(name, 0.0)) for name in ("CPU", "GPU", "memory")}
    object_store = next((resources[name] for name in _OBJECT_STORE if name in resources), 0.0)
    return values | {"object store": float(object_store)}


def sum_resources(nodes: list[Node]) -> tuple[dict[str, float], dict[str, float] | None]:
    """Return total and used amounts of all live nodes; None for used if a node does not report it."""
    alive = [node for node in nodes if node.alive]
    total = {name: sum(node.total[name] for node in alive) for name in amounts({})}
    if any(node.used is None for node in alive):
        return total, None
    return total, {name: sum((node.used or {}).get(name, 0.0) for node in alive) for name in total}


def describe_node(total: Mapping[str, float], used: Mapping[str, float] | None) -> str:
    """Format resources: `2 of 4 CPUs free, 9.8 of 10.2 GiB memory free`, or `4 CPUs` without `used`."""
    parts = []
    for name, label, unit in (
        ("CPU", "", 1),
        ("GPU", "", 1),
        ("memory", "GiB memory", 2**30),
        ("object store", "GiB object store", 2**30),
    ):
        if not total.get(name):
            continue
        number_format = "g" if unit == 1 else ".1f"
        text = f"{total[name] / unit:.1f} {label}" if label else plural(float(total[name]), name)
        if used is not None:
            text = f"{(total[name] - used.get(name, 0.0)) / unit:{number_format}} of {text} free"
        parts.append(text)
    return ", ".join(parts)
