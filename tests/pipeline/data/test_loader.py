"""Batches: as equal in size as possible, and together every row once."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.loader import batch_slices, epoch_batches


@pytest.mark.parametrize(
    ("size", "batch_size", "lengths"),
    [(10, 4, [4, 3, 3]), (64, 64, [64]), (65, 64, [33, 32]), (3, 64, [3]), (128, 64, [64, 64])],
)
def test_epoch_batches_have_nearly_equal_sizes(size: int, batch_size: int, lengths: list[int]):
    assert [len(batch) for batch in epoch_batches(np.arange(size), batch_size)] == lengths


@pytest.mark.parametrize(("total", "size"), [(0, 4), (1, 4), (4, 4), (9, 4)])
def test_batch_slices_cover_every_item_once(total: int, size: int):
    values = list(range(total))
    batches = [values[batch] for batch in batch_slices(total, size)]
    assert [value for batch in batches for value in batch] == values
    assert all(0 < len(batch) <= size for batch in batches)
