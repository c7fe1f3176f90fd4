"""Row caches of the nodes of a training run: filled before its workers start, or else by the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.data.dataset import SMALL_DATASET_BYTES, fill_cache_of, is_cached
from pipeline.data.row_cache import cache_bytes, cache_shape
from pipeline.data.shard_manifest import ShardManifest, open_shards
from pipeline.distributed.resources import ResourceRequest, max_workers, node_resources
from pipeline.distributed.worker import watchdog
from pipeline.io.console import Progress, logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural

if TYPE_CHECKING:
    from pipeline.training.world import World

T = TypeVar("T")


def fill_node_caches(folders: Iterable[Path], need: ResourceRequest) -> None:
    """Fill the row caches of large datasets on the nodes that can run a worker, with progress.

    Workers fill them too, such as those on a node that was added later, but without progress on the console,
    and all workers of a run wait for that. Does nothing if there are more nodes than workers: most caches
    would be filled in vain.

    Args:
        folders: shard folders of all runs.
        need: workers that start then, and resources of each.

    Raises:
        UserError: unusable shards, or an unusable cache folder on a node.
    """
    manifests = {folder: open_shards(folder) for folder in folders}
    large = {
        folder: manifest
        for folder, manifest in manifests.items()
        if cache_bytes(manifest) > SMALL_DATASET_BYTES
    }
    if not large:
        return
    nodes = _nodes_without(large.values(), need)
    if 0 < len(nodes) <= need.workers:
        rows = sum(cache_shape(manifest)[0] for manifest in large.values())
        _fill_on(nodes, list(large), rows)


def _nodes_without(manifests: Iterable[ShardManifest], need: ResourceRequest) -> dict[str, str]:
    """Return id and host name of the nodes that can run a worker, without this one if it has the caches."""
    import ray

    this_node = ray.get_runtime_context().get_node_id()
    return {
        node["NodeID"]: node["NodeManagerHostname"]
        for node in ray.nodes()
        if node["Alive"]
        and max_workers(need, [node_resources(node)])
        and not (node["NodeID"] == this_node and all(map(is_cached, manifests)))
    }


def _fill_on(nodes: dict[str, str], folders: Sequence[Path], rows: int) -> None:
    """Fill the caches of `folders`, with `rows` rows in all, on each node by a task; show the progress."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # Without a CPU, so that no other job has to end first.
    task = ray.remote(num_cpus=0, max_retries=0)(_fill_caches)
    running = {}
    for node_id, host in nodes.items():
        strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
        options = task.options(name="caching shards", scheduling_strategy=strategy)
        running[options.remote(folders)] = host
    rows_done = dict.fromkeys(running, 0)
    try:
        with Progress("caching shards", rows * len(nodes), "rows") as progress:
            while running:
                (ready,), _ = ray.wait(list(running))
                result = _next_result(ready, running)
                if result is not None:
                    progress.add(result - rows_done[ready], f"on {plural(len(nodes), 'node')}")
                    rows_done[ready] = result
            progress.finish()
    finally:
        for task_results in running:
            with suppress(Exception):
                ray.cancel(task_results)


def _next_result(results: Any, running: dict[Any, str]) -> int | None:
    """Return the next result of a task; None if it has ended, which removes it from `running`.

    Raises:
        UserError: that of the task.
    """
    import ray

    try:
        rows, error = ray.get(next(results))
    except StopIteration:
        del running[results]
        return None
    except ray.exceptions.RayError as lost:
        host = running.pop(results)
        logger.warning(
            "the row cache on %s is not complete (%s): workers there continue", host, type(lost).__name__
        )
        return None
    if error:
        raise UserError(f"{error} (on node {running[results]})")
    return int(rows)


def _fill_caches(folders: Sequence[Path]) -> Iterator[tuple[int, str]]:
    """Fill caches, in a task; yield the number of rows so far and the text of a user error."""
    finished = rows = 0
    try:
        for folder in folders:
            for rows in fill_cache_of(folder):
                yield finished + rows, ""
            finished += rows
    except UserError as error:
        yield finished, str(error)


def open_on_all_ranks(world: World, open_datasets: Callable[[Callable[[], None]], T]) -> T:
    """Call `open_datasets(heartbeat)` on all ranks, each of which may fill a row cache for hours.

    A process that makes no progress for the time limit of the world exits; a slow one does not.

    Raises:
        UserError: that of the lowest rank that failed, on all ranks.
    """

    def open_here() -> T:
        with watchdog(world.timeout_s) as heartbeat:
            return open_datasets(heartbeat)

    return world.run_on_all_ranks(open_here)
