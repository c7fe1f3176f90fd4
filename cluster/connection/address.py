"""Meaning of --address: the dashboard that accepts jobs, or the cluster that `ray.init` connects to."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from cluster.connection.local_state import running_cluster
from cluster.connection.loopback import HOST, use_loopback
from cluster.connection.token import Token, default_token, read_token, set_ray_token
from pipeline.io.errors import UserError

DEFAULT_DASHBOARD = "http://127.0.0.1:8265"


@dataclass(frozen=True)
class JobServer:
    """Dashboard of a cluster, which accepts jobs."""

    url: str
    token: Token | None
    is_local: bool
    """Whether it is known to be on this host, with the same files; a tunnel's 127.0.0.1 may be any host."""

    @property
    def address_flag(self) -> str:
        """End of a printed command for this cluster: ` --address URL`; empty for the one on this host."""
        return "" if self.is_local else f" --address {self.url}"


def job_server(address: str | None) -> JobServer:
    """Return the dashboard that `submit` and `jobs` use.

    By default RAY_API_SERVER_ADDRESS, then the cluster of `melray cluster up`, then port 8265 of this host.

    Raises:
        UserError: not a dashboard URL, or an unreadable token file.
    """
    address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or "auto"
    local = running_cluster()
    if address == "auto":
        address = local.dashboard if local else DEFAULT_DASHBOARD
    url = address.rstrip("/")
    if not is_http(url) or not _host_and_port(url)[0]:
        raise UserError(f"--address {address}: expected a dashboard URL such as http://HOST:8265, or 'auto'")
    if local and _without_loopback_names(url) == local.dashboard:
        return JobServer(local.dashboard, read_token(local.token, "the cluster's file"), is_local=True)
    return JobServer(url, default_token(), is_local=False)


def ray_address(address: str) -> str:
    """Return the address for `ray.init`, and set its token and network in the environment that Ray reads.

    `auto` is the cluster on which this job runs, or the one of `melray cluster up`, or the one that Ray finds
    on this host.

    Raises:
        UserError: a dashboard URL, or an address that accepts no connection.
    """
    job_cluster, local = os.environ.get("RAY_ADDRESS"), running_cluster()
    if address == "auto" and job_cluster:
        address = job_cluster
    elif local and address in ("auto", local.address):
        set_ray_token(local.token)
        use_loopback()
        return local.address
    elif any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if is_http(address):
        raise UserError(
            f"--address {address}: this is a dashboard URL; "
            f"use `melray submit --address {address} -- COMMAND …`"
        )
    if address != "auto":
        _check_reachable(address)
    return address


def _without_loopback_names(url: str) -> str:
    """Return a URL with `localhost` as the address on which the local cluster listens."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{HOST}:{parts.port}" if parts.hostname == "localhost" else url


def is_http(address: str) -> bool:
    """Return whether an address is the URL of a dashboard."""
    return address.lower().startswith(("http://", "https://"))


def _host_and_port(url: str) -> tuple[str, int | None]:
    """Return host and port of a URL; no host if they are invalid, such as a port above 65535 or `http://[::1`."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port
    except ValueError:
        return "", None


def _check_reachable(address: str) -> None:
    """Open and close a connection, within 5 s; Ray itself would try for half a minute."""
    host, port = _host_and_port(address if "://" in address else f"ray://{address}")
    if not host:
        raise UserError(
            f"--address {address}: invalid address; use 'auto', HOST:PORT (6379 by default) or ray://HOST:PORT"
        )
    try:
        socket.create_connection((host, port or 10001), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"--address {address}: no Ray cluster at this address ({error.strerror or error})"
        ) from None
