"""Start and end of a training run, and the data of a finished one; the same for all model families."""

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

T = TypeVar("T", bound=TrainingConfig)


def start_run(command: str, config: TrainingConfig) -> dict[str, Any] | None:
    """Open the run folder of `command`; return the summary if the run is complete, else None.

    Raises:
        UserError: unusable shards, or a folder that contains another run.
    """
    run = RunFolder(config.run)
    digest, *extra_digests = (dataset_digest(open_shards(folder)) for folder in config.shard_folders)
    run.begin(command, config.identity(), config.shards, digest, extra_digests)
    return run.read_json("summary.json")


def finish_run(config: TrainingConfig, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Write `summary.json`, which marks the run as complete; return its content."""
    summary = {**result, "total_seconds": seconds}
    RunFolder(config.run).write_json("summary.json", summary)
    return summary


def load_run_data(run: Path, config_class: type[T], hint: str = "") -> tuple[T, ShardDataset, Split]:
    """Load the settings of a run, its dataset and the split.

    Raises:
        UserError: no such run, another format, or changed shards; `hint` is added to the message.
    """
    content = RunFolder(run).read_config()
    suffix = f": {hint}" if hint else ""
    if content is None:
        raise UserError(f"--run {run}: no config.json in it{suffix}")
    config = config_class.parse({**content["config"], "shards": content["shards"], "run": str(run)})
    dataset = open_dataset(to_path(Path(content["shards"])))
    if dataset.digest != content["shards_digest"]:
        raise UserError(f"the shards in {content['shards']} have changed since training{suffix}")
    return config, dataset, split_rows(dataset, config)
