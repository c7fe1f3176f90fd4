"""Rows of a training run that are shared among nodes: each node holds some shards, and its workers train on
their rows.

Every worker computes the same global batches. A position in a batch belongs to a rank, as without shares, and
is filled with a row of that rank's node: the node's rows in random order. In shapes: N rows of all datasets,
W workers, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from pipeline.data.loader import Sampling, epoch_batches, sampling_weights


def assign_shards(rows: Sequence[int], weights: Sequence[int]) -> np.ndarray:
    """Assign shards to nodes so that the rows of a node are proportional to its weight, up to a shard.

    Neighbors are assigned to different nodes, since they may have the same class.

    Args:
        rows: rows of each shard.
        weights: weight of each node, such as its positions in a batch.

    Returns:
        Node of each shard, int64 `[shape=(len(rows),)]`.
    """
    load, weight = np.zeros(len(weights)), np.asarray(weights, float)
    nodes = np.empty(len(rows), np.int64)
    for shard, count in enumerate(rows):
        nodes[shard] = np.argmin(load / weight)
        load[nodes[shard]] += count
    return nodes


def match_shares(held: np.ndarray, workers: Sequence[int]) -> list[int]:
    """Choose the share of each node so that it has to read little: that of which it holds most rows already.

    Args:
        held: rows of each share that each node holds `[shape=(nodes, shares)]`.
        workers: workers of each node, and those for which each share is meant.

    Returns:
        Share of each node.
    """
    shares: dict[int, int] = {}
    nodes, columns = np.unravel_index(np.argsort(-held, axis=None, kind="stable"), held.shape)
    for node, share in zip(nodes.tolist(), columns.tolist(), strict=True):
        is_free = node not in shares and share not in shares.values()
        if is_free and held[node, share] > 0 and workers[node] == workers[share]:
            shares[node] = share
    for node, count in enumerate(workers):
        if node not in shares:
            free = (share for share in range(len(workers)) if share not in shares.values())
            shares[node] = next(share for share in free if workers[share] == count)
    return [shares[node] for node in range(len(workers))]


def batch_weights(share_of_rank: Sequence[int], batch_size: int) -> list[int]:
    """Return the positions of each share in a batch, by which its rows are needed."""
    return np.bincount(_positions(batch_size, tuple(share_of_rank))).tolist()


@dataclass(frozen=True)
class Partition:
    """Which node holds which rows, the same on all ranks, and which of them this rank is."""

    share_of_row: np.ndarray
    """Share of each row `[shape=(N,)]`, those of additional datasets last."""
    share_of_rank: np.ndarray
    """Share that the node of each rank holds `[shape=(W,)]`."""
    rank: int

    @property
    def share(self) -> int:
        """Share of this node."""
        return int(self.share_of_rank[self.rank])

    @property
    def is_leader(self) -> bool:
        """Whether this is the lowest rank of its node."""
        return int(np.flatnonzero(self.share_of_rank == self.share)[0]) == self.rank

    @property
    def held(self) -> np.ndarray:
        """Mask of the rows that this node holds, bool `[shape=(N,)]`."""
        return self.share_of_row == self.share

    def local(self, rows: np.ndarray) -> np.ndarray:
        """Return the part of `rows` for this rank: every row is that of one rank whose node holds it."""
        held = rows[self.share_of_row[rows] == self.share]
        ranks = np.flatnonzero(self.share_of_rank == self.share)
        return np.array_split(held, len(ranks))[int(np.flatnonzero(ranks == self.rank)[0])]

    def epoch_order(
        self,
        labels: np.ndarray,
        train: np.ndarray,
        sampling: Sampling,
        rng: np.random.Generator,
        batch_size: int,
        window_of_row: np.ndarray | None = None,
    ) -> np.ndarray:
        """Return the rows of an epoch for `epoch_batches`, in number those of `epoch_order` in `loader.py`.

        A node whose share has fewer training rows than its workers need repeats some, in a random order
        again; one whose share has more leaves some out, others in each epoch.

        Args:
            labels: class index of every row `[shape=(N,)]`.
            train: indices of the training rows.
            sampling: as in `epoch_order`.
            rng: random generator in the same state on all workers.
            batch_size: maximum number of rows of a batch.
            window_of_row: for `ShardStream`, the number of each row's window `[shape=(N,)]`; the batches have
                rows of one window after the other.
        """
        sizes = [len(batch) for batch in epoch_batches(np.empty(len(train)), batch_size)]
        group_of_position = np.concatenate([self._share_of_position(size) for size in sizes])
        group_of_row = self.share_of_row[train]
        if window_of_row is not None:
            rows_of_window = np.bincount(window_of_row[train])
            windows = len(rows_of_window)
            ends = np.round(np.cumsum(rows_of_window) / len(train) * len(sizes))
            window_of_batch = np.searchsorted(ends, np.arange(len(sizes)), side="right")
            group_of_position = group_of_position * windows + np.repeat(window_of_batch, sizes)
            group_of_row = group_of_row * windows + window_of_row[train]
        weights = sampling_weights(labels[train]) if sampling == "balanced" else None
        order = np.empty(len(train), np.int64)
        for group in np.unique(group_of_position):
            positions = np.flatnonzero(group_of_position == group)
            is_held = group_of_row == group
            order[positions] = _sample(
                train[is_held], len(positions), None if weights is None else weights[is_held], rng
            )
        return order

    def partners(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return, for each position of a batch, another one whose row is on the same node `[shape=(B,)]`."""
        share_of_position, partner = self._share_of_position(size), np.empty(size, np.int64)
        for share in np.unique(share_of_position):
            positions = np.flatnonzero(share_of_position == share)
            partner[positions] = rng.permutation(positions)
        return partner

    def _share_of_position(self, size: int) -> np.ndarray:
        return _positions(size, tuple(self.share_of_rank.tolist()))


@cache
def _positions(size: int, share_of_rank: tuple[int, ...]) -> np.ndarray:
    """Return the share of each position in a batch `[shape=(B,)]`, of which each rank has a slice."""
    workers = len(share_of_rank)
    ends = size * np.arange(workers + 1) // workers  # as `rank_slice`
    return np.repeat(share_of_rank, np.diff(ends))


def _sample(rows: np.ndarray, count: int, weights: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Return `count` of the rows in random order: by weight with replacement, or each as often as others."""
    if weights is not None:
        return rng.choice(rows, count, p=weights / weights.sum())
    permutations = [rng.permutation(rows)]
    while sum(map(len, permutations)) < count:
        permutations.append(rng.permutation(rows))
    return np.concatenate(permutations)[:count]
