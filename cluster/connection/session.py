"""Ray session of a command: a local Ray inside this process, or a connection to a running cluster."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cluster.connection.address import ray_address
from cluster.connection.token import AUTH_ENV_VARS, default_token, set_ray_token, write_token
from pipeline.io.console import logger
from pipeline.io.errors import UserError

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Default 2 s, and every report would wait for it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # An unresponsive worker is replaced after a minute instead of ten.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # Tasks without GPUs must not see them.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
}


@contextmanager
def session(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray for the duration of a command.

    Args:
        address: address of a running cluster; None starts a local Ray, accessible with its token only.
        cpus: CPUs of a local Ray; by default those of the host.

    Raises:
        UserError: the cluster cannot be reached or joined.
    """
    target = set_environment(address)
    import ray

    if address is not None:
        _check_token(address, target)
    local: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False} if address is None else {}
    verbose = _shows_ray_logs()
    level = logging.INFO if verbose else logging.ERROR
    try:
        with _drop_level_notice():
            ray.init(target, log_to_driver=verbose, logging_level=level, **local)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise UserError(
            f"--address {address}: could not join the cluster (wrong address or token): "
            f"{' '.join(str(error).split())}"
        ) from None
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise
        raise UserError(f"--address {address}: {' '.join(str(error).split())}") from None
    try:
        if not verbose:
            _silence_ray_data()
        yield
    finally:
        ray.shutdown()


def set_environment(address: str | None = None) -> str:
    """Set the variables that Ray reads once, when it is first imported; return the address for `ray.init`.

    Raises:
        UserError: no cluster can be joined at `address`.
    """
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not _shows_ray_logs():
        # The driver's C++ part logs errors to stderr, such as a false alarm for every actor of Ray Data
        # (Ray issue 57733). Errors that end a command also arrive as Python exceptions.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is None:
        _create_session_token()
        return "local"
    return ray_address(address)


def _shows_ray_logs() -> bool:
    """Return whether Ray's own messages are wanted: under `--log-level debug`."""
    return logger.isEnabledFor(logging.DEBUG)


@contextmanager
def _drop_level_notice() -> Iterator[None]:
    """Drop the line on stderr by which Ray confirms RAY_BACKEND_LOG_LEVEL; pass on everything else."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            captured.seek(0)
            for line in captured:
                if b"Set ray log level from environment variable" not in line:
                    os.write(2, line)


def _silence_ray_data() -> None:
    """Disable Ray Data's progress bars and messages: melray prints its own progress."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _check_token(address: str, target: str) -> None:
    """Raise an error if the cluster rejects the token; Ray itself would retry for 20 s."""
    if "://" in target or ":" not in target:
        return
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    try:
        GcsClient(address=target)
    except ray.exceptions.AuthenticationError:
        token = default_token()
        problem = f"token rejected (from {token.source})" if token else "requires a token"
        raise UserError(
            f"--address {address}: {problem}; set RAY_AUTH_TOKEN_PATH to the token file of the cluster"
        ) from None
    except ray.exceptions.RpcError:
        return  # `ray.init` reports any other problem


@cache
def _create_session_token() -> None:
    """Create a token for all sessions of this process, in a file that only this user can read.

    Ray by itself would create one that all users can read, and never delete it. It reads the token once per
    process.
    """
    if any(name in os.environ for name in AUTH_ENV_VARS):
        return
    folder = tempfile.mkdtemp(prefix="melray-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "token"
    write_token(path)
    set_ray_token(path)
