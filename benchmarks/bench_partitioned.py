"""Datasets larger than a node's disk: filling a cache concurrently, and training on shares of the rows.

    python -m benchmarks.bench_partitioned --audio FOLDER [--copies 2] [--epochs 20] [--seeds 3]

Trains with two workers, each on a node of its own (processes on loopback), with
- all rows in the cache of both nodes,
- a share of the rows in the cache of each, of disks that hold 1/1.5 of the dataset,
- rows that are read in every epoch, of disks that hold a third of it.
The disk is that of `MELRAY_CACHE_GB`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.common import save_result, summarize
from cluster.connection.session import session
from pipeline.classifier.config import TrainClassifierConfig
from pipeline.classifier.train import train_classifier
from pipeline.data import cache_fill
from pipeline.data.dataset import dataset_digest
from pipeline.data.row_cache import cache_bytes
from pipeline.data.shard_manifest import ShardManifest, open_shards
from pipeline.distributed.batch_job import run_in_process
from pipeline.extract import ExtractConfig, extract
from pipeline.training.run_folder import RunFolder

# Name, parts of the dataset that a disk does not hold, and settings of each arm.
ARMS: dict[str, tuple[float | None, dict[str, Any]]] = {
    "replicated": (None, {}),
    "partitioned, dataset of 1.5 disks": (1.5, {"data_placement": "partitioned"}),
    "partitioned, dataset of 3 disks": (3.0, {"data_placement": "partitioned"}),
}


def fill_seconds(shards: Path, manifest: ShardManifest, threads: int) -> float:
    """Return the time to fill an empty cache with a number of threads."""
    cache_fill.MAX_THREADS = threads
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        for _ in cache_fill.fill_cache(Path(name) / "cache", shards, manifest, range(len(manifest.shards))):
            pass
        return time.perf_counter() - start


@contextmanager
def two_nodes(caches: Path, disk: float | None) -> Iterator[str]:
    """Start two nodes of one CPU, each with a folder of caches of `disk` bytes; yield the address."""
    from ray.cluster_utils import Cluster

    memory = {"object_store_memory": 100 * 2**20}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory}
    )
    for name in ("a", "b"):
        variables = {"MELRAY_CACHE": str(caches / name)}
        if disk is not None:
            variables["MELRAY_CACHE_GB"] = repr(disk / 1e9)
        cluster.add_node(num_cpus=1, env_vars=variables, **memory)
    cluster.wait_for_nodes()
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def disk_bytes(caches: Path, digest: str) -> list[int]:
    """Return the space that the cache of each node takes."""
    return [
        sum(path.stat().st_blocks * 512 for path in (caches / node / digest).glob("*")) for node in ("a", "b")
    ]


def train_arm(
    shards: Path,
    folder: Path,
    disk: float | None,
    settings: dict[str, Any],
    epochs: int,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Train a run for each seed; return its scores, speed and the space of the caches."""
    manifest, caches = open_shards(shards), folder / "caches"
    accuracies, rates = [], []
    with two_nodes(caches, disk) as address, session(address):
        for seed in seeds:
            config = TrainClassifierConfig(
                shards=shards, run=folder / f"run {seed}", workers=2, epochs=epochs, seed=seed, keep="last",
                **settings,
            )  # fmt: skip
            train_classifier(config)
            history = RunFolder(config.run).read_history()
            accuracies.append(history[-1]["val_accuracy"])
            rates.append(statistics.median(epoch["samples_per_second"] for epoch in history[1:]))
    return {
        "val_accuracy": summarize(accuracies),
        "samples_per_second": summarize(rates),
        "disk_mb": None if disk is None else disk / 1e6,
        "cached_mb": [size / 1e6 for size in disk_bytes(caches, dataset_digest(manifest))],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory(prefix="mr") as name:
        folder = Path(name)
        shards = folder / "shards"
        extract(ExtractConfig(data=arguments.audio, out=shards, copies=arguments.copies), run_in_process)
        manifest = open_shards(shards)
        size = cache_bytes(manifest)
        result: dict[str, Any] = {
            "rows": manifest.rows,
            "shards": len(manifest.shards),
            "dataset_mb": size / 1e6,
            "fill_mb_per_second": {
                f"{threads} threads": size / 1e6 / fill_seconds(shards, manifest, threads)
                for threads in (1, os.cpu_count() or 1)
            },
        }
        for arm, (parts, settings) in ARMS.items():
            disk = None if parts is None else size / parts
            result[arm] = train_arm(
                shards, folder / arm, disk, settings, arguments.epochs, range(arguments.seeds)
            )
    save_result("partitioned", result)


if __name__ == "__main__":
    main()
