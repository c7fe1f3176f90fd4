"""Row caches of several workers: waiting for a slow fill has no limit, but a frozen fill ends its process."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from pipeline.data import cache_fill
from pipeline.data.dataset import open_dataset
from pipeline.distributed.resources import ResourceRequest
from pipeline.distributed.worker import COLLECTIVE_TIMEOUT_S
from pipeline.training.node_caches import fill_node_caches, open_on_all_ranks
from pipeline.training.world import World

# Time limit of a step and of a collective in these tests, in seconds: a hundredth of the real one or less.
LIMIT_S = 2.0


def _open_as_rank(
    rank: int, folder: Path, shards: Path, seconds_per_shard: float, collective_timeout_s: float
) -> None:
    """Open the dataset on one of two nodes; reading a shard takes long on that of rank 0."""
    torch.set_num_threads(1)
    os.environ["MELRAY_CACHE"] = str(folder / f"cache of node {rank}")
    read_shard = cache_fill.read_complete_shard

    def read_slowly(*arguments: Any) -> Any:
        time.sleep(seconds_per_shard if rank == 0 else 0)
        return read_shard(*arguments)

    cache_fill.read_complete_shard, cache_fill.MAX_THREADS = read_slowly, 1
    timeout = timedelta(seconds=collective_timeout_s)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timeout
    )
    world = World.current(torch.device("cpu"), LIMIT_S)
    start = time.monotonic()
    dataset = open_on_all_ranks(world, lambda heartbeat: open_dataset(shards, heartbeat))
    (folder / f"rank {rank}").write_text(f"{len(dataset.mels)} {time.monotonic() - start > 1.2 * LIMIT_S}")


def open_on_two_nodes(*arguments: Any) -> None:
    mp.start_processes(_open_as_rank, arguments, nprocs=2, start_method="fork")


def test_worker_waits_longer_than_limit_for_cache(shards: Path, tmp_path: Path) -> None:
    open_on_two_nodes(tmp_path, shards, 0.35 * LIMIT_S, COLLECTIVE_TIMEOUT_S)
    assert [(tmp_path / f"rank {rank}").read_text() for rank in (0, 1)] == ["60 True"] * 2


def test_short_collective_timeout_ends_waiting_worker(shards: Path, tmp_path: Path) -> None:
    """The control of the test above: with the limit of a step for collectives, the waiting worker fails."""
    with pytest.raises(mp.ProcessRaisedException, match=r"[Tt]imed? ?out"):
        open_on_two_nodes(tmp_path, shards, 0.35 * LIMIT_S, LIMIT_S)


def test_frozen_fill_ends_its_process(
    shards: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    start = time.monotonic()
    with pytest.raises((mp.ProcessExitedException, mp.ProcessRaisedException)):
        open_on_two_nodes(tmp_path, shards, 60.0, COLLECTIVE_TIMEOUT_S)
    assert time.monotonic() - start < 30
    assert "read_slowly" in capfd.readouterr().err  # the watchdog's stack trace


def test_small_dataset_needs_no_task(shards: Path) -> None:
    """Not even a Ray session: a local run starts as fast as without caches of nodes."""
    fill_node_caches([shards], ResourceRequest(workers=1, cpus=1))
