"""Clips that a generator was not trained on: those that select its best epoch, and those that score it.

With a held-out fold, the validation clips select and the fold scores. Otherwise the validation clips are
divided by recording: a score on clips that have selected the epoch is too good. If they are too few for that,
all of them do both, and an evaluation says so.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.data.group_split import group_split
from pipeline.data.rows import LabeledRows
from pipeline.data.split import Split
from pipeline.gan.config import TrainGanConfig
from pipeline.io.console import logger
from pipeline.io.errors import UserError
from pipeline.io.text import plural

# Clips that a Fréchet distance needs.
MIN_CLIPS = 2


def selection_rows(dataset: LabeledRows, split: Split, config: TrainGanConfig) -> np.ndarray:
    """Return the clips to which samples are compared to select the best epoch; none if none is selected."""
    return _divide(dataset, split, config)[0]


def scored_rows(dataset: LabeledRows, split: Split, config: TrainGanConfig, run: Path) -> np.ndarray:
    """Return the clips with which generated ones are compared in an evaluation.

    Logs a warning if they have selected the epoch.

    Raises:
        UserError: there are none.
    """
    selecting, rows = _divide(dataset, split, config)
    if len(np.intersect1d(selecting, rows)):
        logger.warning(
            "--run %s: the best epoch was selected on the %s that score it, so the Fréchet distance is too "
            "low; train with --fold, or with more validation clips",
            run,
            plural(len(rows), "validation clip"),
        )
    if len(rows) < MIN_CLIPS:
        raise UserError(
            f"--run {run}: trained on all clips; no held-out clips to compare with: "
            "train with --val-fraction or --fold"
        )
    return rows


def _divide(dataset: LabeledRows, split: Split, config: TrainGanConfig) -> tuple[np.ndarray, np.ndarray]:
    nothing = np.zeros(0, int)
    if not config.select_best:
        return nothing, split.held_out if len(split.held_out) else split.val
    if len(split.held_out):
        return split.val, split.held_out
    groups = dataset.table["split_group"].to_numpy()[split.val]
    is_scored = group_split(dataset.labels[split.val], groups, 0.5, config.seed)
    selecting, scored = split.val[~is_scored], split.val[is_scored]
    return (selecting, scored) if len(scored) >= MIN_CLIPS <= len(selecting) else (split.val, split.val)
