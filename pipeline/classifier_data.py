"""Which rows a classifier learns from, which validate it, which are held out; and how a batch of them is fetched."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.cache import Rows
from pipeline.classifier_config import TrainClassifierConfig
from pipeline.errors import UserError
from pipeline.manifest import NO_FOLD
from pipeline.split import group_folds, group_split, leaking_groups

# The set moves into the GPU's memory if it takes no more than this part of what is free there.
GPU_MEMORY_PART = 0.4


@dataclass(frozen=True)
class Split:
    """Row numbers of a set; no recording has rows in two of them."""

    train: np.ndarray
    val: np.ndarray
    held_out: np.ndarray


def split_rows(rows: Rows, config: TrainClassifierConfig) -> Split:
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
    chosen = group_split(rows.labels[clips], groups[clips], config.val_fraction, config.seed)
    val_clips = set(table["clip_id"].to_numpy()[clips[chosen]])
    val = table["clip_id"].isin(val_clips).to_numpy()
    learnt = free & ~val & (own | (table["strength"].to_numpy() <= config.augmentation_strength))
    if len(np.unique(rows.labels[learnt])) < 2:
        raise UserError(f"--shards {config.shards}: training rows of fewer than two classes; a classifier needs two or more")
    if config.val_fraction and not val.any():
        raise UserError("--val-fraction: every class has a single recording, none can validate; add clips or set --val-fraction 0")
    return Split(np.flatnonzero(learnt), np.flatnonzero(val & own), np.flatnonzero(held_out & own))


def row_folds(rows: Rows, config: TrainClassifierConfig) -> np.ndarray:
    """The fold of each row `[shape=(N,)]`: the manifest's, or dealt anew; all copies of a clip have that of the clip."""
    if config.deal_folds is None:
        return rows.table["fold"].to_numpy()
    own = np.flatnonzero(rows.table["copy"].to_numpy() == 0)
    clips = rows.table["clip_id"].to_numpy()
    dealt = group_folds(rows.labels[own], rows.table["group"].to_numpy()[own], config.deal_folds, config.seed)
    fold_of = dict(zip(clips[own], dealt, strict=True))
    return np.array([fold_of[clip] for clip in clips])


def _held_out(rows: Rows, config: TrainClassifierConfig) -> np.ndarray:
    fold, folds = config.fold, row_folds(rows, config)
    held_out = np.zeros(len(folds), bool)
    if fold is None:
        return held_out
    held_out = folds == fold
    if not held_out.any():
        known = sorted(set(folds.tolist()) - {NO_FOLD})
        hint = (
            f"there are {known}" if known else "no clip has one; extract with --fold-pattern or a CSV column 'fold', or add --deal-folds 5"
        )
        raise UserError(f"--fold {fold}: no clip of that fold; {hint}")
    leaks = leaking_groups(rows.table["group"].to_numpy(), held_out, ~held_out)
    if leaks:
        raise UserError(
            f"--fold {fold}: recording '{leaks[0]}' and {len(leaks) - 1} more lie in this fold and outside it; scores would leak"
        )
    return held_out


def epoch_order(rows: Rows, train: np.ndarray, config: TrainClassifierConfig, epoch: int) -> np.ndarray:
    """The training rows in the order of an epoch, the same for all workers."""
    rng = np.random.default_rng([config.seed, epoch])
    if config.sampling == "uniform":
        return rng.permutation(train)
    labels = rows.labels[train]
    chance = 1.0 / np.bincount(labels, minlength=len(rows.class_names))[labels]
    return rng.choice(train, len(train), p=chance / chance.sum())


class MelStore:
    """Fetches spectrograms by row number, as float16 on the training's device."""

    def __init__(self, mels: np.ndarray, device: torch.device):
        """`mels` is float16 in dB `[shape=(N, n_mels, num_frames)]`; a small set moves to the GPU once and for all."""
        self._mels = mels
        self._device = device
        self._resident: Tensor | None = None
        if device.type == "cuda" and mels.nbytes <= GPU_MEMORY_PART * torch.cuda.mem_get_info(device)[0]:
            self._resident = torch.from_numpy(np.array(mels)).to(device)

    def __call__(self, index: np.ndarray) -> Tensor:
        """The rows `index` `[shape=(B, n_mels, num_frames)]`."""
        if self._resident is not None:
            return self._resident[torch.from_numpy(index).to(self._device)]
        rows = torch.from_numpy(self._mels[index])
        return rows.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else rows


def mel_statistics(mels: np.ndarray, train: np.ndarray, most: int = 2000) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each mel band in dB `[shape=(n_mels,)]`, over up to `most` training rows evenly spread."""
    step = max(1, len(train) // most)
    count, total, squares = 0, 0.0, 0.0
    for row in train[::step][:most]:
        mel = mels[row].astype(np.float64)
        count += mel.shape[1]
        total = total + mel.sum(axis=1)
        squares = squares + (mel**2).sum(axis=1)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return torch.from_numpy(np.asarray(mean, np.float32)), torch.from_numpy(np.asarray(std, np.float32))
