"""Use of nodes that an autoscaler adds while `predict` and `tune` run: seconds from joining to first work.

    python -m benchmarks.bench_growth [--clips 2000] [--trials 12] [--nodes 4]

Ray's autoscaler starts the nodes, of one CPU each, as processes on this computer; the cluster has one of them
at the start.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import save_result, summarize
from cluster.connection.session import session
from pipeline.classifier.predict import PredictConfig, predict
from pipeline.classifier.train import train_classifier
from pipeline.distributed.resources import cluster_nodes
from tests.helpers.autoscaling_cluster import AutoscalingCluster
from tests.helpers.growth import GrowthWatcher
from tests.helpers.processes import wait_until
from tests.helpers.sounds import train_config, write_shards, write_tones
from tune.config import SearchConfig
from tune.search import search

# A network that takes seconds per epoch of a few hundred rows on one CPU.
MODEL = {"channels": [48, 48], "convs_per_block": 3, "embedding_dim": 16, "dropout": 0.1}


def measure_growth(nodes: int, title: str, work: Callable[[], object]) -> dict[str, Any]:
    """Run `work` on a cluster of one node that may grow to `nodes`; return when its nodes worked.

    Args:
        nodes: maximum number of nodes.
        title: part of the title of the worker processes.
        work: function that uses the cluster by the session of this process.
    """
    cluster = AutoscalingCluster(nodes, min_nodes=1)
    try:
        with session(cluster.address):
            wait_until(lambda: sum(node.cpus for node in cluster_nodes()) >= 1)
            start_time = time.perf_counter()
            with GrowthWatcher(title) as growth:
                work()
            seconds = time.perf_counter() - start_time
    finally:
        cluster.shut_down()
    added = sorted(growth.worked, key=growth.worked.__getitem__)[1:]
    return {
        "seconds": seconds,
        "nodes_that_worked": len(growth.worked),
        "seconds_until_all_worked": max(growth.worked.values()),
        "seconds_from_joining_to_work": summarize([growth.delays[node] for node in added]) if added else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--nodes", type=int, default=4)
    arguments = parser.parse_args()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = write_shards(folder, clips=20, copies=3)
        config = train_config(shards, folder / "run", epochs=1)
        train_classifier(config)
        audio = write_tones(folder / "audio", classes=1, clips=arguments.clips)
        (folder / "base.yaml").write_text(
            yaml.safe_dump({"model": MODEL, "batch_size": 16}), encoding="utf-8"
        )
        prediction = PredictConfig(
            run=config.run, audio=(audio,), out=folder / "predictions", tta_shifts=64, device="cpu"
        )
        searched = SearchConfig(
            shards=shards,
            run=folder / "search",
            base=folder / "base.yaml",
            trials=arguments.trials,
            max_concurrent=arguments.nodes,
            max_epochs=8,
            scheduler="none",
            wait_for_nodes=5,
        )
        result = {
            "predict": measure_growth(arguments.nodes, "Predictor", lambda: predict(prediction)),
            "tune": measure_growth(arguments.nodes, "Trainable", lambda: search(searched)),
        }
    save_result("growth", {"nodes": arguments.nodes, **result})


if __name__ == "__main__":
    main()
