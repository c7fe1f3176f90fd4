"""Metrics of each epoch for Ray Train, which passes them to its callbacks (`UserCallback.after_report`).

Neither its dashboard nor its `Result` shows metrics without a checkpoint of Ray (2.60).

`ray.train.report` waits for all workers and for Ray Train's controller, 0.1 to 0.2 s each time, so a thread
of each worker reports while the next epoch is trained. If epochs are shorter than that, some are left
out, the same on all workers; the last one never is. `metrics.jsonl` has them all.
"""

from __future__ import annotations

import threading
from typing import Any, Self

from pipeline.io.console import logger
from pipeline.training.world import World

# Seconds that the end of a run waits for its last report.
CLOSE_TIMEOUT_S = 10.0


class EpochReports:
    """Reports epochs to Ray Train in a background thread; a context manager used by all workers."""

    def __init__(self, world: World):
        """`world` is that of this worker; all workers decide together which epochs are reported."""
        self._world = world
        self._is_idle = threading.Event()
        self._has_work = threading.Event()
        self._is_idle.set()
        self._next: dict[str, Any] | None = None
        self._skipped: dict[str, Any] | None = None
        threading.Thread(target=self._run, name="epoch reports", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        # After an error the other workers may not report any more.
        if kind is None and self._is_idle.wait(CLOSE_TIMEOUT_S) and self._skipped is not None:
            self._start(self._skipped)
            self._is_idle.wait(CLOSE_TIMEOUT_S)

    def add(self, metrics: dict[str, Any]) -> None:
        """Report the metrics of an epoch, unless a worker is still reporting an earlier one; a collective."""
        if all(self._world.gather(self._is_idle.is_set())):
            self._start(metrics)
            self._skipped = None
        else:
            self._skipped = metrics

    def _start(self, metrics: dict[str, Any]) -> None:
        self._next = metrics
        self._is_idle.clear()
        self._has_work.set()

    def _run(self) -> None:
        import ray.train

        while True:
            self._has_work.wait()
            self._has_work.clear()
            try:
                ray.train.report(dict(self._next or {}))
            except Exception as error:  # best effort: training continues
                logger.debug("ray.train.report: %s: %s", type(error).__name__, error)
            self._is_idle.set()
