"""HTTP client of the Ray dashboard: every error becomes one line within seconds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import requests

from cluster.connection.address import DEFAULT_DASHBOARD, JobServer
from cluster.connection.local_state import ended_cluster
from cluster.connection.proxy import connect_directly
from pipeline.io.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

TIMEOUT_S = 5.0
_HINT = (
    "check that the cluster is up (melray cluster up starts a local one) "
    "and that the port is the dashboard's (8265 by default)"
)


class NoResponseError(UserError):
    """The dashboard does not respond, or a server in front of it cannot reach it: perhaps for a moment."""


class NotFoundError(UserError):
    """The server does not have what was asked for, or is not Ray's."""


def get_json(server: JobServer, path: str) -> Any:
    """Return the JSON response of the dashboard to a GET request.

    Raises:
        NoResponseError: no response.
        NotFoundError: not there, or a server that is not Ray's.
        UserError: a missing or rejected token.
    """
    connect_directly(server.url)
    try:
        # A redirection could send the token to another server.
        response = requests.get(
            server.url + path,
            headers=server.token.header if server.token else {},
            timeout=TIMEOUT_S,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        raise NoResponseError(
            f"--address {server.url}: no Ray cluster at this address ({short_reason(error)}); "
            f"{(server.url == DEFAULT_DASHBOARD and ended_cluster()) or _HINT}"
        ) from None
    if response.status_code == 401:
        raise UserError(f"--address {server.url}: requires a token; set RAY_AUTH_TOKEN_PATH to its file")
    if response.status_code == 403:
        source = server.token.source if server.token else "no token"
        raise UserError(
            f"--address {server.url}: token rejected (from {source}); "
            "it belongs to another cluster or has expired"
        )
    if response.status_code >= 500:
        raise NoResponseError(
            f"--address {server.url}: the dashboard responded with error {response.status_code}; see its logs"
        )
    try:
        return response.json() if response.status_code == 200 else _raise_not_ray(server)
    except ValueError:
        _raise_not_ray(server)


def _raise_not_ray(server: JobServer) -> NoReturn:
    raise NotFoundError(f"--address {server.url}: not a Ray dashboard; {_HINT}")


def short_reason(error: Exception) -> str:
    """Summarize an error of `requests`, whose own text spans several lines."""
    if isinstance(error, requests.Timeout):
        return f"no response within {TIMEOUT_S:.0f} s"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy of this environment does not answer; is the host missing in no_proxy?"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    text = str(error).lower()
    for phrase in ("connection refused", "no route to host", "network is unreachable"):
        if phrase in text:
            return phrase
    if "resol" in text:
        return "unknown host"
    return "connection failed"


def read_version(server: JobServer) -> str:
    """Return the release of Ray that a cluster runs; the job API accepts requests of other releases.

    Raises:
        UserError: as `get_json`.
    """
    response = get_json(server, "/api/version")
    version = response.get("ray_version") if isinstance(response, dict) else None
    return str(version) if version else _raise_not_ray(server)


@contextmanager
def client_errors() -> Iterator[None]:
    """Convert errors of Ray's job client inside the block, or the decorated function, into one line."""
    try:
        yield
    except (RuntimeError, requests.RequestException) as error:
        raise UserError(f"request failed: {' '.join(str(error).split())[:300]}") from None


def job_client(server: JobServer) -> JobSubmissionClient:
    """Return Ray's job client for a cluster that is known to respond.

    Raises:
        UserError: as `read_version`.
    """
    read_version(server)
    # Ray would prefer this variable and RAY_ADDRESS to the address that it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = server.url
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard").setLevel(logging.ERROR)
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return JobSubmissionClient(server.url, headers=server.token.header if server.token else {})
