"""Where the work of a command runs: in processes of this host, or on Ray.

Ray's start, its first job and its end take longer than small work itself (docs/results.md). So a command
starts Ray only once it knows that its work is worth it, or needs several nodes or processes of a group. Both
ways run the same functions and give the same results. `--address` and `--ray` use Ray from the start,
`--no-ray` never does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.distributed.processes import stop_fork_server
from pipeline.distributed.this_host import host_cpus
from pipeline.io.console import duration, logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural

# Seconds of work on this host's CPUs above which it runs on Ray, which then takes less than half of the time.
# Costs of work are those of a core of 2024: on a slower one, Ray's start takes longer in proportion.
MAX_SECONDS_WITHOUT_RAY = 10.0


def _init_ray() -> None:
    import ray

    ray.init()


@dataclass(frozen=True)
class Execution:
    """Settings of where a command runs its work."""

    use_ray: bool | None = None
    """Whether to use Ray; None: as the amount of work says."""
    cpus: int | None = None
    """CPUs of this host to use (default: all)."""
    start_ray: Callable[[], object] = _init_ray
    """Opens the Ray session of the command."""


_current = Execution()


@contextmanager
def execution(settings: Execution) -> Iterator[None]:
    """Use `settings` within the `with` block, in the whole process."""
    global _current
    previous, _current = _current, settings
    try:
        yield
    finally:
        _current = previous


def uses_ray() -> bool:
    """Return whether a Ray session is open, which then runs all work of this process."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def start_ray(reason: str) -> None:
    """Open the Ray session of the command, unless one is open.

    Args:
        reason: what needs Ray, such as `--workers 2`.

    Raises:
        UserError: under --no-ray, or Ray cannot be started.
    """
    if uses_ray():
        return
    if _current.use_ray is False:
        raise UserError(f"--no-ray: {reason} needs Ray; drop one of them")
    # Its process has imported the libraries for nothing.
    stop_fork_server()
    _current.start_ray()


def runs_here(core_seconds: float) -> bool:
    """Decide where work that takes `core_seconds` on one core runs, and log it; start Ray if it runs there.

    Raises:
        UserError: Ray cannot be started.
    """
    if uses_ray():
        return False
    cpus = local_cpus()
    estimate = f"about {duration(max(0.1, core_seconds / cpus))} of work on {plural(cpus, 'CPU')}"
    if _current.use_ray is None and core_seconds > MAX_SECONDS_WITHOUT_RAY * cpus:
        logger.info("starting Ray: %s (--no-ray: in processes of this host)", estimate)
        start_ray("much work")
        return False
    if _current.use_ray:
        start_ray("--ray")
        return False
    logger.info("running in processes of this host: %s (--ray: on Ray)", estimate)
    return True


def local_cpus() -> int:
    """Return the number of CPUs of this host that the command uses."""
    return _current.cpus or host_cpus()
