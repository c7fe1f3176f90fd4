"""Ray session of a command: a local Ray inside this process, or a connection to a running cluster."""

from __future__ import annotations

import logging
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cluster.connection.address import ray_address
from cluster.connection.local_state import ended_cluster
from cluster.connection.loopback import use_loopback
from cluster.connection.search_path import worker_job_config
from cluster.connection.temp_folder import create_temp_folder, short_temp_folder
from cluster.connection.token import AUTH_ENV_VARS, default_token, set_ray_token, write_token
from pipeline.distributed.this_host import host_cpus
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.standard_error import hide_lines

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
    # Ray Serve's controller and its handles wake up ten times per second each, also without requests.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS": "5000",
}
# The line by which Ray confirms RAY_BACKEND_LOG_LEVEL.
_LEVEL_NOTICE = re.compile(rb".*Set ray log level from environment variable")


@contextmanager
def session(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray for the duration of a command.

    Args:
        address: address of a running cluster; None starts a local Ray, accessible from this host with its
            token only.
        cpus: CPUs of a local Ray; by default those of the host.

    Raises:
        UserError: the cluster cannot be reached or joined.
    """
    target = set_environment(address)
    import ray

    if address is not None:
        _check_token(address, target)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        _connect(target, address, cpus)
        _restore_handler(signal.SIGTERM, terminate)
        if not _shows_ray_logs():
            _silence_ray_data()
        yield
    finally:
        with _without_interrupts():
            ray.shutdown()


def _restore_handler(number: int, handler: Any) -> None:
    """Install a handler again that Ray has replaced: Ray's own prints a stack and aborts the process."""
    if callable(handler) and threading.current_thread() is threading.main_thread():
        signal.signal(number, handler)


def _connect(target: str, address: str | None, cpus: int | None) -> None:
    """Start a local Ray, or join the cluster at `address`; see `session`."""
    import ray

    verbose = _shows_ray_logs()
    settings: dict[str, Any] = _local_settings(cpus) if address is None else {}
    if not target.startswith("ray://"):
        settings["job_config"] = worker_job_config()
    level = logging.INFO if verbose else logging.ERROR
    try:
        with hide_lines(_LEVEL_NOTICE):
            ray.init(target, log_to_driver=verbose, logging_level=level, **settings)
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        if address is None:
            raise _start_error(error) from error
        if address == "auto" and (ended := ended_cluster()):
            raise UserError(f"--address auto: {ended}") from None
        raise UserError(
            f"--address {address}: could not join the cluster (wrong address or token): {_one_line(error)}"
        ) from None
    except Exception as error:  # Ray raises many classes, `Exception` among them
        if address is None:
            raise _start_error(error) from error
        if "ersion mismatch" not in str(error):
            raise
        raise UserError(f"--address {address}: {_one_line(error)}") from None


def _local_settings(cpus: int | None) -> dict[str, Any]:
    """Return the arguments of `ray.init` for a local Ray."""
    folder = session_folder()
    logger.debug("Ray's logs: %s", folder)
    # Inside a job of another cluster, Ray would look for that job's packages in this one.
    os.environ.pop("RAY_JOB_CONFIG_JSON_ENV_VAR", None)
    settings = {"num_cpus": cpus or host_cpus(), "include_dashboard": False, "_temp_dir": str(folder)}
    return settings | ({"object_spilling_directory": str(spill)} if (spill := _spill_folder()) else {})


def _start_error(error: Exception) -> UserError:
    return UserError(
        f"Ray did not start on this host: {_one_line(error)[:300]}; "
        "check the host with `melray doctor`, and Ray's messages with --log-level debug"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM: a second one during the shutdown would leave processes and files behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def set_environment(address: str | None = None) -> str:
    """Set the variables that Ray reads once, when it is first imported; return the address for `ray.init`.

    Raises:
        UserError: no cluster can be joined at `address`.
    """
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not _shows_ray_logs():
        # The driver's C++ part logs errors to stderr, such as a false alarm for every actor of Ray Data
        # (Ray issue 57733). Errors that end a command also arrive as Python exceptions. Ray's log files lack
        # these lines too, but those of a local session are deleted at this level, and nodes write their own.
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address is None:
        _create_session_token()
        use_loopback()
        return "local"
    return ray_address(address)


def _shows_ray_logs() -> bool:
    """Return whether Ray's own messages are wanted: under `--log-level debug`."""
    return logger.isEnabledFor(logging.DEBUG)


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
def session_folder() -> Path:
    """Return the folder of all local sessions of this process, deleted at exit: sockets, logs and token.

    It is kept under `--log-level debug`.
    """
    return create_temp_folder(short_temp_folder(), keep=_shows_ray_logs())


@cache
def _spill_folder() -> Path | None:
    """Return a folder in TMPDIR for objects that exceed the memory; None if the session's folder is there.

    TMPDIR was chosen for large files; the session's folder may be on a smaller disk with a short path.
    """
    folder = Path(tempfile.gettempdir()).absolute()
    return None if session_folder().is_relative_to(folder) else create_temp_folder(folder)


@cache
def _create_session_token() -> None:
    """Create a token for all sessions of this process, in a file that only this user can read.

    Ray by itself would create one that all users can read, and never delete it. It reads the token once per
    process.
    """
    if any(name in os.environ for name in AUTH_ENV_VARS):
        return
    path = session_folder() / "token"
    write_token(path)
    set_ray_token(path)
