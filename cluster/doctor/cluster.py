"""Checks of a cluster: nodes, access control, reachable ports, clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import psutil
import requests

from cluster.connection.address import JobServer
from cluster.connection.dashboard import TIMEOUT_S, read_version
from cluster.connection.local_state import LocalCluster
from cluster.connection.loopback import is_loopback
from cluster.connection.nodes import Node, describe_node, joined_nodes, read_nodes, sum_resources
from cluster.doctor.check import Check, fail, ok, warn
from cluster.local.processes import Listener, cluster_processes, find_listeners
from pipeline.io.errors import UserError
from pipeline.io.text import plural

# Object stores reject requests whose time is off by a quarter of an hour.
MAX_CLOCK_SKEW_S = 60.0
TUNNEL_HINT = "keep the port behind a firewall and use a tunnel: ssh -L 8265:127.0.0.1:8265 HEAD"


def check_job_server(server: JobServer, local: LocalCluster | None) -> Iterator[Check]:
    """Check a cluster through its dashboard; `local` is given if it is the cluster of `melray cluster up`."""
    try:
        version = read_version(server)
        nodes = read_nodes(server)
    except UserError as error:
        yield fail(
            "ray",
            str(error),
            "`melray cluster up` starts a local cluster; docs/cluster.md covers remote ones",
        )
        return
    yield ok("ray", f"{version} at {server.url}")
    yield from check_nodes(nodes)
    try:
        response = requests.get(f"{server.url}/api/version", timeout=TIMEOUT_S, allow_redirects=False)
    except requests.RequestException as error:
        yield warn("access", f"dashboard stopped responding ({type(error).__name__})", "see the head's logs")
        return
    listeners = find_listeners(cluster_processes(local)) if local is not None else []
    if listeners:
        yield check_ports(listeners)
    yield check_access(
        token=response.status_code in (401, 403),
        loopback=is_loopback(urlsplit(server.url).hostname or ""),
        encrypted=server.url.startswith("https"),
        exposed=any(listener.is_exposed for listener in listeners),
    )
    if date := response.headers.get("Date"):
        yield check_clock(parsedate_to_datetime(date).timestamp(), time.time())


def check_connected_cluster(token: bool, is_own: bool) -> Iterator[Check]:
    """Check a cluster that this process has joined.

    Args:
        token: whether the cluster requires a token.
        is_own: whether this process has started it.
    """
    import ray

    start = time.monotonic()
    cluster_time = ray.get(ray.remote(num_cpus=0)(lambda: time.time()).remote(), timeout=60)
    local_time = time.time()
    address = ray.get_runtime_context().gcs_address
    yield ok("ray", f"{ray.__version__} at {address}, first task in {time.monotonic() - start:.1f} s")
    yield from check_nodes(joined_nodes())
    if is_own:
        yield check_ports(find_listeners(psutil.Process().children(recursive=True)))
    if token:
        yield ok("access", "by token")
    else:
        yield warn("access", "unauthenticated", "restart all nodes with RAY_AUTH_MODE=token")
    yield check_clock(cluster_time, local_time)


def check_nodes(nodes: list[Node]) -> Iterator[Check]:
    """Check for dead nodes and for CPUs."""
    alive = [node for node in nodes if node.alive]
    dead = len(nodes) - len(alive)
    text = f"{len(alive)}: {describe_node(*sum_resources(nodes))}"
    yield warn("nodes", f"{text}; {dead} lost", "see the head's logs") if dead else ok("nodes", text)
    if sum(node.total["CPU"] for node in alive) < 1:
        yield fail("nodes", "no CPU in the cluster", "start nodes with CPUs")


def check_access(token: bool, loopback: bool, encrypted: bool, exposed: bool) -> Check:
    """Check who can use the cluster.

    Args:
        token: whether requests need a token.
        loopback: whether its dashboard has a loopback address.
        encrypted: whether its dashboard is reached by HTTPS.
        exposed: whether other hosts can reach its ports, although it is on this host.
    """
    access = "by token" if token else "unauthenticated"
    route = (
        "reachable from other hosts"
        if exposed
        else "reached over loopback"
        if loopback
        else "reached over the network"
    )
    if not token and (exposed or not loopback):
        return fail(
            "access",
            f"{access}; {route}: anyone on the network can run code on it",
            "restart with RAY_AUTH_MODE=token",
        )
    if not token:
        return warn(
            "access",
            f"{access}; {route}: any user of the host can run code on it",
            "restart with RAY_AUTH_MODE=token",
        )
    if not loopback and not encrypted:
        return warn("access", f"{access}, sent unencrypted; {route}", TUNNEL_HINT)
    return ok("access", f"{access}; {route}")


def check_ports(listeners: Sequence[Listener]) -> Check:
    """Check that the processes of a cluster on this host listen on loopback only."""
    exposed = [
        f"{listener.process} at {listener.host} port {listener.port}"
        for listener in listeners
        if listener.is_exposed
    ]
    if not exposed:
        return ok("ports", f"{len(listeners)}, on loopback only")
    shown = ", ".join(exposed[:3]) + (", …" if len(exposed) > 3 else "")
    return warn(
        "ports",
        f"{plural(len(exposed), 'port')} reachable from other hosts: {shown}",
        "only the token protects them: keep this host behind a firewall",
    )


def check_clock(cluster_time: float, local_time: float) -> Check:
    """Compare the cluster's clock with this host's, both in seconds since 1970."""
    skew = abs(cluster_time - local_time)
    if skew > MAX_CLOCK_SKEW_S:
        return warn(
            "clock",
            f"{skew:.0f} s from the cluster's",
            "synchronize both by NTP: clock skew breaks tokens and storage",
        )
    return ok("clock", "in sync")
