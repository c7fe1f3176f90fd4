"""How a run begins and how it ends, whatever it trains."""

from __future__ import annotations

from typing import Any

from pipeline.data.dataset import set_digest
from pipeline.data.shards import open_shards
from pipeline.run_folder import RunFolder
from pipeline.training_config import TrainingConfig


def open_run(command: str, config: TrainingConfig) -> dict[str, Any] | None:
    """Opens the run's folder for `command`; returns its summary where it is finished already.

    Raises:
        UserError: unusable shards, or a folder that holds another run.
    """
    run = RunFolder(config.run)
    digest, *extra = (set_digest(open_shards(shards)) for shards in config.sets)
    run.begin(command, config.identity(), config.shards, digest, extra)
    return run.read_json("summary.json")


def finish_run(config: TrainingConfig, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Writes the summary, which marks the run as finished."""
    summary = {**result, "total_seconds": seconds}
    RunFolder(config.run).write_json("summary.json", summary)
    return summary
