"""A node that is about to be taken away: a checkpoint is written at the notice, and the run loses seconds."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from models.classifier import ClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.classifier.train import train_classifier
from pipeline.training.run_folder import RunFolder
from tests.helpers.processes import ray_workers, run_when
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import train_config, write_shards
from tests.integration.test_node_loss import LoopbackCluster, connected

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_ray_session"), pytest.mark.timeout(240)]
# Seconds after the notice until the node is taken away.
DEADLINE_S = 12
SLOW = {
    "model": ClassifierConfig(channels=(64, 64), convs_per_block=3, embedding_dim=16),
    "epochs": 2,
    "batch_size": 4,
    "val_fraction": 0.0,
    "checkpoint_minutes": 0.0,
}


class DrainedCluster(LoopbackCluster):
    """Cluster whose nodes can be taken away as spot instances are: after a notice."""

    def drain_node_of(self, worker_title: str) -> None:
        """Announce that the node on which a worker with this title runs is taken away; then do that."""
        from ray._raylet import GcsClient
        from ray.core.generated import autoscaler_pb2

        parents = {parent.pid for parent in ray_workers(os.getpid(), worker_title)[0].parents()}
        (node,) = (node for node in self._nodes if node.all_processes["raylet"][0].process.pid in parents)
        is_accepted, message = GcsClient(address=self.address).drain_node(
            node.node_id,
            autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
            "spot instance",
            int(1000 * (time.time() + DEADLINE_S)),
        )
        assert is_accepted, message
        time.sleep(DEADLINE_S)
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[DrainedCluster]:
    """Start a cluster of the given number of nodes of one CPU, and connect to it."""
    with connected(DrainedCluster, request.param, monkeypatch) as cluster:
        yield cluster


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    # Epochs of several of the intervals at which notices are looked for, also on fast hosts.
    return write_shards(tmp_path, clips=100, copies=3)


def checkpoints_within_epochs(run: Path) -> list[int]:
    """Return the steps of the checkpoints within epochs."""
    names = [path.parent.name for path in (run / "checkpoints").glob("*/state.json")]
    return [int(match[1]) for name in names if (match := re.search(r"_step_(\d+)$", name))]


@pytest.mark.parametrize(("cluster", "workers"), [(2, 1), (3, 2)], indirect=["cluster"])
def test_drained_node_loses_seconds(
    workers: int, cluster: DrainedCluster, shards: Path, tmp_path: Path
) -> None:
    expected, config = (
        train_config(shards, tmp_path / name, **SLOW, workers=workers) for name in ("expected", "run")
    )
    if workers == 1:
        torch.set_num_threads(1)
        expected.run.mkdir()
        train_loop(expected, SINGLE_WORKER)
    else:
        train_classifier(expected)
    title = "training" if workers == 1 else "RayTrainWorker"
    run = RunFolder(config.run)
    drained = run_when(
        lambda: (run.read_json("progress.json") or {}).get("step", 0) > 3 and ray_workers(os.getpid(), title),
        lambda: cluster.drain_node_of(title),
    )
    written = run_when(lambda: checkpoints_within_epochs(config.run), lambda: True)
    train_classifier(config)
    drained.result()
    assert written.result()
    assert tensors_equal(load_weights(config.run), load_weights(expected.run))
    assert [metrics["epoch"] for metrics in run.read_history()] == [1, 2]
