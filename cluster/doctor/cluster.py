"""Looks at a cluster: its nodes, who may use it, who can reach it, and whether its clock is ours."""

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
from cluster.connection.dashboard import TIMEOUT, check_version
from cluster.connection.local_state import LocalCluster
from cluster.connection.nodes import Node, describe_node, joined_nodes, read_nodes, sums
from cluster.doctor.check import Check, fail, ok, warn
from pipeline.io.errors import UserError

LOOPBACK = ("127.", "::1", "localhost")
# Storage services refuse requests that are a quarter of an hour off.
CLOCK = 60.0
TUNNEL = "keep the port behind a firewall, and reach it through a tunnel: ssh -L 8265:127.0.0.1:8265 HEAD"


def check_job_server(server: JobServer, local: LocalCluster | None) -> Iterator[Check]:
    """A cluster as its dashboard shows it; `local`, if the cluster is that of `melray cluster up`."""
    try:
        check_version(server)
        nodes = read_nodes(server)
    except UserError as error:
        yield fail(
            "ray", str(error), "melray cluster up starts one here; docs/cluster.md tells how to reach others"
        )
        return
    yield ok("ray", f"{version('ray')} at {server.url}")
    yield from check_nodes(nodes)
    try:
        bare = requests.get(f"{server.url}/api/version", timeout=TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:
        yield warn(
            "access", f"the dashboard answers no longer ({type(error).__name__})", "look at the head's logs"
        )
        return
    name = urlsplit(server.url).hostname or ""
    port = urlsplit(server.url).port or 80
    opened = (
        []
        if local is None
        else open_to_others([("GCS", int(local.address.rpartition(":")[2])), ("dashboard", port)])
    )
    yield check_access(
        bare.status_code in (401, 403), name.startswith(LOOPBACK), server.url.startswith("https"), opened
    )
    if date := bare.headers.get("Date"):
        yield check_clock(parsedate_to_datetime(date).timestamp(), time.time())


def check_connected_cluster(token: bool) -> Iterator[Check]:
    """A cluster that this process has joined as a driver; `token`, if it asks for one."""
    import ray

    begin = time.monotonic()
    theirs = ray.get(ray.remote(num_cpus=0)(lambda: time.time()).remote(), timeout=60)
    ours = time.time()
    yield ok(
        "ray",
        f"{ray.__version__} at {ray.get_runtime_context().gcs_address}, a first task in {time.monotonic() - begin:.1f} s",
    )
    yield from check_nodes(joined_nodes())
    if token:
        yield ok("access", "by token")
    else:
        yield warn(
            "access",
            "open to all who reach its ports",
            "start it with RAY_AUTH_MODE=token on all its machines",
        )
    yield check_clock(theirs, ours)


def check_nodes(nodes: list[Node]) -> Iterator[Check]:
    """Living and dead ones, and what they have."""
    alive = [node for node in nodes if node.alive]
    dead = len(nodes) - len(alive)
    found = f"{len(alive)}: {describe_node(*sums(nodes))}"
    yield warn("nodes", f"{found}; {dead} lost", "see why in the head's logs") if dead else ok("nodes", found)
    if sum(node.total["CPU"] for node in alive) < 1:
        yield fail("nodes", "no CPU in the cluster", "start nodes with CPUs")


def check_access(token: bool, loopback: bool, encrypted: bool, opened: list[str]) -> Check:
    """Who may use the cluster; `opened` are its ports that other machines reach."""
    how = "by token" if token else "no token needed"
    where = (
        f"{' and '.join(opened)} reachable from other machines"
        if opened
        else "reached over loopback"
        if loopback
        else "reached over the network"
    )
    if not token and (opened or not loopback):
        return fail(
            "access",
            f"{how}; {where}: anyone there can run programs on it",
            "end it, and start it with RAY_AUTH_MODE=token",
        )
    if not token:
        return warn(
            "access",
            f"{how}; {where}: any user of the machine can run programs on it",
            "start it with RAY_AUTH_MODE=token",
        )
    if "dashboard" in opened or (not loopback and not encrypted):
        return warn("access", f"{how}, which travels unencrypted; {where}", TUNNEL)
    return ok("access", f"{how}; {where}")


def check_clock(theirs: float, ours: float) -> Check:
    """The cluster's clock against ours."""
    off = abs(theirs - ours)
    if off > CLOCK:
        return warn(
            "clock", f"{off:.0f} s from the cluster's", "set both by NTP: tokens and storage go by the time"
        )
    return ok("clock", "that of the cluster")


def open_to_others(ports: list[tuple[str, int]]) -> list[str]:
    """The names of those ports of this machine that take connections at an address that is not loopback."""
    families = (socket.AF_INET, socket.AF_INET6)
    outer = [
        (entry.family, entry.address)
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family in families and not entry.address.startswith((*LOOPBACK, "fe80"))
    ]
    return [
        name for name, port in ports if any(_connects(family, address, port) for family, address in outer)
    ]


def _connects(family: int, address: str, port: int) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0
