"""Requests to a cluster without a proxy and without ~/.netrc.

`requests`, which melray and Ray's job client use, would send a request to loopback through the proxy of
`http_proxy`, with the token, and would replace the token by a password of ~/.netrc.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies_environment


def connect_directly(url: str) -> None:
    """Make this process send requests to a private host without a proxy, and to any host without ~/.netrc.

    Public hosts are still reached through the proxy: in many networks there is no other way.
    """
    os.environ["NETRC"] = os.devnull
    host = urlsplit(url).hostname or ""
    listed = [os.environ.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    if not getproxies_environment() or any(host in names.split(",") for names in listed):
        return
    if is_private(host):
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, [*listed, host]))


def is_private(host: str) -> bool:
    """Return whether all addresses of a host are of this host or of a private network."""
    try:
        addresses = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except OSError:  # unknown here: perhaps the proxy knows it
        return False
    return not any(ipaddress.ip_address(address).is_global for address in addresses)
