"""What all commands do that train a run: begin or resume it, unless it is complete, and track it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pipeline.io.console import logger
from pipeline.training.config import TrainingConfig
from pipeline.training.failed_start import removed_if_not_started
from pipeline.training.trackers.tracking import tracked

T = TypeVar("T", bound=TrainingConfig)


def complete_run(
    config: T, begin: Callable[[T], dict[str, Any] | None], train: Callable[[T], dict[str, Any]]
) -> dict[str, Any]:
    """Train a run unless it is complete; return its summary.

    Args:
        config: settings of the run.
        begin: opens its folder, and returns the summary if the run is complete, else None.
        train: trains it to its end, and returns the summary.

    Raises:
        UserError: as `begin` and `train`.
    """
    with removed_if_not_started(config.run):
        summary = begin(config)
        with tracked(config):
            if summary is None:
                return train(config)
            logger.info("run %s is already complete", config.run)
            return summary
