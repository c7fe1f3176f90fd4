"""The Ray session of a command: its own on this machine, or a cluster's."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from cluster.connection.address import ray_address
from cluster.connection.token import AUTH_ENV_VARS, default_token, set_ray_token, write_token
from pipeline.io.errors import UserError

RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # 2 s by default, and every report would wait for it
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "60",  # a worker that does not answer is replaced after that, not after 10 minutes
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # CPU work must not see the GPUs
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
}


@contextmanager
def session(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Connects to Ray for the length of a command.

    Args:
        address: of a running cluster; none starts Ray inside this process, reachable by token only.
        cpus: CPUs that an own session offers; by default those of the machine.

    Raises:
        UserError: when the cluster can't be reached.
    """
    place = set_environment(address)
    import ray

    if address is not None:
        _refuse_wrong_token(address, place)
    try:
        if address is None:
            ray.init(
                place,
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(place, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster that can be joined, or one with another token ({' '.join(str(error).split())})"
        ) from None
    except RuntimeError as error:
        if "ersion mismatch" not in str(error):
            raise
        raise UserError(f"--address {address}: {' '.join(str(error).split())}") from None
    try:
        _silence_ray_logs()
        yield
    finally:
        ray.shutdown()


def _refuse_wrong_token(address: str, place: str) -> None:
    """Ray itself would try for 20 s."""
    if "://" in place or ":" not in place:
        return
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    try:
        GcsClient(address=place)
    except ray.exceptions.AuthenticationError:
        token = default_token()
        source = f"refuses the token of {token.source}" if token else "asks for a token"
        raise UserError(
            f"--address {address}: the cluster {source}; set RAY_AUTH_TOKEN_PATH to the file that holds its own"
        ) from None
    except ray.exceptions.RpcError:
        return  # what else is wrong, joining it tells


def set_environment(address: str | None = None) -> str:
    """What Ray reads once, when anything of it is first imported: so before that, if a session is to follow.

    Returns the address by which Ray itself knows the cluster.

    Raises:
        UserError: no cluster can be joined there.
    """
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address is None:
        _create_session_token()
        return "local"
    return ray_address(address)


@cache
def _create_session_token() -> None:
    """A token for this process alone, in a file that only this user may read; Ray's own would stay, readable by all.

    One for all sessions of the process: Ray reads it once.
    """
    if any(name in os.environ for name in AUTH_ENV_VARS):
        return
    folder = tempfile.mkdtemp(prefix="melray-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "token"
    write_token(path)
    set_ray_token(path)


def _silence_ray_logs() -> None:
    """Progress is ours to print; Ray's own stays in its log files."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.verbose_progress = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
