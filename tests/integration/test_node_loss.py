"""Lost nodes: no data is missing afterwards, and the weights equal those of an uninterrupted run."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
import yaml

from cluster.connection.session import session
from models.classifier import ClassifierConfig
from pipeline.classifier.loop import train_loop
from pipeline.classifier.train import train_classifier
from pipeline.data.dataset import is_cached
from pipeline.data.shard_manifest import open_shards
from pipeline.data.shards import read_shard
from pipeline.distributed.batch_job import StageBuilder, UnitResult, run_in_process
from pipeline.distributed.ray_runner import RayRunner
from pipeline.distributed.resources import ResourceRequest
from pipeline.distributed.work_unit import WorkUnit
from pipeline.extract import ShardWriter, extract
from pipeline.gan import loop as gan
from pipeline.gan.train import train_gan
from pipeline.training import node_caches
from pipeline.training.run_folder import RunFolder
from tests.helpers.processes import ray_workers, run_when
from tests.helpers.runs import SINGLE_WORKER, load_weights, tensors_equal
from tests.helpers.sounds import extract_config, gan_config, train_config, write_shards, write_tones
from tune.config import SearchConfig
from tune.search import search
from tune.trials import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_ray_session"), pytest.mark.timeout(170)]
SLOW = {"model": ClassifierConfig(channels=(64, 64), convs_per_block=3, embedding_dim=16), "epochs": 6}


class LoopbackCluster:
    """A cluster of a head node without CPUs and several nodes of one CPU, as processes on loopback."""

    def __init__(self, num_nodes: int) -> None:
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 100 * 2**20}
        head = {"num_cpus": 0, "include_dashboard": False, **memory}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes = [self._cluster.add_node(num_cpus=1, **memory) for _ in range(num_nodes)]
        self._cluster.wait_for_nodes()
        self.address = self._cluster.address

    def remove_node_of(self, worker_title: str) -> None:
        """Kill the node on which a worker with this title runs."""
        parents = {parent.pid for parent in ray_workers(os.getpid(), worker_title)[0].parents()}
        (node,) = (node for node in self._nodes if node.all_processes["raylet"][0].process.pid in parents)
        self._nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def remove_node_when(self, condition: Callable[[], object], worker_title: str) -> Future[None]:
        """Kill the node of such a worker once `condition()` is true and the worker runs."""
        return run_when(
            lambda: condition() and ray_workers(os.getpid(), worker_title),
            lambda: self.remove_node_of(worker_title),
        )

    def shut_down(self) -> None:
        self._cluster.shutdown()


Cluster = TypeVar("Cluster", bound=LoopbackCluster)


@contextmanager
def connected(kind: type[Cluster], nodes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Start a cluster of nodes of one CPU, connect to it, and end it."""
    # Paths of sockets in this folder must be short.
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/mr{os.getpid()}")
    Path(f"/tmp/mr{os.getpid()}").mkdir(exist_ok=True)
    cluster = kind(nodes)
    with session(cluster.address):
        yield cluster
    cluster.shut_down()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCluster]:
    """Start a cluster, of two nodes unless parametrized, and connect to it."""
    with connected(LoopbackCluster, getattr(request, "param", 2), monkeypatch) as cluster:
        yield cluster


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_shards(tmp_path, clips=20, copies=3)


def logged_epochs(run: Path) -> list[int]:
    return [metrics["epoch"] for metrics in RunFolder(run).read_history()]


def assert_runs_equal(run: Path, expected_run: Path) -> None:
    assert tensors_equal(load_weights(run), load_weights(expected_run))
    assert logged_epochs(run) == [1, 2, 3, 4, 5, 6]


class SlowShardWriter(ShardWriter):
    """Shard writer that is slow enough for a node to be lost meanwhile."""

    def __call__(self, unit: WorkUnit) -> Any:
        time.sleep(1.0)
        return super().__call__(unit)


def run_slowly(units: Sequence[WorkUnit], stages: Sequence[StageBuilder]) -> Iterator[UnitResult]:
    (build,) = stages
    assert isinstance(build, partial)
    return RayRunner()(units, [partial(SlowShardWriter, *build.args)])


def test_extraction_writes_same_rows(cluster: LoopbackCluster, tmp_path: Path) -> None:
    data = write_tones(tmp_path / "data", clips=40)
    expected = extract_config(data, tmp_path / "expected")
    config = extract_config(data, tmp_path / "shards")
    extract(expected, run_in_process)
    removed = cluster.remove_node_when(
        lambda: len(list(config.out.glob("part-*.parquet"))) >= 3, "SlowShardWriter"
    )
    manifest = extract(config, run_slowly)
    removed.result()
    assert manifest == open_shards(expected.out).model_copy(update={"source": manifest.source})
    for shard in manifest.shards:
        assert read_shard(config.out / shard.name).equals(read_shard(expected.out / shard.name))


def test_caches_are_filled_on_all_nodes(
    cluster: LoopbackCluster, shards: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver's node has no CPU; the two others share a cache folder, and wait for each other."""
    caplog.set_level(logging.INFO, "melray")
    monkeypatch.setattr(node_caches, "SMALL_DATASET_BYTES", 0)
    manifest = open_shards(shards)
    node_caches.fill_node_caches([shards], ResourceRequest(workers=2, cpus=1))
    assert is_cached(manifest)
    assert f"caching shards: {2 * manifest.rows} rows" in caplog.text


def test_elastic_training_continues_with_fewer_workers(
    cluster: LoopbackCluster, shards: Path, tmp_path: Path
) -> None:
    config = train_config(shards, tmp_path / "run", **SLOW, workers=2, min_workers=1)
    removed = cluster.remove_node_when(lambda: len(logged_epochs(config.run)) == 2, "RayTrainWorker")
    assert train_classifier(config)["epochs"] == 6
    removed.result()
    assert logged_epochs(config.run) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("cluster", [3], indirect=True)
def test_two_workers_move_to_spare_node(cluster: LoopbackCluster, shards: Path, tmp_path: Path) -> None:
    expected = train_config(shards, tmp_path / "expected", **SLOW, workers=2)
    train_classifier(expected)
    config = train_config(shards, tmp_path / "run", **SLOW, workers=2)
    removed = cluster.remove_node_when(lambda: len(logged_epochs(config.run)) == 2, "RayTrainWorker")
    train_classifier(config)
    removed.result()
    assert_runs_equal(config.run, expected.run)


def test_single_worker_ends_with_same_weights(cluster: LoopbackCluster, shards: Path, tmp_path: Path) -> None:
    expected, config = (train_config(shards, tmp_path / name, **SLOW) for name in ("expected", "run"))
    torch.set_num_threads(1)
    expected.run.mkdir()
    train_loop(expected, SINGLE_WORKER)
    removed = cluster.remove_node_when(lambda: len(logged_epochs(config.run)) == 2, "training")
    train_classifier(config)
    removed.result()
    assert_runs_equal(config.run, expected.run)


def test_gan_ends_with_same_weights(cluster: LoopbackCluster, shards: Path, tmp_path: Path) -> None:
    settings = {"epochs": 6, "epoch_steps": 25, "sample_every": 6}
    expected, config = (gan_config(shards, tmp_path / name, **settings) for name in ("expected", "run"))
    torch.set_num_threads(1)
    expected.run.mkdir()
    gan.train_loop(expected, SINGLE_WORKER)
    removed = cluster.remove_node_when(lambda: len(logged_epochs(config.run)) == 2, "training")
    train_gan(config)
    removed.result()
    assert_runs_equal(config.run, expected.run)


def test_search_finds_same_scores(cluster: LoopbackCluster, shards: Path, tmp_path: Path) -> None:
    base, space = tmp_path / "base.yaml", tmp_path / "space.yaml"
    model = {"channels": [48, 48], "convs_per_block": 3, "embedding_dim": 16, "dropout": 0.1}
    base.write_text(
        yaml.safe_dump({"model": model, "batch_size": 16, "warmup_epochs": 1, "precision": "fp32"})
    )
    space.write_text("learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}\n")
    expected, config = (
        SearchConfig(
            shards=shards,
            run=tmp_path / name,
            space=space,
            base=base,
            trials=3,
            max_epochs=5,
            max_concurrent=2,
            scheduler="none",
            searcher="random",
        )
        for name in ("expected", "run")
    )
    search(expected)
    first_trial = SearchFolder(config.run).trial(0)
    removed = cluster.remove_node_when(lambda: len(logged_epochs(first_trial)) == 2, "Trainable")
    search(config)
    removed.result()
    scores, expected_scores = (
        [[point.score for point in trial.points] for trial in SearchFolder(run).read()]
        for run in (config.run, expected.run)
    )
    assert scores == expected_scores
    assert all(len(trial_scores) == 5 for trial_scores in scores)


def test_frozen_worker_is_replaced(
    cluster: LoopbackCluster, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process neither exits nor responds; Ray Train notices after a minute, here sooner."""
    monkeypatch.setenv("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", "5")
    config = train_config(shards, tmp_path / "run", **SLOW, workers=2)
    frozen = run_when(
        lambda: len(logged_epochs(config.run)) == 2,
        lambda: os.kill(ray_workers(os.getpid(), "RayTrainWorker")[0].pid, signal.SIGSTOP),
    )
    assert train_classifier(config)["epochs"] == 6
    frozen.result()
    assert logged_epochs(config.run) == [1, 2, 3, 4, 5, 6]
