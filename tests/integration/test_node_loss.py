"""Machines that are lost without a word: nothing is missing afterwards, and what was learnt is the same."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cluster.connection.session import session
from models.classifier import ClassifierConfig
from pipeline import extract as stage
from pipeline.classifier.loop import train_loop
from pipeline.classifier.train import train_classifier
from pipeline.data.shards import open_shards, read_shard
from pipeline.extract import extract, run_in_process, unpack
from pipeline.gan import loop as gan
from pipeline.gan.train import train_gan
from pipeline.training.run_folder import RunFolder
from tests.helpers.processes import later, workers
from tests.helpers.runs import ALONE, same, weights
from tests.helpers.sounds import extract_config, gan_config, train_config, write_shards, write_tones
from tune.config import SearchConfig
from tune.search import search
from tune.trials import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]
SLOW = {"model": ClassifierConfig(channels=(64, 64), convs_per_block=3, embedding_dim=16), "epochs": 6}


class Machines:
    """A head without a CPU, and some machines of one CPU each, as processes on loopback."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        size = {"object_store_memory": 100 * 2**20}
        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **size}
        )
        self._machines = [self._cluster.add_node(num_cpus=1, **size) for _ in range(count)]
        self._cluster.wait_for_nodes()
        self.address = self._cluster.address

    def lose(self, title: str) -> None:
        """The machine on which a worker of that title runs is gone at once."""
        above = {parent.pid for parent in workers(os.getpid(), title)[0].parents()}
        (lost,) = (
            machine for machine in self._machines if machine.all_processes["raylet"][0].process.pid in above
        )
        self._machines.remove(lost)
        self._cluster.remove_node(lost, allow_graceful=False)

    def lose_when(self, when: Callable[[], object], title: str) -> Future[None]:
        """Loses it as soon as that is so and such a worker is at work."""
        return later(lambda: when() and workers(os.getpid(), title), lambda: self.lose(title))

    def end(self) -> None:
        self._cluster.shutdown()


@pytest.fixture
def machines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    # Sockets lie below it, and their paths must be short.
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/mr{os.getpid()}")
    Path(f"/tmp/mr{os.getpid()}").mkdir(exist_ok=True)
    made = Machines(getattr(request, "param", 2))
    with session(made.address):
        yield made
    made.end()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_shards(tmp_path, clips=20, copies=3)


def epochs(run: Path) -> list[int]:
    """Those that the log of a run holds."""
    return [line["epoch"] for line in RunFolder(run).read_history()]


def slow_part(row: dict[str, Any], *arguments: Any) -> dict[str, str]:
    """`write_unit`, slow enough for a machine to be lost meanwhile."""
    time.sleep(1.0)
    return stage.write_unit(row, *arguments)


def test_an_extraction_makes_the_same_rows(machines: Machines, tmp_path: Path) -> None:
    from pipeline.distributed.batch_job import dataset_of_units, iter_single_stage

    data = write_tones(tmp_path / "data", clips=40)
    calm, disturbed = extract_config(data, tmp_path / "calm"), extract_config(data, tmp_path / "disturbed")
    extract(calm, run_in_process)
    lost = machines.lose_when(lambda: len(list(disturbed.out.glob("part-*.parquet"))) >= 3, "slow_part")
    made = extract(
        disturbed,
        lambda units, c: map(
            unpack,
            iter_single_stage(dataset_of_units(units).map(slow_part, fn_args=(c.out, c.features, c.augment))),
        ),
    )
    lost.result()
    assert made == open_shards(calm.out).model_copy(update={"source": made.source})
    for part in made.parts:
        assert read_shard(disturbed.out / part.name).equals(read_shard(calm.out / part.name))


def test_a_training_goes_on_with_fewer_workers_where_that_is_allowed(
    machines: Machines, shards: Path, tmp_path: Path
) -> None:
    config = train_config(shards, tmp_path / "run", **SLOW, workers=2, min_workers=1)
    lost = machines.lose_when(lambda: len(epochs(config.run)) == 2, "RayTrainWorker")
    assert train_classifier(config)["epochs"] == 6
    lost.result()
    assert epochs(config.run) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("machines", [3], indirect=True)
def test_two_workers_go_on_where_there_is_room_and_end_with_the_same_weights(
    machines: Machines, shards: Path, tmp_path: Path
) -> None:
    calm = train_config(shards, tmp_path / "calm", **SLOW, workers=2)
    train_classifier(calm)
    config = train_config(shards, tmp_path / "run", **SLOW, workers=2)
    lost = machines.lose_when(lambda: len(epochs(config.run)) == 2, "RayTrainWorker")
    train_classifier(config)
    lost.result()
    assert same(weights(config.run), weights(calm.run)) and epochs(config.run) == [1, 2, 3, 4, 5, 6]


def test_a_training_of_one_worker_ends_with_the_same_weights(
    machines: Machines, shards: Path, tmp_path: Path
) -> None:
    calm, config = (train_config(shards, tmp_path / name, **SLOW) for name in ("calm", "run"))
    torch.set_num_threads(1)
    calm.run.mkdir()
    train_loop(calm, ALONE)
    lost = machines.lose_when(lambda: len(epochs(config.run)) == 2, "training")
    train_classifier(config)
    lost.result()
    assert same(weights(config.run), weights(calm.run)) and epochs(config.run) == [1, 2, 3, 4, 5, 6]


def test_a_gan_ends_with_the_same_weights(machines: Machines, shards: Path, tmp_path: Path) -> None:
    long = {"epochs": 6, "epoch_steps": 25, "sample_every": 6}
    calm, config = (gan_config(shards, tmp_path / name, **long) for name in ("calm", "run"))
    torch.set_num_threads(1)
    calm.run.mkdir()
    gan.train_loop(calm, ALONE)
    lost = machines.lose_when(lambda: len(epochs(config.run)) == 2, "training")
    train_gan(config)
    lost.result()
    assert same(weights(config.run), weights(calm.run)) and epochs(config.run) == [1, 2, 3, 4, 5, 6]


def test_a_search_finds_the_same(machines: Machines, shards: Path, tmp_path: Path) -> None:
    base, space = tmp_path / "base.yaml", tmp_path / "space.yaml"
    model = {"channels": [48, 48], "convs_per_block": 3, "embedding_dim": 16, "dropout": 0.1}
    base.write_text(
        yaml.safe_dump({"model": model, "batch_size": 16, "warmup_epochs": 1, "precision": "fp32"})
    )
    space.write_text("learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}\n")
    calm, disturbed = (
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
        for name in ("calm", "disturbed")
    )
    search(calm)
    first = SearchFolder(disturbed.run).trial(0)
    lost = machines.lose_when(lambda: len(epochs(first)) == 2, "Trainable")
    search(disturbed)
    lost.result()
    scores = [
        [[point.score for point in trial.points] for trial in SearchFolder(one.run).read()]
        for one in (calm, disturbed)
    ]
    assert scores[0] == scores[1] and all(len(of_trial) == 5 for of_trial in scores[0])


def test_a_frozen_worker_is_replaced(
    machines: Machines, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither dies nor answers; told by Ray Train after a minute, here sooner."""
    monkeypatch.setenv("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", "5")
    config = train_config(shards, tmp_path / "run", **SLOW, workers=2)
    frozen = later(
        lambda: len(epochs(config.run)) == 2,
        lambda: os.kill(workers(os.getpid(), "RayTrainWorker")[0].pid, signal.SIGSTOP),
    )
    assert train_classifier(config)["epochs"] == 6
    frozen.result()
    assert epochs(config.run) == [1, 2, 3, 4, 5, 6]
