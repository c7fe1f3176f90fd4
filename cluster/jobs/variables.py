"""Environment variables of a job: those that `--env` names, and the public ones of storage and trackers."""

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
# The same of experiment trackers, for commands that log to them.
TRACKER_VARIABLES = {
    "mlflow": ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME"),
    "wandb": ("WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_MODE"),
}
# Credentials of trackers, which are sent only if they are named.
_TRACKER_SECRETS = {
    "mlflow": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    "wandb": ("WANDB_API_KEY",),
}
_USER_AND_PASSWORD = re.compile(r"[^/@\s]+:[^/@\s]*@")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def job_variables(
    named: Iterable[str],
    with_storage: bool,
    environment: Mapping[str, str],
    trackers: Iterable[str] = (),
) -> dict[str, str]:
    """Return the environment variables of a job.

    Args:
        named: `NAME`, with its value in `environment`, or `NAME=value`.
        with_storage: whether to add those of `STORAGE_VARIABLES` and `TRACKER_VARIABLES` that are set.
        environment: the variables of this process.
        trackers: trackers that the command logs to.

    Raises:
        UserError: a name that is invalid or not set here; no message has a value.
    """
    variables = {}
    if with_storage:
        public = [name for tracker in trackers for name in TRACKER_VARIABLES.get(tracker, ())]
        variables = _public_values((*STORAGE_VARIABLES, *public), environment)
    for text in named:
        name, has_value, value = text.partition("=")
        _check_name(name)
        if not has_value and name not in environment:
            raise UserError(
                f"--env {name}: not set in this environment; export it, or give --env {name}=value"
            )
        variables[name] = value if has_value else environment[name]
    return variables


def _public_values(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set, except URLs that contain a password."""
    values = {name: environment[name] for name in names if environment.get(name)}
    return {name: value for name, value in values.items() if not _has_password(value)}


def _has_password(value: str) -> bool:
    """Return whether a URL has a user or password; that of an object store's endpoint may lack its scheme."""
    return "@" in urlsplit(value).netloc or bool(_USER_AND_PASSWORD.match(value))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        # Possibly a secret whose name was forgotten: not repeated.
        raise UserError("--env: give NAME or NAME=value, where NAME has letters, digits and _ only")
    if name in AUTH_ENV_VARS:
        raise UserError(f"--env {name}: jobs use the token of their cluster; drop it")


def tracker_warnings(
    trackers: Iterable[str], variables: Mapping[str, str], environment: Mapping[str, str]
) -> list[str]:
    """Return what a job lacks to reach its trackers, one line each; arguments as those of `job_variables`."""
    warnings = []
    for tracker in trackers:
        missing = [
            name
            for name in _TRACKER_SECRETS.get(tracker, ())
            if name in environment and name not in variables
        ]
        if missing:
            flags = " ".join(f"--env {name}" for name in missing)
            warnings.append(
                f"--log-to {tracker}: the job does not get {', '.join(missing)} (to send: {flags})"
            )
    if "mlflow" in trackers and "MLFLOW_TRACKING_URI" not in variables:
        warnings.append(
            "--log-to mlflow: the job does not get MLFLOW_TRACKING_URI, so its runs are in its own folder on "
            "the cluster (--env MLFLOW_TRACKING_URI=http://…)"
        )
    return warnings


def describe_variables(named: Iterable[str], variables: Iterable[str]) -> str:
    """Return one line with the names of a job's variables, never their values; empty if there are none."""
    names = {text.partition("=")[0] for text in named}
    added = sorted(set(variables) - names)
    parts = [", ".join(sorted(names))] if names else []
    if added:
        parts.append(f"{', '.join(added)} of this environment (--no-storage-env sends none)")
    return f"environment of the job: {'; '.join(parts)}" if parts else ""
