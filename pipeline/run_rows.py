"""The rows that a run was trained on, for whoever comes after the training."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pipeline.data.dataset import Rows, open_rows
from pipeline.io.errors import UserError
from pipeline.io.storage import as_place
from pipeline.row_split import Split, split_rows
from pipeline.run_folder import RunFolder
from pipeline.training_config import TrainingConfig

T = TypeVar("T", bound=TrainingConfig)


def run_rows(run: Path, cls: type[T], remedy: str = "") -> tuple[T, Rows, Split]:
    """The settings of a run, its rows, and their split.

    Raises:
        UserError: no such run, or shards that have changed since; `remedy` is what to do about either.
    """
    settings = RunFolder(run).read_json("config.json")
    after = f": {remedy}" if remedy else ""
    if settings is None:
        raise UserError(f"--run {run}: no config.json in it{after}")
    config = cls.parse({**settings["config"], "shards": settings["shards"], "run": str(run)})
    rows = open_rows(as_place(Path(settings["shards"])))
    if rows.digest != settings["shards_digest"]:
        raise UserError(f"the shards in {settings['shards']} are no longer those of the training{after}")
    return config, rows, split_rows(rows, config)
