"""Loopback: makes Ray's servers on this host listen on 127.0.0.1 only, instead of on all interfaces.

Ray replaces 127.0.0.1 by the host's address in its network, except on macOS and Windows, where connections
from other hosts would open a dialog of the firewall. A variable, which Ray reads when it is first imported,
requests the same on Linux.
"""

from __future__ import annotations

import ipaddress
import os
from functools import cache

import psutil

HOST = "127.0.0.1"


def use_loopback() -> None:
    """Make Ray in this process and its children use loopback; call it before Ray is imported."""
    os.environ.update(loopback_environment())


@cache
def loopback_environment() -> dict[str, str]:
    """Return the environment of processes that use loopback: Ray's, and gloo's between training workers."""
    interfaces = [
        name
        for name, entries in psutil.net_if_addrs().items()
        if any(entry.address == HOST for entry in entries)
    ]
    gloo = {"GLOO_SOCKET_IFNAME": interfaces[0]} if interfaces else {}
    return {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **gloo}


def is_loopback(host: str) -> bool:
    """Return whether a host name or IP address is that of the loopback interface."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
