"""What --address means: where jobs are submitted, or which Ray a command joins."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from cluster.connection.local_state import LocalCluster, running_cluster
from cluster.connection.token import Token, default_token, read_token, set_ray_token
from pipeline.io.errors import UserError

DEFAULT_DASHBOARD = "http://127.0.0.1:8265"


@dataclass(frozen=True)
class JobServer:
    """A cluster's dashboard, which takes jobs."""

    url: str
    token: Token | None
    here: bool
    """Whether it is sure to be on this machine, with the same files; behind a tunnel, 127.0.0.1 may be anywhere."""


def job_server(address: str | None) -> JobServer:
    """Where `submit` and `jobs` turn to: by default RAY_API_SERVER_ADDRESS, then the cluster of `melray cluster up`, then port 8265.

    Raises:
        UserError: an address of another kind, or a token's file that can't be read.
    """
    address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or "auto"
    local = running_cluster()
    if address == "auto":
        address = local.dashboard if local else DEFAULT_DASHBOARD
    url = address.rstrip("/")
    if not is_http(url) or not urlsplit(url).hostname:
        raise UserError(
            f"--address {address}: jobs go to a cluster's dashboard; give that as http://HOST:8265, or 'auto'"
        )
    if local and url == local.dashboard:
        return JobServer(url, local_token(local), here=True)
    return JobServer(url, default_token(), here=False)


def local_token(cluster: LocalCluster) -> Token:
    """The token of the user's choice, or else the cluster's own."""
    chosen = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return (chosen and default_token()) or read_token(cluster.token, "the cluster's file")


def ray_address(address: str) -> str:
    """What `ray.init` is to be told, and the token for it put where Ray looks.

    `auto` is the cluster on which this job runs, or that of `melray cluster up`, or what Ray finds on this machine.

    Raises:
        UserError: an address where only jobs are taken, or where nobody listens.
    """
    within, local = os.environ.get("RAY_ADDRESS"), running_cluster()
    if address == "auto" and within:
        address = within
    elif local and address in ("auto", local.address):
        set_ray_token(local.token)
        return local.address
    elif any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if is_http(address):
        raise UserError(
            f"--address {address}: only jobs are taken there; use `melray submit --address {address} -- COMMAND …`"
        )
    if address != "auto":
        _check_reachable(address)
    return address


def is_http(address: str) -> bool:
    """Whether it is a dashboard's address."""
    return address.lower().startswith(("http://", "https://"))


def _check_reachable(address: str) -> None:
    """Ray itself would try for half a minute."""
    place = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        host, port = place.hostname, place.port or 10001
    except ValueError:
        host, port = None, 0
    if not host:
        raise UserError(
            f"--address {address}: not an address; give 'auto', HOST:PORT (6379 by default) or ray://HOST:PORT"
        )
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"--address {address}: no Ray cluster answers there ({error.strerror or error})"
        ) from None
