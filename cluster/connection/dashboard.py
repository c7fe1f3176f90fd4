"""Questions to a cluster's dashboard over HTTP; what is wrong with it is told in one line, within seconds."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn

import requests

from cluster.connection.address import JobServer
from pipeline.io.errors import UserError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

TIMEOUT = 5.0
_HINT = "see that the cluster is up (melray cluster up starts one here), and that the port is its dashboard's (8265 by default)"


def get_json(server: JobServer, path: str) -> Any:
    """The JSON that the dashboard answers with.

    Raises:
        UserError: no answer, a token that is missing or refused, or something else than Ray at this address.
    """
    try:
        # Followed, a redirection could take the token elsewhere.
        answer = requests.get(
            server.url + path,
            headers=server.token.header if server.token else {},
            timeout=TIMEOUT,
            allow_redirects=False,
        )
    except requests.RequestException as error:
        raise UserError(
            f"--address {server.url}: no Ray cluster answers there ({reason(error)}); {_HINT}"
        ) from None
    if answer.status_code == 401:
        raise UserError(
            f"--address {server.url}: the cluster asks for a token; set RAY_AUTH_TOKEN_PATH to the file that holds it"
        )
    if answer.status_code == 403:
        source = server.token.source if server.token else "no token"
        raise UserError(
            f"--address {server.url}: the cluster refuses the token of {source}; it is another cluster's, or has expired"
        )
    if answer.status_code >= 500:
        raise UserError(
            f"--address {server.url}: the cluster answers with error {answer.status_code}; look at its logs"
        )
    try:
        return answer.json() if answer.status_code == 200 else _raise_not_ray(server)
    except ValueError:
        _raise_not_ray(server)


def _raise_not_ray(server: JobServer) -> NoReturn:
    raise UserError(f"--address {server.url}: what answers there is not a Ray dashboard; {_HINT}")


def reason(error: Exception) -> str:
    """A few words from the long ones of `requests`."""
    if isinstance(error, requests.Timeout):
        return f"silent for {TIMEOUT:.0f} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate can't be trusted"
    text = str(error).lower()
    for words in ("connection refused", "no route to host", "network is unreachable"):
        if words in text:
            return words
    if "resol" in text:
        return "unknown host"
    return "connection failed"


def check_version(server: JobServer) -> None:
    """Refuses a cluster with another Ray: what is sent is read there, and only the same release is sure to read it.

    Raises:
        UserError: another version, or as `ask`.
    """
    answer, mine = get_json(server, "/api/version"), version("ray")
    there = answer.get("ray_version") if isinstance(answer, dict) else None
    if there is None:
        _raise_not_ray(server)
    if there != mine:
        raise UserError(
            f"--address {server.url}: the cluster runs Ray {there}, this machine {mine}; install ray=={there} here, or {mine} there"
        )


@contextmanager
def client_errors() -> Iterator[None]:
    """What Ray's client says that went wrong, in one line."""
    try:
        yield
    except (RuntimeError, requests.RequestException) as error:
        raise UserError(f"the cluster did not do it: {' '.join(str(error).split())[:300]}") from None


def job_client(server: JobServer) -> JobSubmissionClient:
    """Ray's own client, on a cluster that is known to answer.

    Raises:
        UserError: as `check_version`.
    """
    check_version(server)
    # Before --address, Ray would obey this variable and RAY_ADDRESS.
    os.environ["RAY_API_SERVER_ADDRESS"] = server.url
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray.dashboard").setLevel(logging.ERROR)
    for name in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return JobSubmissionClient(server.url, headers=server.token.header if server.token else {})
