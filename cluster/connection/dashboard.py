"""HTTP client of the Ray dashboard: every error becomes one line within seconds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

import requests

from cluster.connection.address import JobServer
from cluster.connection.proxy import connect_directly
from pipeline.io.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

TIMEOUT_S = 5.0
_HINT = (
    "check that the cluster is up (melray cluster up starts a local one) "
    "and that the port is the dashboard's (8265 by default)"
)


def get_json(server: JobServer, path: str) -> Any:
    """Return the JSON response of the dashboard to a GET request.

    Raises:
        UserError: no response, a missing or rejected token, or a server that is not Ray's.
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
        raise UserError(
            f"--address {server.url}: no Ray cluster at this address ({short_reason(error)}); {_HINT}"
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
        raise UserError(
            f"--address {server.url}: the dashboard responded with error {response.status_code}; see its logs"
        )
    try:
        return response.json() if response.status_code == 200 else _raise_not_ray(server)
    except ValueError:
        _raise_not_ray(server)


def _raise_not_ray(server: JobServer) -> NoReturn:
    raise UserError(f"--address {server.url}: not a Ray dashboard; {_HINT}")


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


def check_version(server: JobServer) -> None:
    """Raise an error if the cluster runs another release of Ray, which might not accept the request.

    Raises:
        UserError: another version, or as `get_json`.
    """
    response, local_version = get_json(server, "/api/version"), version("ray")
    cluster_version = response.get("ray_version") if isinstance(response, dict) else None
    if cluster_version is None:
        _raise_not_ray(server)
    if cluster_version != local_version:
        raise UserError(
            f"--address {server.url}: the cluster runs Ray {cluster_version}, this host {local_version}; "
            f"install ray=={cluster_version} here, or {local_version} on the cluster"
        )


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
        UserError: as `check_version`.
    """
    check_version(server)
    # Ray would prefer this variable and RAY_ADDRESS to the address that it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = server.url
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard").setLevel(logging.ERROR)
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return JobSubmissionClient(server.url, headers=server.token.header if server.token else {})
