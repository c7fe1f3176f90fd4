"""Predictions of recordings from windows: the same for any parts, also for certain probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.classifier.windows.config import Pool
from pipeline.classifier.windows.pooling import PooledWindows

PROBABILITIES = np.array([[0.0, 0.3], [0.5, 0.5], [1.0, 0.5]], np.float32)


@pytest.mark.parametrize("pool", ["mean", "max", "noisy-or"])
@pytest.mark.parametrize("parts", [[3], [1, 2], [0, 1, 0, 1, 1]])
def test_pooled_windows_do_not_depend_on_parts(pool: Pool, parts: list[int]) -> None:
    pooled, position = PooledWindows(pool, 2), 0
    for count in parts:
        pooled.add(PROBABILITIES[position : position + count])
        position += count
    expected = {"mean": PROBABILITIES.mean(0), "max": PROBABILITIES.max(0), "noisy-or": [1.0, 0.825]}[pool]
    assert pooled.windows == 3 and pooled.result().dtype == np.float32
    assert np.allclose(pooled.result(), expected)
