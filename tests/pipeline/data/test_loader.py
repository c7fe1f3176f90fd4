"""Batches: as equal in size as possible, and together every row once."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.loader import (
    batch_slices,
    epoch_batches,
    input_statistics,
    mel_statistics,
    subsample_evenly,
)


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


@pytest.mark.parametrize(("count", "limit"), [(10, 20), (20, 20), (21, 20), (3200, 2000), (3999, 2000)])
def test_subsample_is_evenly_spaced(count: int, limit: int) -> None:
    rows = subsample_evenly(np.arange(count), limit)
    assert len(rows) == min(count, limit)
    gaps = np.diff(np.concatenate([[-1], rows, [count]]))
    assert gaps.min() >= 1 and gaps.max() <= -(-count // limit)


def test_statistics_are_those_of_all_classes() -> None:
    """Of 3,200 rows sorted by class, the first 2,000 have other statistics than all."""
    labels = np.arange(3200) // 64
    mels = np.repeat(labels, 4).reshape(3200, 2, 2).astype(np.float16)
    mean, std = mel_statistics(mels, np.arange(3200))
    np.testing.assert_allclose(mean, labels.mean(), rtol=0.01)
    np.testing.assert_allclose(std, labels.std(), rtol=0.01)


@pytest.mark.parametrize("num_bytes", [1, 4 * 4 * 5 * 3, 2**21])
def test_statistics_of_several_inputs_are_those_of_their_values(
    num_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.data.loader.STATISTICS_BYTES", num_bytes)
    mels = np.random.default_rng(0).normal(-30, 9, (7, 4, 5)).astype(np.float16)
    rows = np.array([0, 2, 3, 6])
    plain, squared, means = input_statistics(
        mels, rows, lambda mel_BMT: [mel_BMT, mel_BMT[:, :3].square(), mel_BMT.mean(dim=2, keepdim=True)]
    )
    values = mels[rows].astype(np.float64)
    for (mean, std), expected in (
        (plain, values),
        (squared, values[:, :3] ** 2),
        (means, values.mean(axis=2, keepdims=True)),
    ):
        np.testing.assert_allclose(mean, expected.mean(axis=(0, 2)), rtol=1e-4)
        np.testing.assert_allclose(std, expected.std(axis=(0, 2)), rtol=1e-4)
