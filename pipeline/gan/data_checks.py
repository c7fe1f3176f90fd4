"""Requirements on the rows of a GAN's training: enough clips for each class and worker, finite values."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.data.dataset import ShardDataset
from pipeline.data.loader import epoch_batches, subsample_evenly
from pipeline.data.rows import LabeledRows
from pipeline.data.shard_manifest import open_shards
from pipeline.data.split import Split
from pipeline.gan.config import TrainGanConfig
from pipeline.io.errors import UserError

# Rows that are checked for NaN and infinite values before the first step.
MAX_CHECKED_ROWS = 5000


def check_dataset(shards: Path, metric: str, flag: str) -> None:
    """Check that each clip of a dataset has one class, which a GAN generates, and that it has a metric.

    Args:
        shards: folder of the dataset.
        metric: metric that selects the best epoch.
        flag: command-line flag of the metric.

    Raises:
        UserError: unusable shards, a multi-label dataset, or the class accuracy of a single class.
    """
    manifest = open_shards(shards)
    if metric == "class_accuracy" and len(manifest.class_names) == 1:
        raise UserError(
            f"{flag} {metric}: {shards} has a single class, with which none is confused; use frechet"
        )
    if manifest.multi_label:
        raise UserError(
            f"--shards {shards}: a multi-label dataset, whose clips have several classes or none: a GAN "
            "generates clips of one class; extract clips with one label each"
        )


def check_rows(dataset: LabeledRows, split: Split, config: TrainGanConfig, workers: int) -> None:
    """Check that a GAN can be trained on the data by a number of workers.

    Raises:
        UserError: more workers than clips in a batch, or a class with fewer than two clips.
    """
    if config.batch_size < workers:
        raise UserError(
            f"--workers {workers} exceeds --batch-size {config.batch_size}: "
            "each worker needs at least one clip per step"
        )
    smallest = min(map(len, epoch_batches(split.train, config.batch_size)))
    if smallest < workers:
        raise UserError(
            f"--workers {workers}: too many workers for {len(split.train)} training clips in batches of "
            f"up to {config.batch_size}: each worker needs at least one clip per step"
        )
    counts = np.bincount(dataset.labels[split.train], minlength=len(dataset.class_names))
    if counts.min() < 2:
        raise _too_few_clips(dataset, split, int(counts.argmin()))


def check_values(dataset: ShardDataset, rows: np.ndarray, shards: Path) -> None:
    """Check that some of the rows have finite values.

    Raises:
        UserError: names the clip, and the folder `shards` of the dataset.
    """
    for row in subsample_evenly(rows, MAX_CHECKED_ROWS):
        if not np.isfinite(dataset.mels[row]).all():
            clip_id = dataset.table["clip_id"][row]
            raise UserError(f"clip '{clip_id}' contains NaN or infinite values: extract {shards} again")


def _too_few_clips(dataset: LabeledRows, split: Split, label: int) -> UserError:
    """Return the error for a class with fewer than two training clips, with where its other clips are."""
    train, val, held_out = (
        int((dataset.labels[rows] == label).sum()) for rows in (split.train, split.val, split.held_out)
    )
    elsewhere = [
        f"{count} {name}" for count, name in ((val, "for validation"), (held_out, "held out")) if count
    ]
    return UserError(
        f"class '{dataset.class_names[label]}' has too few training clips ({train}"
        + "".join(f", {text}" for text in elsewhere)
        + "): a GAN needs at least 2 per class; add clips"
        + (", lower --val-fraction" if val else "")
        + (", choose another --fold" if held_out else "")
        + " or remove the class"
    )
