"""Rows that a training learns beside those of its set, such as generated ones; they are neither validated nor held out."""

from __future__ import annotations

import numpy as np

from pipeline.audio.features import features_difference
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.data.dataset import Rows, open_rows
from pipeline.data.shards import open_shards
from pipeline.io.errors import UserError
from pipeline.row_split import Split


def open_extra(config: TrainClassifierConfig) -> list[Rows]:
    """The sets that add training rows.

    Raises:
        UserError: an unusable set, or one of other spectrograms or classes.
    """
    base = open_shards(config.shards)
    sets = [open_rows(path) for path in config.extra_shards]
    for path, rows in zip(config.extra_shards, sets, strict=True):
        change = features_difference(rows.features, base.features, "those of --shards")
        if change is not None:
            raise UserError(f"--extra-shards {path} have {change}: make them with the same features")
        unknown = sorted(set(rows.class_names) - set(base.class_names))
        if unknown:
            raise UserError(f"--extra-shards {path}: class '{unknown[0]}' is none of --shards {config.shards}")
    return sets


def with_extra(rows: Rows, split: Split, extra: list[Rows]) -> tuple[np.ndarray, Split]:
    """Class numbers of all rows, those of extra sets numbered on, and the split in which the extra ones are learnt only."""
    number = {name: i for i, name in enumerate(rows.class_names)}
    labels = [rows.labels, *(more.table["label"].map(number).to_numpy(np.int64) for more in extra)]
    added = np.arange(len(rows.labels), sum(map(len, labels)))
    return np.concatenate(labels), Split(np.concatenate([split.train, added]), split.val, split.held_out)
