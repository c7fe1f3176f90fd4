"""How a run begins and how it ends, whatever it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pipeline.data.dataset import ShardDataset, dataset_digest, open_dataset
from pipeline.data.shards import open_shards
from pipeline.data.split import Split, split_rows
from pipeline.io.errors import UserError
from pipeline.io.storage import to_path
from pipeline.training.config import TrainingConfig
from pipeline.training.run_folder import RunFolder


def start_run(command: str, config: TrainingConfig) -> dict[str, Any] | None:
    """Opens the run's folder for `command`; returns its summary where it is finished already.

    Raises:
        UserError: unusable shards, or a folder that holds another run.
    """
    run = RunFolder(config.run)
    digest, *extra = (dataset_digest(open_shards(shards)) for shards in config.sets)
    run.begin(command, config.identity(), config.shards, digest, extra)
    return run.read_json("summary.json")


def finish_run(config: TrainingConfig, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Writes the summary, which marks the run as finished."""
    summary = {**result, "total_seconds": seconds}
    RunFolder(config.run).write_json("summary.json", summary)
    return summary


T = TypeVar("T", bound=TrainingConfig)


def load_run_data(run: Path, cls: type[T], remedy: str = "") -> tuple[T, ShardDataset, Split]:
    """The settings of a run, its rows, and their split.

    Raises:
        UserError: no such run, or shards that have changed since; `remedy` is what to do about either.
    """
    settings = RunFolder(run).read_json("config.json")
    after = f": {remedy}" if remedy else ""
    if settings is None:
        raise UserError(f"--run {run}: no config.json in it{after}")
    config = cls.parse({**settings["config"], "shards": settings["shards"], "run": str(run)})
    rows = open_dataset(to_path(Path(settings["shards"])))
    if rows.digest != settings["shards_digest"]:
        raise UserError(f"the shards in {settings['shards']} are no longer those of the training{after}")
    return config, rows, split_rows(rows, config)
