"""Stochastic weight averaging (Izmailov et al. 2018): the batch norm of mean weights.

The mean itself is computed step by step by `models/ema.py`.
"""

from __future__ import annotations

import numpy as np

from models.device_batches import to_device
from models.norm_statistics import recompute_statistics
from pipeline.classifier.state import TrainState
from pipeline.data.loader import epoch_batches, subsample_evenly

# Training rows from which the statistics are computed, and rows of a batch, as batch norm averages batches.
MAX_ROWS, BATCH_SIZE = 1024, 128


def update_statistics(state: TrainState) -> None:
    """Compute the batch norm of the mean weights from training rows; no-op before averaging has begun.

    The rows are those of evaluation, without augmentation. Every rank computes the same from the same rows,
    whatever the number of workers.
    """
    if state.swa_start is None or state.step <= state.swa_start:
        return
    rows = subsample_evenly(state.statistics_rows, MAX_ROWS)
    # Rows are sorted by class, and a batch of one class has statistics unlike those of a mixed one.
    rows = np.random.default_rng(state.config.seed).permutation(rows)
    with state.autocast():
        recompute_statistics(
            state.ema.model,
            (
                to_device(np.asarray(state.dataset.mels[batch]), state.world.device).float()
                for batch in epoch_batches(rows, BATCH_SIZE)
            ),
        )
