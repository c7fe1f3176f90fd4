"""Training, validation and held-out rows of a training run, and additional training shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, field_validator

from models.config import Config
from pipeline.audio.features import feature_mismatch
from pipeline.data.dataset import ShardDataset, open_dataset
from pipeline.data.group_split import group_folds, group_split, groups_on_both_sides
from pipeline.data.manifest import NO_FOLD
from pipeline.data.shards import open_shards
from pipeline.io.errors import UserError


class SplitConfig(Config):
    """Split of a dataset into training, validation and held-out rows."""

    augmentation_strength: float = Field(1.0, ge=0, le=1)
    """Maximum strength of the augmented copies to train on; also scales SpecAugment."""
    val_fraction: float = Field(0.2, ge=0, lt=1)
    """Validation fraction (stratified, grouped by recording); 0 trains on all clips."""
    val_split: tuple[int, int] | None = None
    """Alternative to --val-fraction: K N splits the clips into N parts and validates on part K, from 1."""
    fold: int | None = None
    """Held-out fold: used only by `evaluate`."""
    num_folds: int | None = Field(None, ge=2)
    """Assign clips to N folds (stratified, grouped by recording), ignoring the manifest's."""
    seed: int = 42
    """Random seed for split, initialization, data order and augmentation."""

    @field_validator("val_split")
    @classmethod
    def _check_val_split(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and (value[1] < 2 or not 1 <= value[0] <= value[1]):
            raise ValueError(
                "needs two integers K N with 1 <= K <= N, such as 1 5 for the first of five parts"
            )
        return value


@dataclass(frozen=True)
class Split:
    """Row indices of a dataset, sorted; no recording has rows in more than one of them."""

    train: np.ndarray
    val: np.ndarray
    held_out: np.ndarray


def split_rows(dataset: ShardDataset, config: SplitConfig) -> Split:
    """Split a dataset.

    Training rows include augmented copies up to the configured strength; validation and held-out rows are
    originals.

    Raises:
        UserError: an empty fold, a recording inside and outside a fold, or too few rows for training or
            validation.
    """
    table = dataset.table
    is_original = table["copy"].to_numpy() == 0
    held_out = _held_out(dataset, config)
    clips = np.flatnonzero(is_original & ~held_out)
    groups = table["group"].to_numpy()
    if config.val_split is None:
        val_clips = group_split(dataset.labels[clips], groups[clips], config.val_fraction, config.seed)
    else:
        number, count = config.val_split
        folds = assign_folds(dataset.labels[clips], groups[clips], count, config.seed, "--val-split")
        val_clips = folds == number
    val_ids = set(table["clip_id"].to_numpy()[clips[val_clips]])
    val = table["clip_id"].isin(val_ids).to_numpy()
    is_mild = table["strength"].to_numpy() <= config.augmentation_strength
    train = ~held_out & ~val & (is_original | is_mild)
    if len(np.unique(dataset.labels[train])) < 2:
        raise UserError("--shards: training data has fewer than two classes; add clips of another class")
    if config.val_fraction and not val.any():
        raise UserError(
            "--val-fraction: every class has only one recording, so none can be used for validation; "
            "add clips or set --val-fraction 0"
        )
    return Split(
        np.flatnonzero(train), np.flatnonzero(val & is_original), np.flatnonzero(held_out & is_original)
    )


def row_folds(dataset: ShardDataset, config: SplitConfig) -> np.ndarray:
    """Return the fold of each row `[shape=(N,)]`: the manifest's, or an assignment to `num_folds` folds.

    All copies of a clip have the fold of the clip.

    Raises:
        UserError: a class has fewer clips than there are folds.
    """
    if config.num_folds is None:
        return dataset.table["fold"].to_numpy()
    originals = np.flatnonzero(dataset.table["copy"].to_numpy() == 0)
    clip_ids = dataset.table["clip_id"].to_numpy()
    groups = dataset.table["group"].to_numpy()
    folds = assign_folds(
        dataset.labels[originals], groups[originals], config.num_folds, config.seed, "--num-folds"
    )
    clip_folds = dict(zip(clip_ids[originals], folds, strict=True))
    return np.array([clip_folds[clip_id] for clip_id in clip_ids])


def assign_folds(labels: np.ndarray, groups: np.ndarray, num_folds: int, seed: int, flag: str) -> np.ndarray:
    """Assign clips to folds as `group_folds` does.

    Raises:
        UserError: a class has fewer clips than there are folds; the message names `flag`.
    """
    max_folds = int(np.unique(labels, return_counts=True)[1].min())
    if max_folds < num_folds:
        raise UserError(
            f"{flag}: {num_folds} folds requested but one class has only {max_folds} clips; "
            f"use {max_folds} or fewer, or add clips"
        )
    return group_folds(labels, groups, num_folds, seed)


def _held_out(dataset: ShardDataset, config: SplitConfig) -> np.ndarray:
    """Return the mask of rows in the held-out fold, bool `[shape=(N,)]`."""
    fold, folds = config.fold, row_folds(dataset, config)
    if fold is None:
        return np.zeros(len(folds), bool)
    held_out = folds == fold
    if not held_out.any():
        available = sorted(set(folds.tolist()) - {NO_FOLD})
        hint = (
            f"available: {available}"
            if available
            else "no clip has one; extract with --fold-pattern or a CSV column 'fold', or add --num-folds 5"
        )
        raise UserError(f"--fold {fold}: fold not found; {hint}")
    leaking = groups_on_both_sides(dataset.table["group"].to_numpy(), held_out, ~held_out)
    if leaking:
        more = f" (+{len(leaking) - 1} more)" if len(leaking) > 1 else ""
        raise UserError(
            f"--fold {fold}: recording '{leaking[0]}'{more} is both inside and outside this fold: leakage; "
            "correct the folds, or use --num-folds"
        )
    return held_out


def open_extra_shards(shards: Path, extra_shards: Sequence[Path]) -> list[ShardDataset]:
    """Open datasets of additional training rows.

    Raises:
        UserError: an unusable dataset, or one with features or classes that differ from those of `shards`.
    """
    base = open_shards(shards)
    datasets = [open_dataset(path) for path in extra_shards]
    for path, extra in zip(extra_shards, datasets, strict=True):
        mismatch = feature_mismatch(extra.features, base.features, "--shards has")
        if mismatch is not None:
            raise UserError(
                f"--extra-shards {path} has {mismatch}: extract or generate with the same features"
            )
        unknown = sorted(set(extra.class_names) - set(base.class_names))
        if unknown:
            raise UserError(
                f"--extra-shards {path}: class '{unknown[0]}' is not in --shards {shards}; "
                f"available: {', '.join(base.class_names)}"
            )
    return datasets


def append_extra_rows(
    dataset: ShardDataset, split: Split, extra: list[ShardDataset]
) -> tuple[np.ndarray, Split]:
    """Append the rows of additional datasets to the training rows.

    Returns:
        Class index of every row, `dataset` first and then each of `extra`, and the split with the appended
        rows used for training only.
    """
    class_index = {name: i for i, name in enumerate(dataset.class_names)}
    labels = [dataset.labels, *(other.table["label"].map(class_index).to_numpy(np.int64) for other in extra)]
    added = np.arange(len(dataset.labels), sum(map(len, labels)))
    return np.concatenate(labels), Split(np.concatenate([split.train, added]), split.val, split.held_out)
