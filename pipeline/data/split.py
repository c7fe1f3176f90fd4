"""Training, validation and held-out rows of a training run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.data.clips import NO_FOLD
from pipeline.data.duplicates import duplicates_of
from pipeline.data.group_split import (
    group_folds,
    group_split,
    groups_on_both_sides,
    keep_trainable,
    sparse_group_folds,
)
from pipeline.data.label_sets import label_sets
from pipeline.data.rows import LabeledRows
from pipeline.data.split_config import SplitConfig
from pipeline.io.errors import UserError
from pipeline.io.text import plural


@dataclass(frozen=True)
class Split:
    """Row indices of a dataset, sorted; no recording, and no copy of a clip, is in more than one of them."""

    train: np.ndarray
    val: np.ndarray
    held_out: np.ndarray

    @property
    def evaluated(self) -> np.ndarray:
        """Rows that are never trained on: validation and held-out rows."""
        return np.concatenate([self.val, self.held_out])


def split_rows(dataset: LabeledRows, config: SplitConfig) -> Split:
    """Split a dataset.

    Training rows include augmented copies up to the configured strength; validation and held-out rows are
    originals. Clips outside the held-out fold whose audio is also inside it are not used at all.

    Raises:
        UserError: an empty fold, a recording inside and outside a fold, fewer recordings of a class than
            folds, or too few rows for training or validation.
    """
    table = dataset.table
    is_original = table["copy"].to_numpy() == 0
    held_out = held_out_rows(dataset, config)
    # Only duplicates, not their whole recordings: by the user's own groups and folds those may be used.
    unused = held_out | duplicates_of(table["content"].to_numpy(), held_out)
    clips = np.flatnonzero(is_original & ~unused)
    if config.val_split is None:
        val_clips = _validation_clips(dataset, clips, config)
    else:
        number, count = config.val_split
        val_clips = assign_folds(dataset, clips, count, config.seed_of_split, "--val-split") == number
    val_ids = set(table["clip_id"].to_numpy()[clips[val_clips]])
    val = table["clip_id"].isin(val_ids).to_numpy()
    is_mild = table["strength"].to_numpy() <= config.augmentation_strength
    train = ~unused & ~val & (is_original | is_mild)
    _check_classes(dataset, train, config.min_classes)
    if config.val_fraction and not val.any():
        raise UserError(
            "--val-fraction: every recording is the only one of a class, so none can be used for validation; "
            "add clips or set --val-fraction 0"
        )
    return Split(
        np.flatnonzero(train), np.flatnonzero(val & is_original), np.flatnonzero(held_out & is_original)
    )


def _validation_clips(dataset: LabeledRows, clips: np.ndarray, config: SplitConfig) -> np.ndarray:
    """Return which of the rows `clips` are used for validation, bool `[shape=(K,)]`."""
    groups = dataset.table["split_group"].to_numpy()[clips]
    if not dataset.multi_label:
        return group_split(dataset.labels[clips], groups, config.val_fraction, config.seed_of_split)
    # The rarest class first, as the few recordings of it leave no choice later (Sechidis et al. 2011).
    labels, label, counts = np.unique(dataset.labels[clips], return_inverse=True, return_counts=True)
    rank = np.empty(len(labels), np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(labels))
    is_val = group_split(rank[label], groups, config.val_fraction, config.seed_of_split)
    return keep_trainable(is_val, label_sets(dataset.table.iloc[clips], dataset.class_names, True), groups)


def _check_classes(dataset: LabeledRows, train: np.ndarray, min_classes: int) -> None:
    """Check that there is something to distinguish among the training rows, given by a mask `[shape=(N,)]`.

    Raises:
        UserError: fewer than `min_classes`; in a multi-label dataset, if that is more than one, no class that
            only some of the rows have.
    """
    if not dataset.multi_label:
        if len(np.unique(dataset.labels[train])) < min_classes:
            raise UserError("--shards: training data has fewer than two classes; add clips of another class")
        return
    if min_classes < 2:  # nothing is to be distinguished
        return
    counts = label_sets(dataset.table[train], dataset.class_names, True).counts()
    if not ((counts > 0) & (counts < train.sum())).any():
        raise UserError(
            "--shards: all clips of the training data have the same classes; add clips of others, or without "
            "any class (background)"
        )


def row_folds(dataset: LabeledRows, config: SplitConfig) -> np.ndarray:
    """Return the fold of each row `[shape=(N,)]`: the manifest's, or an assignment to `num_folds` folds.

    All copies of a clip have the fold of the clip.

    Raises:
        UserError: a class has fewer recordings than there are folds.
    """
    if config.num_folds is None:
        return dataset.table["fold"].to_numpy()
    originals = np.flatnonzero(dataset.table["copy"].to_numpy() == 0)
    clip_ids = dataset.table["clip_id"].to_numpy()
    folds = assign_folds(dataset, originals, config.num_folds, config.seed_of_split, "--num-folds")
    clip_folds = dict(zip(clip_ids[originals], folds, strict=True))
    return np.array([clip_folds[clip_id] for clip_id in clip_ids])


def assign_folds(dataset: LabeledRows, clips: np.ndarray, num_folds: int, seed: int, flag: str) -> np.ndarray:
    """Assign the rows `clips` `[shape=(K,)]` to folds as `group_folds` does.

    Raises:
        UserError: a class has fewer recordings than there are folds, or a fold is empty; the message names
            `flag`.
    """
    labels, groups = dataset.labels[clips], dataset.table["split_group"].to_numpy()[clips]
    check_recordings(dataset, clips, num_folds, flag)
    if dataset.multi_label:  # of which rare classes may have fewer clips than folds
        folds = sparse_group_folds(labels, np.unique(groups, return_inverse=True)[1], num_folds, seed)
    else:
        folds = group_folds(labels, groups, num_folds, seed)
    if len(np.unique(folds)) < num_folds:
        raise UserError(
            f"{flag}: {num_folds} folds requested, but recordings are shared by so many classes that a fold "
            "stays empty; use fewer folds, or smaller groups"
        )
    return folds


def check_recordings(dataset: LabeledRows, clips: np.ndarray, num_folds: int, flag: str) -> None:
    """Check that each class of the rows `clips` `[shape=(K,)]` has at least `num_folds` recordings.

    A recording is never split, so a class with fewer is missing in some folds. Of a multi-label dataset,
    whose recordings have many classes, rare ones may be: only the number of all recordings is checked.

    Raises:
        UserError: names `flag`, the class with the fewest recordings, and their number.
    """
    if dataset.multi_label:
        recordings = dataset.table["split_group"].iloc[clips].nunique()
        if recordings < num_folds:
            raise UserError(
                f"{flag}: {num_folds} folds requested, but there are only {plural(recordings, 'recording')}"
            )
        return
    pairs = dataset.table.iloc[clips][["label", "split_group"]].drop_duplicates()
    counts = pairs["label"].value_counts().sort_index()
    count = int(counts.min())
    if count >= num_folds:
        return
    name = counts.idxmin()
    if count == 1:
        fix = "add recordings of it, or leave the class out"
    else:
        fix = f"use {count} or fewer, or add recordings of it"
    more = int((counts < num_folds).sum()) - 1
    raise UserError(
        f"{flag}: {num_folds} folds requested, but class '{name}' has only {count} "
        f"recording{'s' if count > 1 else ''}{f' (+{more} more classes with too few)' if more else ''}; {fix}"
    )


def held_out_rows(dataset: LabeledRows, config: SplitConfig) -> np.ndarray:
    """Return the mask of rows in the held-out fold, bool `[shape=(N,)]`.

    Raises:
        UserError: an unknown fold, or a recording inside and outside it.
    """
    if config.fold is None:
        return np.zeros(len(dataset.table), bool)
    fold, folds = config.fold, row_folds(dataset, config)
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
