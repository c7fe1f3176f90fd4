"""Where the spectrograms of a run are: all of them on every node, or each node with a share of the shards.

replicated     every node has all rows in its cache
partitioned    every node has the rows of its share in its cache, and its workers train on them; if a disk is
               too small for a share, every worker reads a share from the shards in each epoch
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.data.cache_space import missing_bytes, reclaimable_bytes
from pipeline.data.dataset import ShardDataset, dataset_digest, make_dataset, open_dataset
from pipeline.data.extra_rows import check_extra_shards
from pipeline.data.loader import BatchLoader, Sampling, epoch_batches, epoch_order
from pipeline.data.partition import Partition, assign_shards, batch_weights, match_shares
from pipeline.data.row_cache import cache_folder, cache_shape, held_rows
from pipeline.data.rows import read_rows
from pipeline.data.shard_manifest import ShardManifest, open_shards
from pipeline.data.shard_stream import FetchedRows, ShardStream
from pipeline.io.errors import UserError
from pipeline.training.config import TrainingConfig
from pipeline.training.node_caches import open_on_all_ranks
from pipeline.training.world import World, rank_slice

STREAM_NOTE = (
    "--data-placement partitioned: not even a share of the rows fits on the disk of each node; they are read "
    "from the shards in every epoch"
)


@dataclass(frozen=True)
class TrainingData:
    """Datasets of a run, those of additional rows last, and which worker reads which of their rows."""

    datasets: list[ShardDataset]
    partition: Partition | None = None
    """Which worker reads which rows; None if each can read all of them."""
    stream: ShardStream | None = None
    """Reads the rows of this worker; None if they are in the cache of its node."""

    def loader(self, device: torch.device, gpu_bytes: int) -> BatchLoader:
        """Return the loader of this worker's rows; the arguments are those of `BatchLoader`."""
        if self.stream is not None:
            stream: np.ndarray = self.stream  # type: ignore[assignment]  # as far as a loader uses one
            return BatchLoader([stream], device)
        held = None if self.partition is None else self.partition.held
        return BatchLoader([dataset.mels for dataset in self.datasets], device, gpu_bytes, held)

    def sample_batches(
        self,
        labels: np.ndarray,
        train: np.ndarray,
        sampling: Sampling,
        rng: np.random.Generator,
        batch_size: int,
        passes: int = 1,
    ) -> list[np.ndarray]:
        """Return the rows of each global batch of an epoch.

        The arguments are those of `epoch_order`, and the number of passes over the rows.
        """
        windows = None if self.stream is None else self.stream.start_epoch(rng)
        batches = []
        for _ in range(passes):
            if self.partition is None:
                order = epoch_order(labels, train, sampling, rng)
            else:
                order = self.partition.epoch_order(labels, train, sampling, rng, batch_size, windows)
            batches += epoch_batches(order, batch_size)
        return batches

    def local_rows(self, world: World, rows: np.ndarray) -> np.ndarray:
        """Return the part of `rows` for this rank; the parts of all ranks cover them once."""
        if self.partition is None:
            return rows[rank_slice(len(rows), world)]
        return self.partition.local(rows)

    def sampled(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows from which statistics may be computed: all, or those of some shards."""
        return rows if self.stream is None else self.stream.sampled(rows)

    def train_on(self, world: World, train: np.ndarray, needed: np.ndarray) -> None:
        """Prepare training; a collective.

        Args:
            world: process group.
            train: indices of the training rows.
            needed: indices of rows of the first dataset that every rank reads, such as for statistics; they
                are kept in its memory, so there must be few.

        Raises:
            UserError: a worker has no training rows.
        """
        if self.partition is None:
            return
        shares = self.partition.share_of_row[train]
        if not all((shares == share).any() for share in np.unique(self.partition.share_of_rank)):
            raise UserError(
                "--data-placement partitioned: the shards of a node or worker have no training rows; use "
                "fewer workers, or --data-placement replicated"
            )
        if self.stream is not None:
            self.stream.train_on(train)
        self._fetch(world, self.partition, needed)

    def _fetch(self, world: World, partition: Partition, rows: np.ndarray) -> None:
        """Copy rows of the first dataset that other workers read into this process; a collective."""
        share_of_row, mels = partition.share_of_row[rows], self.datasets[0].mels
        sent = rows[share_of_row == partition.share] if partition.is_leader else rows[:0]
        read = mels.__getitem__ if self.stream is None else self.stream.read
        for index, values in world.gather((sent, world.run_on_all_ranks(partial(read, sent)))):
            # The rows of a cache are there already, and their copy would take memory.
            if len(index) and (self.stream or partition.share_of_row[index[0]] != partition.share):
                mels[index] = values


def open_data(config: TrainingConfig, world: World, batch_size: int) -> TrainingData:
    """Open the datasets of a run on all ranks, each of which may fill a row cache for hours.

    Raises:
        UserError: on all ranks: unusable datasets, or a row cache that cannot be filled.
    """
    folders = config.shard_folders
    manifests = world.run_on_all_ranks(partial(_open_manifests, folders))
    if config.data_placement == "replicated":
        return TrainingData(_open_caches(world, folders))
    return _open_partition(config, world, manifests, batch_size)


def _open_manifests(folders: Sequence[Path]) -> list[ShardManifest]:
    check_extra_shards(folders[0], folders[1:])
    return [open_shards(folder) for folder in folders]


def _open_caches(
    world: World, folders: Sequence[Path], wanted: Sequence[list[int] | None] | None = None
) -> list[ShardDataset]:
    """Open datasets by the caches of this node: all shards, or those whose indices are given for each."""

    def open_all(heartbeat: Callable[[], None]) -> list[ShardDataset]:
        indices = wanted or [None] * len(folders)
        return [
            open_dataset(folder, heartbeat, shards) for folder, shards in zip(folders, indices, strict=True)
        ]

    return open_on_all_ranks(world, open_all)


def _open_partition(
    config: TrainingConfig, world: World, manifests: Sequence[ShardManifest], batch_size: int
) -> TrainingData:
    """Open the shares of the nodes, or those of the workers if one does not fit on its node's disk.

    The shares depend on the shards and on the workers of each node only, so that a run which resumes on the
    same nodes has the same; a node gets the one of which it has most in its cache.
    """
    folders, nodes = config.shard_folders, world.gather(node_id())
    names = list(dict.fromkeys(nodes))
    shares = _assign_all(manifests, [names.index(name) for name in nodes], batch_size)
    held = world.gather(world.run_on_all_ranks(partial(_held_rows, manifests, shares, len(names))))
    chosen = match_shares(
        np.stack([held[nodes.index(name)] for name in names]), [nodes.count(name) for name in names]
    )
    share_of_rank = np.array([chosen[names.index(name)] for name in nodes])
    wanted = [np.flatnonzero(share == share_of_rank[world.rank]).tolist() for share in shares]
    if not all(world.gather(world.run_on_all_ranks(partial(_fits, manifests, wanted)))):
        return _open_stream(world, folders, manifests, batch_size)
    if len(names) == 1:
        return TrainingData(_open_caches(world, folders))
    partition = Partition(_share_of_row(manifests, shares), share_of_rank, world.rank)
    return TrainingData(_open_caches(world, folders, wanted), partition)


def _open_stream(
    world: World, folders: Sequence[Path], manifests: Sequence[ShardManifest], batch_size: int
) -> TrainingData:
    """Open datasets whose shards are read in each epoch, each by one worker."""
    ranks = np.arange(world.size)
    shares = _assign_all(manifests, ranks.tolist(), batch_size)
    partition = Partition(_share_of_row(manifests, shares), ranks, world.rank)
    stream = ShardStream(folders, manifests, np.concatenate(shares), world.rank)
    tables = world.run_on_all_ranks(lambda: [read_rows(folder).table for folder in folders])
    datasets = []
    for manifest, table in zip(manifests, tables, strict=True):
        mels: np.ndarray = FetchedRows(cache_shape(manifest))  # type: ignore[assignment]
        datasets.append(make_dataset(manifest, table, mels, dataset_digest(manifest)))
    return TrainingData(datasets, partition, stream)


def _assign_all(
    manifests: Sequence[ShardManifest], share_of_rank: Sequence[int], batch_size: int
) -> list[np.ndarray]:
    """Return the share of each shard of each dataset."""
    rows = [shard.rows for manifest in manifests for shard in manifest.shards]
    shares = assign_shards(rows, batch_weights(share_of_rank, batch_size))
    return np.split(shares, np.cumsum([len(manifest.shards) for manifest in manifests])[:-1])


def _share_of_row(manifests: Sequence[ShardManifest], shares: Sequence[np.ndarray]) -> np.ndarray:
    """Return the share of each row of all datasets."""
    rows = [shard.rows for manifest in manifests for shard in manifest.shards]
    return np.repeat(np.concatenate(shares), rows)


def _held_rows(
    manifests: Sequence[ShardManifest], shares: Sequence[np.ndarray], num_shares: int
) -> np.ndarray:
    """Return the rows of each share that the caches of this node hold `[shape=(num_shares,)]`."""
    held = np.zeros(num_shares)
    for manifest, share in zip(manifests, shares, strict=True):
        rows = held_rows(cache_folder() / dataset_digest(manifest), manifest)
        held += np.bincount(share, weights=rows, minlength=num_shares)
    return held


def _fits(manifests: Sequence[ShardManifest], wanted: Sequence[Sequence[int]]) -> bool:
    """Return whether the shards `wanted` of each dataset fit into the caches of this node."""
    caches = cache_folder()
    missing = [
        missing_bytes(caches / dataset_digest(manifest), manifest, indices)
        for manifest, indices in zip(manifests, wanted, strict=True)
    ]
    return sum(missing) <= reclaimable_bytes(caches, [dataset_digest(manifest) for manifest in manifests])


def node_id() -> str:
    """Return the id of this node: that of Ray, by which the nodes of a local cluster differ, or the host."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        return str(ray.get_runtime_context().get_node_id())
    return socket.gethostname()
