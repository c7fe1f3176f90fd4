"""Start and end of a training run, and the data of a finished one; the same for all model families."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from pipeline.data.dataset import ShardDataset
from pipeline.data.extra_rows import check_extra_shards, extra_warnings, trainable_rows
from pipeline.data.identify import identify
from pipeline.data.initial_run import initial_clips
from pipeline.data.rows import Rows, read_rows
from pipeline.data.split import Split, split_rows
from pipeline.data.split_record import SPLIT_NAME, split_record, write_split_record
from pipeline.data.split_warnings import split_warnings
from pipeline.data.uncached import open_dataset_to_read
from pipeline.io.console import logger
from pipeline.io.errors import UserError, report_os_errors
from pipeline.io.storage import to_path
from pipeline.training.config import TrainingConfig
from pipeline.training.run_folder import RunFolder

T = TypeVar("T", bound=TrainingConfig)
# Keys of every `summary.json`.
SUMMARY_KEYS = ("epochs", "best_epoch", "total_seconds")


def start_run(command: str, config: TrainingConfig) -> dict[str, Any] | None:
    """Open the run folder of `command`; return the summary if the run is complete, else None.

    Logs a warning about clips and classes that are not validated, not held out, or not trained on.

    Raises:
        UserError: unusable shards, an impossible split, or a folder that contains another run.
    """
    run = RunFolder(config.run)
    # Before the folder is created: settings that cannot be used are not those of the run.
    is_new = config.initial_run is not None and not _is_recorded(run)
    clips = None if run.read_json("summary.json") else training_clips(config.final, with_initial=is_new)
    defaults = type(config).default_settings()
    datasets = [identify(config.shards, clips and clips[0]), *map(identify, config.shard_folders[1:])]
    run.begin(command, config.identity(), config.shards, datasets, defaults)
    if clips is not None:
        _record_split(run, *clips)
    return run.read_object("summary.json", SUMMARY_KEYS)


def training_clips(
    config: TrainingConfig, with_initial: bool = True
) -> tuple[Rows, Split, list[pd.DataFrame]]:
    """Return the rows of the dataset, their split, and the clips of other datasets that are trained on.

    Among these are those that the initial weights were trained on, unless `with_initial` is False: those of
    a run that has recorded them may have been deleted since.

    Logs a warning about clips and classes that are not validated, not held out, or not trained on.

    Raises:
        UserError: unusable shards, or an impossible split.
    """
    check_extra_shards(config.shards, config.shard_folders[1:])
    rows = read_rows(config.shards)
    split = split_rows(rows, config)
    warnings, extra = split_warnings(rows, split), []
    others = [read_rows(path) for path in config.shard_folders[1:]]
    trainable = trainable_rows(rows, split, others)
    for path, other, mask in zip(config.shard_folders[1:], others, trainable, strict=True):
        warnings += extra_warnings(path, rows, split, other, mask)
        extra.append(other.table[mask])
    if with_initial and config.initial_run is not None:
        RunFolder(config.initial_run).check_single_model("--init-from")
        clips, initial_warnings = initial_clips(config.initial_run, rows.table.iloc[split.evaluated])
        warnings += initial_warnings
        extra += [] if clips is None else [clips]
    log_once(warnings)
    return rows, split, extra


def _is_recorded(run: RunFolder) -> bool:
    """Return whether the clips of a run have been recorded by an earlier command."""
    return run.read_config() is not None and (run.path / SPLIT_NAME).is_file()


def _record_split(run: RunFolder, rows: Rows, split: Split, extra: Sequence[pd.DataFrame]) -> None:
    """Write `split.parquet`, unless it exists."""
    path = run.path / SPLIT_NAME
    if not path.is_file():
        with report_os_errors("writing to", run.path):
            write_split_record(path, split_record(rows, split, extra))


def log_once(warnings: Iterable[str]) -> None:
    """Log warnings that this process has not logged yet: runs of a command may have the same split."""
    for warning in warnings:
        _log_warning(warning)


@cache
def _log_warning(text: str) -> None:
    logger.warning("%s", text)


def seconds_before(run: RunFolder) -> float:
    """Return how long the epochs took that an interrupted run has completed, in seconds."""
    return sum(epoch["seconds"] for epoch in run.read_history())


def finish_run(config: TrainingConfig, result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Write `summary.json`, which marks the run as complete; return its content.

    Args:
        config: settings of the run.
        result: its other values.
        seconds: duration of the training, with `seconds_before` of a resumed run.
    """
    summary = {**result, "total_seconds": seconds}
    RunFolder(config.run).write_json("summary.json", summary)
    return summary


def load_run_data(
    run: Path, config_class: type[T], hint: str = "", shards: Path | None = None
) -> tuple[T, ShardDataset, Split]:
    """Load the settings of a run, its dataset and the split.

    Args:
        run: folder of the run.
        config_class: class of its settings.
        hint: end of the message of an error.
        shards: folder of the dataset, if it has been moved since training.

    Raises:
        UserError: no such run, another format, or shards that are missing, have changed, or are others.
    """
    content = RunFolder(run).read_config(("config", "shards", "shards_digest"))
    suffix = f": {hint}" if hint else ""
    if content is None:
        raise UserError(f"--run {run}: no config.json in it{suffix}")
    folder = shards or to_path(Path(content["shards"]))
    if not folder.is_dir():
        raise UserError(f"--run {run}: its shards in {folder} are missing{suffix}")
    config = config_class.parse({**content["config"], "shards": str(folder), "run": str(run)})
    dataset = open_dataset_to_read(folder)
    if not identify(folder, dataset).is_recorded(content):
        if shards is not None:
            raise UserError(f"--shards {shards}: not the clips that --run {run} was trained with{suffix}")
        raise UserError(f"the shards in {folder} have changed since training{suffix}")
    return config, dataset, split_rows(dataset, config)
