"""Whether the node of this worker is about to be taken away, such as a spot instance: Ray drains it then.

A thread asks Ray's control store, so that a step never waits for it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pipeline.io.console import logger

# Seconds between two queries: a spot instance is taken away 30 seconds (GCP) to two minutes (AWS) later.
QUERY_S = 3.0


@contextmanager
def watch_preemption() -> Iterator[Callable[[], bool]]:
    """Provide a function that returns at once whether Ray drains this node; always False outside of Ray."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        yield lambda: False
        return
    drained, stopped = threading.Event(), threading.Event()
    node = ray.get_runtime_context().get_node_id()
    threading.Thread(target=_watch, args=(node, drained, stopped), name="preemption", daemon=True).start()
    try:
        yield drained.is_set
    finally:
        stopped.set()


def _watch(node: str, drained: threading.Event, stopped: threading.Event) -> None:
    """Set `drained` when the node is drained, and clear it if that was called off."""
    while not stopped.wait(QUERY_S):
        with suppress(Exception):  # the control store may be restarting
            if node not in _draining_nodes():
                drained.clear()
            elif not drained.is_set():
                logger.warning("this node is about to be taken away: writing a checkpoint")
                drained.set()


def _draining_nodes() -> dict[str, int]:
    """Return the nodes that Ray drains, and their deadlines, from where Ray Train itself reads them."""
    from ray._private.state import state

    return dict(state.get_draining_nodes())
