"""Splits: which rows train, validate and are held out, and rows of additional shards that only train."""

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
    """Which rows of a set a training learns from, and which it keeps for judging."""

    augmentation_strength: float = Field(1.0, ge=0, le=1)
    """Uses the augmented copies up to this strength, and scales the augmentation in training by it."""
    val_fraction: float = Field(0.2, ge=0, lt=1)
    """Part of the clips that validates, stratified, whole recordings together; 0 trains on all."""
    val_split: tuple[int, int] | None = None
    """Instead of --val-fraction, deal the clips into parts and validate on one: its number from 1, and how many there are."""
    fold: int | None = None
    """Fold that is held out: neither learnt nor validated, only scored by `evaluate`."""
    num_folds: int | None = Field(None, ge=2)
    """Deal the clips into so many folds, stratified and whole recordings together, instead of taking the manifest's."""
    seed: int = 42
    """Seed of the split, the weights, the order and all draws."""

    @field_validator("val_split")
    @classmethod
    def _check_part(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and (value[1] < 2 or not 1 <= value[0] <= value[1]):
            raise ValueError("needs two numbers, such as 1 5 for the first of five parts")
        return value


@dataclass(frozen=True)
class Split:
    """Row numbers of a set; no recording has rows in two of them."""

    train: np.ndarray
    val: np.ndarray
    held_out: np.ndarray


def split_rows(rows: ShardDataset, config: SplitConfig) -> Split:
    """Training rows (with copies up to the augmentation strength), validation and held-out rows (clips themselves only).

    Raises:
        UserError: a fold that no clip has, a recording on both sides of a fold, or a side that stays empty.
    """
    table = rows.table
    own = table["copy"].to_numpy() == 0
    held_out = _held_out(rows, config)
    free = ~held_out
    val = np.zeros(len(table), bool)
    clips = np.flatnonzero(own & free)
    groups = table["group"].to_numpy()
    if config.val_split is None:
        chosen = group_split(rows.labels[clips], groups[clips], config.val_fraction, config.seed)
    else:
        part, parts = config.val_split
        chosen = assign_folds(rows.labels[clips], groups[clips], parts, config.seed, "--val-split") == part
    val_clips = set(table["clip_id"].to_numpy()[clips[chosen]])
    val = table["clip_id"].isin(val_clips).to_numpy()
    learnt = free & ~val & (own | (table["strength"].to_numpy() <= config.augmentation_strength))
    if len(np.unique(rows.labels[learnt])) < 2:
        raise UserError("--shards: training rows of fewer than two classes; a training needs two or more")
    if config.val_fraction and not val.any():
        raise UserError(
            "--val-fraction: every class has a single recording, none can validate; add clips or set --val-fraction 0"
        )
    return Split(np.flatnonzero(learnt), np.flatnonzero(val & own), np.flatnonzero(held_out & own))


def row_folds(rows: ShardDataset, config: SplitConfig) -> np.ndarray:
    """The fold of each row `[shape=(N,)]`: the manifest's, or dealt anew; all copies of a clip have that of the clip."""
    if config.num_folds is None:
        return rows.table["fold"].to_numpy()
    own = np.flatnonzero(rows.table["copy"].to_numpy() == 0)
    clips = rows.table["clip_id"].to_numpy()
    dealt = assign_folds(
        rows.labels[own], rows.table["group"].to_numpy()[own], config.num_folds, config.seed, "--num-folds"
    )
    fold_of = dict(zip(clips[own], dealt, strict=True))
    return np.array([fold_of[clip] for clip in clips])


def assign_folds(labels: np.ndarray, groups: np.ndarray, parts: int, seed: int, flag: str) -> np.ndarray:
    """As `group_folds`.

    Raises:
        UserError: naming `flag`, when a class has fewer clips than there are parts.
    """
    most = int(np.unique(labels, return_counts=True)[1].min())
    if most < parts:
        raise UserError(
            f"{flag}: {parts} parts, but a class has {most} clips only; choose {most} or fewer, or add clips"
        )
    return group_folds(labels, groups, parts, seed)


def _held_out(rows: ShardDataset, config: SplitConfig) -> np.ndarray:
    fold, folds = config.fold, row_folds(rows, config)
    held_out = np.zeros(len(folds), bool)
    if fold is None:
        return held_out
    held_out = folds == fold
    if not held_out.any():
        known = sorted(set(folds.tolist()) - {NO_FOLD})
        hint = (
            f"there are {known}"
            if known
            else "no clip has one; extract with --fold-pattern or a CSV column 'fold', or add --num-folds 5"
        )
        raise UserError(f"--fold {fold}: no clip of that fold; {hint}")
    leaks = groups_on_both_sides(rows.table["group"].to_numpy(), held_out, ~held_out)
    if leaks:
        raise UserError(
            f"--fold {fold}: recording '{leaks[0]}' and {len(leaks) - 1} more lie in this fold and outside it; scores would leak"
        )
    return held_out


def open_extra_shards(shards: Path, extra_shards: Sequence[Path]) -> list[ShardDataset]:
    """The sets that add training rows.

    Raises:
        UserError: an unusable set, or one of other spectrograms or classes.
    """
    base = open_shards(shards)
    sets = [open_dataset(path) for path in extra_shards]
    for path, rows in zip(extra_shards, sets, strict=True):
        change = feature_mismatch(rows.features, base.features, "those of --shards")
        if change is not None:
            raise UserError(f"--extra-shards {path} have {change}: make them with the same features")
        unknown = sorted(set(rows.class_names) - set(base.class_names))
        if unknown:
            raise UserError(f"--extra-shards {path}: class '{unknown[0]}' is none of --shards {shards}")
    return sets


def append_extra_rows(
    rows: ShardDataset, split: Split, extra: list[ShardDataset]
) -> tuple[np.ndarray, Split]:
    """Class numbers of all rows, those of extra sets numbered on, and the split in which the extra ones are learnt only."""
    number = {name: i for i, name in enumerate(rows.class_names)}
    labels = [rows.labels, *(more.table["label"].map(number).to_numpy(np.int64) for more in extra)]
    added = np.arange(len(rows.labels), sum(map(len, labels)))
    return np.concatenate(labels), Split(np.concatenate([split.train, added]), split.val, split.held_out)
