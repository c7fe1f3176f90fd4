"""Reads before a batch job is planned, such as lengths of recordings: on Ray if they are much work.

Unlike a batch job they have no output files: a command that is run again repeats them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pipeline.distributed.execution import MAX_SECONDS_WITHOUT_RAY, runs_here, uses_ray
from pipeline.distributed.failures import root_cause
from pipeline.distributed.resources import ResourceRequest, max_workers, wait_for_resources
from pipeline.io.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
# Calls for each CPU that run, wait or are finished before they are due; of CPUs that join later as well.
_CALLS_PER_CPU, _MIN_CALLS = 3, 64


@dataclass(frozen=True)
class OrderedMap:
    """Maps a function over items by tasks on Ray, if that is much work, else in this process."""

    map_here: Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
    """Maps in this process."""
    description: str
    """What the calls do, for error messages, such as `read lengths`."""
    wait_for_nodes: float = 0.0
    """Minutes to wait for missing nodes."""

    def __call__(
        self, function: Callable[[Item], Result], items: Iterable[Item], core_seconds: float
    ) -> Iterator[Result]:
        """Yield the result of each item, in their order.

        Args:
            function: can be pickled.
            items: small, can be pickled.
            core_seconds: estimated CPU time of all calls.

        Raises:
            UserError: Ray cannot be started, has no CPU, or cannot run a call; or that of the function.
        """
        if core_seconds > MAX_SECONDS_WITHOUT_RAY and (uses_ray() or not runs_here(core_seconds)):
            return self._map_on_ray(function, items)
        return self.map_here(function, items)

    def _map_on_ray(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        import ray

        need = ResourceRequest(1, 1)
        nodes = wait_for_resources(need, self.wait_for_nodes, "start a node with CPUs")
        limit = max(_MIN_CALLS, _CALLS_PER_CPU * max_workers(need, nodes))
        task: Any = ray.remote(num_cpus=1)(function)
        pending: deque[Any] = deque()
        try:
            for item in items:
                pending.append(task.remote(item))
                if len(pending) >= limit:
                    yield self._get(pending.popleft())
            while pending:
                yield self._get(pending.popleft())
        finally:
            for call in pending:
                ray.cancel(call, force=False)

    def _get(self, call: Any) -> Any:
        import ray

        try:
            return ray.get(call)
        except Exception as error:
            cause = root_cause(error)
            if isinstance(cause, UserError):
                raise cause from None
            lines = str(cause).strip().splitlines() or [type(cause).__name__]
            raise UserError(f"Ray could not {self.description}: {lines[-1].strip()}") from error
