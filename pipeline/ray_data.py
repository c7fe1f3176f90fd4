"""What every Ray Data job of melray needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
