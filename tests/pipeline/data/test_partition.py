"""Shares of rows: balanced, kept by their nodes, and sampled so that all ranks have the same steps."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.loader import Sampling, epoch_batches, epoch_order
from pipeline.data.partition import Partition, assign_shards, batch_weights, match_shares

ROWS = 1003
LABELS = np.arange(ROWS) * 7 // ROWS
TRAIN = np.flatnonzero(np.arange(ROWS) % 5)


def partition(share_of_rank: list[int], rank: int = 0, shard_rows: int = 20) -> Partition:
    """Build a partition of shards of equal size, whose classes are sorted."""
    shares = assign_shards([shard_rows] * -(-ROWS // shard_rows), batch_weights(share_of_rank, 32))
    return Partition(np.repeat(shares, shard_rows)[:ROWS], np.array(share_of_rank), rank)


def batches(parts: Partition, sampling: Sampling, seed: int = 0, size: int = 32) -> list[np.ndarray]:
    order = parts.epoch_order(LABELS, TRAIN, sampling, np.random.default_rng(seed), size)
    return epoch_batches(order, size)


def test_shares_are_balanced_by_weight() -> None:
    rows = np.random.default_rng(0).integers(50, 300, 400).tolist()
    for weights in ([1, 1], [1, 1, 1, 1, 1, 1, 1], [4, 1, 3]):
        loads = np.bincount(assign_shards(rows, weights), weights=rows)
        np.testing.assert_allclose(loads / sum(rows), np.array(weights) / sum(weights), atol=300 / sum(rows))


def test_neighboring_shards_are_on_different_nodes() -> None:
    shares = assign_shards([100] * 12, [1, 1, 1])
    assert all(len(set(shares[i : i + 3].tolist())) == 3 for i in range(0, 12, 3))


def test_nodes_keep_the_shares_they_hold() -> None:
    assert match_shares(np.zeros((3, 3)), [2, 1, 1]) == [0, 1, 2]
    held = np.array([[0, 0, 5], [9, 0, 0], [0, 3, 1]])
    assert match_shares(held, [1, 1, 1]) == [2, 0, 1]
    # A node with two workers needs the larger share.
    assert match_shares(held, [2, 1, 1]) == [0, 2, 1]


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_positions_have_rows_of_the_ranks_node(sampling: Sampling) -> None:
    share_of_rank = [0, 0, 1, 2]
    parts = partition(share_of_rank)
    sampled = batches(parts, sampling)
    assert [len(batch) for batch in sampled] == [
        len(batch) for batch in epoch_batches(TRAIN, 32)
    ]  # the same steps as without shares
    for batch in sampled:
        ends = len(batch) * np.arange(5) // 4
        for rank, share in enumerate(share_of_rank):
            rows = batch[ends[rank] : ends[rank + 1]]
            assert (parts.share_of_row[rows] == share).all()
            assert np.isin(rows, TRAIN).all()


def test_epoch_has_nearly_every_row_once() -> None:
    counts = np.bincount(np.concatenate(batches(partition([0, 1, 2]), "uniform")), minlength=ROWS)
    assert (counts[TRAIN] == 1).mean() > 0.95
    assert counts.max() <= 2


def test_rows_left_out_differ_between_epochs() -> None:
    parts = partition([0, 0, 1], shard_rows=200)
    seen = np.zeros(ROWS, bool)
    for seed in range(20):
        seen[np.concatenate(batches(parts, "uniform", seed))] = True
    assert seen[TRAIN].all()


def test_balanced_sampling_balances_classes_of_one_node() -> None:
    """Class 6 is on one of two nodes only."""
    share_of_row = np.where(LABELS == 6, 0, np.arange(ROWS) % 2)
    parts = Partition(share_of_row, np.array([0, 1]), 0)
    counts = np.zeros(7)
    for seed in range(30):
        counts += np.bincount(LABELS[np.concatenate(batches(parts, "balanced", seed))], minlength=7)
    np.testing.assert_allclose(counts / counts.sum(), 1 / 7, rtol=0.15)


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_single_share_equals_no_shares(sampling: Sampling) -> None:
    expected = epoch_order(LABELS, TRAIN, sampling, np.random.default_rng(0))
    np.testing.assert_array_equal(np.concatenate(batches(partition([0, 0]), sampling)), expected)


def test_ranks_cover_held_out_rows_once() -> None:
    val = np.flatnonzero(np.arange(ROWS) % 5 == 0)
    locals_ = [partition([0, 1, 1, 0, 1], rank).local(val) for rank in range(5)]
    np.testing.assert_array_equal(np.sort(np.concatenate(locals_)), val)
    for rank, rows in enumerate(locals_):
        assert (partition([0, 1, 1, 0, 1]).share_of_row[rows] == [0, 1, 1, 0, 1][rank]).all()


def test_partners_are_on_the_same_node() -> None:
    parts = partition([0, 0, 1, 2, 2])
    for size in (32, 33, 5):
        partner = parts.partners(np.random.default_rng(0), size)
        assert sorted(partner.tolist()) == list(range(size))
        order = parts.epoch_order(LABELS, TRAIN, "uniform", np.random.default_rng(0), size)
        batch = epoch_batches(order, size)[0]
        if len(batch) == size:
            assert (parts.share_of_row[batch] == parts.share_of_row[batch[partner]]).all()


def test_one_leader_per_node() -> None:
    share_of_rank = [1, 0, 1, 2, 0]
    leaders = [rank for rank in range(5) if partition(share_of_rank, rank).is_leader]
    assert leaders == [0, 1, 3]
