"""Clusters that grow: batch jobs and searches use nodes that the autoscaler adds for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
import yaml

from cluster.connection.session import session
from pipeline.classifier.train import train_classifier
from pipeline.distributed.batch_job import BatchJob, Stage
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resources import cluster_nodes
from pipeline.distributed.work_unit import WorkUnit
from pipeline.io.files import write_text_atomically
from tests.helpers.autoscaling_cluster import AutoscalingCluster
from tests.helpers.growth import GrowthWatcher
from tests.helpers.processes import wait_until
from tests.helpers.sounds import train_config, write_shards
from tune.config import SearchConfig
from tune.search import search
from tune.trials import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_ray_session"), pytest.mark.timeout(300)]
MAX_NODES = 4


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[AutoscalingCluster]:
    """Connect to a cluster of one node, of one CPU unless parametrized, which may grow to `MAX_NODES`."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = AutoscalingCluster(MAX_NODES, min_nodes=1, **getattr(request, "param", {}))
    try:
        with session(cluster.address):
            wait_until(lambda: sum(node.cpus for node in cluster_nodes()) >= 1)
            yield cluster
    finally:
        cluster.shut_down()


def read_ids(unit: WorkUnit) -> list[str]:
    """Stage that returns the ids of a unit."""
    return [clip["clip_id"] for clip in unit.read_clips()]


class SlowWriter:
    """Stage that takes a second to write the ids of a unit, but next to none once all nodes have worked.

    So there is work until the last node has joined, however slow that is.
    """

    def __init__(self, nodes: Path):
        self._mark, self._is_first = nodes / ray.get_runtime_context().get_node_id(), True

    def __call__(self, unit: WorkUnit, ids: list[str]) -> list[str]:
        self._mark.touch()
        if self._is_first or len(list(self._mark.parent.iterdir())) < MAX_NODES:
            time.sleep(1.0)
        self._is_first = False
        write_text_atomically(unit.path, "\n".join(ids))
        return ids


def make_reader() -> Stage:
    return read_ids


@pytest.mark.parametrize(
    ("cluster", "runner"),
    [({}, RayRunner()), ({"gpus": 1}, RayRunner(gpus=1))],
    indirect=["cluster"],
    ids=["cpu", "gpu"],
)
def test_batch_job_spreads_to_added_nodes(
    cluster: AutoscalingCluster, runner: RayRunner, tmp_path: Path
) -> None:
    ids = [f"clip {number:03d}" for number in range(400)]
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    job = BatchJob("testing", pd.DataFrame({"clip_id": ids}), 1, settings=None, folder=tmp_path / "out")
    stages: list[Callable[[], Any]] = [make_reader, partial(SlowWriter, nodes)]
    with GrowthWatcher("SlowWriter") as growth:
        results = job.run(stages, runner)
    assert [name for unit in results for name in unit] == ids
    # A node that was lost and replaced has worked as well.
    assert len(growth.worked) >= MAX_NODES, growth.delays


def test_search_spreads_to_added_nodes(cluster: AutoscalingCluster, tmp_path: Path) -> None:
    space, base = tmp_path / "space.yaml", tmp_path / "base.yaml"
    space.write_text(yaml.safe_dump({"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}))
    model = {"channels": [48, 48], "convs_per_block": 3, "embedding_dim": 16, "dropout": 0.1}
    base.write_text(yaml.safe_dump({"model": model, "batch_size": 16, "precision": "fp32"}))
    config = SearchConfig(
        shards=write_shards(tmp_path, clips=20, copies=3),
        run=tmp_path / "search",
        space=space,
        base=base,
        trials=10,
        max_concurrent=MAX_NODES,
        max_epochs=8,
        scheduler="none",
        wait_for_nodes=2,
    )
    with GrowthWatcher("Trainable") as growth:
        search(config)
    assert len(growth.worked) == MAX_NODES, growth.delays
    assert [trial.state for trial in SearchFolder(config.run).read()] == ["finished"] * 10


@pytest.mark.parametrize("cluster", [{"cpus": 2}], indirect=True)
def test_workers_without_size_get_a_node_each(cluster: AutoscalingCluster, tmp_path: Path) -> None:
    shards = write_shards(tmp_path, clips=20)
    config = train_config(shards, tmp_path / "run", workers=2, cpus_per_worker=None, wait_for_nodes=3)
    with GrowthWatcher("RayTrainWorker") as growth:
        assert train_classifier(config)["epochs"] == 4
    assert len(growth.worked) == cluster.num_nodes == 2
