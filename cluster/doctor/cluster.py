"""Checks of a cluster: nodes, access control, reachable ports, clock."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from urllib.parse import urlsplit

import psutil
import requests

from cluster.connection.address import JobServer
from cluster.connection.dashboard import TIMEOUT_S, check_version
from cluster.connection.local_state import LocalCluster
from cluster.connection.nodes import Node, describe_node, joined_nodes, read_nodes, sum_resources
from cluster.doctor.check import Check, fail, ok, warn
from pipeline.io.errors import UserError

LOOPBACK = ("127.", "::1", "localhost")
# Object stores reject requests whose time is off by a quarter of an hour.
MAX_CLOCK_SKEW_S = 60.0
TUNNEL_HINT = "keep the port behind a firewall and use a tunnel: ssh -L 8265:127.0.0.1:8265 HEAD"


def check_job_server(server: JobServer, local: LocalCluster | None) -> Iterator[Check]:
    """Check a cluster through its dashboard; `local` is given if it is the cluster of `melray cluster up`."""
    try:
        check_version(server)
        nodes = read_nodes(server)
    except UserError as error:
        yield fail(
            "ray",
            str(error),
            "`melray cluster up` starts a local cluster; docs/cluster.md covers remote ones",
        )
        return
    yield ok("ray", f"{version('ray')} at {server.url}")
    yield from check_nodes(nodes)
    try:
        response = requests.get(f"{server.url}/api/version", timeout=TIMEOUT_S, allow_redirects=False)
    except requests.RequestException as error:
        yield warn("access", f"dashboard stopped responding ({type(error).__name__})", "see the head's logs")
        return
    host = urlsplit(server.url).hostname or ""
    exposed = []
    if local is not None:
        gcs_port = int(local.address.rpartition(":")[2])
        exposed = exposed_ports([("GCS", gcs_port), ("dashboard", urlsplit(server.url).port or 80)])
    yield check_access(
        response.status_code in (401, 403), host.startswith(LOOPBACK), server.url.startswith("https"), exposed
    )
    if date := response.headers.get("Date"):
        yield check_clock(parsedate_to_datetime(date).timestamp(), time.time())


def check_connected_cluster(token: bool) -> Iterator[Check]:
    """Check a cluster that this process has joined; `token` states whether it requires a token."""
    import ray

    start = time.monotonic()
    cluster_time = ray.get(ray.remote(num_cpus=0)(lambda: time.time()).remote(), timeout=60)
    local_time = time.time()
    address = ray.get_runtime_context().gcs_address
    yield ok("ray", f"{ray.__version__} at {address}, first task in {time.monotonic() - start:.1f} s")
    yield from check_nodes(joined_nodes())
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


def check_access(token: bool, loopback: bool, encrypted: bool, exposed: list[str]) -> Check:
    """Check who can use the cluster.

    Args:
        token: whether requests need a token.
        loopback: whether its dashboard has a loopback address.
        encrypted: whether its dashboard is reached by HTTPS.
        exposed: names of its ports that other hosts can reach.
    """
    access = "by token" if token else "unauthenticated"
    route = (
        f"{' and '.join(exposed)} reachable from other hosts"
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
    if "dashboard" in exposed or (not loopback and not encrypted):
        return warn("access", f"{access}, sent unencrypted; {route}", TUNNEL_HINT)
    return ok("access", f"{access}; {route}")


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


def exposed_ports(ports: list[tuple[str, int]]) -> list[str]:
    """Return the names of those ports of this host that accept connections at a non-loopback address."""
    families = (socket.AF_INET, socket.AF_INET6)
    addresses = [
        (entry.family, entry.address)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in families and not entry.address.startswith((*LOOPBACK, "fe80"))
    ]
    return [
        name
        for name, port in ports
        if any(_accepts_connection(family, address, port) for family, address in addresses)
    ]


def _accepts_connection(family: int, address: str, port: int) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0
