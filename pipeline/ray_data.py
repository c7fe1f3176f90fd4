"""What every Ray Data job of melray needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.machines import Need, make_room, places
from pipeline.units import Unit, pack


def from_units(units: list[Unit]) -> Any:
    """A dataset with one block a unit: Ray's default would put many into one task, and their progress and retries with them."""
    import ray.data

    return ray.data.from_items([pack(unit) for unit in units], override_num_blocks=len(units))


def rows_of_one_stage(data: Any) -> Iterator[dict[str, Any]]:
    """The rows of a dataset with a single stage after its source, as they come.

    Ray Data sets resources aside for each stage, so that none starves another. With one stage that only keeps a CPU idle: on
    two CPUs one task ran at a time.
    """
    data.context.op_resource_reservation_enabled = False
    yield from data.iter_rows()


def actor_pool(workers: int | None, units: int, minutes: float, gpus: float = 0.0) -> Any:
    """A pool of as many actors as asked for, or as the cluster has room for and there are units; with a CPU each, or `gpus` GPUs.

    It may start with one actor: a fixed one would wait for ever where another job holds a CPU. Where there is no room for all,
    it waits `minutes` for machines.

    Raises:
        UserError: when the cluster has no room for so many.
    """
    import ray.data

    need = Need(workers or 1, 0 if gpus else 1, gpus)
    nodes = make_room(need, minutes, "lower --workers")
    wanted = workers or max(1, min(places(need, nodes), units))
    return ray.data.ActorPoolStrategy(min_size=1, max_size=wanted, initial_size=wanted, max_tasks_in_flight_per_actor=2)
