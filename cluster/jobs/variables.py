"""Environment variables that a job gets: those that `--env` names, and the public ones of storage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from cluster.connection.token import AUTH_ENV_VARS
from pipeline.io.errors import UserError

# Where data is, but no secrets. Not AWS_PROFILE: its section of ~/.aws is on this host only.
STORAGE_VARIABLES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "GOOGLE_CLOUD_PROJECT",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ENDPOINT",
    "HF_ENDPOINT",
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def job_variables(named: Iterable[str], with_storage: bool, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of a job.

    Args:
        named: `NAME`, with its value in `environment`, or `NAME=value`.
        with_storage: whether to add those of `STORAGE_VARIABLES` that are set and not named.
        environment: the variables of this process.

    Raises:
        UserError: a name that is invalid or not set here; no message has a value.
    """
    variables = storage_variables(environment) if with_storage else {}
    for text in named:
        name, has_value, value = text.partition("=")
        _check_name(name)
        if not has_value and name not in environment:
            raise UserError(
                f"--env {name}: not set in this environment; export it, or give --env {name}=value"
            )
        variables[name] = value if has_value else environment[name]
    return variables


def storage_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those of `STORAGE_VARIABLES` that are set, except URLs that contain a password."""
    values = {name: environment[name] for name in STORAGE_VARIABLES if environment.get(name)}
    return {name: value for name, value in values.items() if not _has_password(value)}


def _has_password(value: str) -> bool:
    return "@" in urlsplit(value).netloc


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        # Possibly a secret whose name was forgotten: not repeated.
        raise UserError("--env: give NAME or NAME=value, where NAME has letters, digits and _ only")
    if name in AUTH_ENV_VARS:
        raise UserError(f"--env {name}: jobs use the token of their cluster; drop it")


def describe_variables(named: Iterable[str], variables: Iterable[str]) -> str:
    """Return one line with the names of a job's variables, never their values; empty if there are none."""
    names = {text.partition("=")[0] for text in named}
    added = sorted(set(variables) - names)
    parts = [", ".join(sorted(names))] if names else []
    if added:
        parts.append(f"{', '.join(added)} of this environment (--no-storage-env sends none)")
    return f"environment of the job: {'; '.join(parts)}" if parts else ""
