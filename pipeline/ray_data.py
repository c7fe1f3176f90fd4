"""What every Ray Data job of melray needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.errors import UserError
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


def actor_pool(workers: int | None, units: int, gpus: float = 0.0) -> Any:
    """A pool of as many actors as asked for, or as the cluster has room for and there are units; with a CPU each, or `gpus` GPUs.

    It may start with one actor: a fixed one would wait for ever where another job holds a CPU.

    Raises:
        UserError: when the cluster has no room for so many.
    """
    import ray
    import ray.data

    have = ray.cluster_resources()
    most = int(have.get("GPU", 0) / gpus) if gpus else int(have.get("CPU", 1))
    wanted = workers or max(1, min(most, units))
    if wanted > most:
        kind = f"with {gpus:g} GPUs each" if gpus else "with a CPU each"
        raise UserError(f"--workers {wanted} {kind}: the cluster has room for {most}; ask for {wanted - most} fewer")
    return ray.data.ActorPoolStrategy(min_size=1, max_size=wanted, initial_size=wanted, max_tasks_in_flight_per_actor=2)
