"""Machines that are lost without a word: nothing is missing afterwards, and what was learnt is the same."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cluster.session import session
from models.classifier import ClassifierConfig
from pipeline import extract as stage
from pipeline.classifier_run import train_classifier
from pipeline.extract import extract, run_here, unpack
from pipeline.run_folder import RunFolder
from pipeline.shards import open_shards, read_part
from pipeline.train_classifier import train_loop
from tests.ray.processes import later
from tests.runs import ALONE, same, weights
from tests.sounds import extract_config, train_config, write_shards, write_tones

pytestmark = [pytest.mark.slow, pytest.mark.timeout(170)]
SLOW = {"model": ClassifierConfig(channels=(64, 64), convolutions=3, compressed=16), "epochs": 6}


class Machines:
    """A head and one more machine, of one CPU each, as processes on loopback."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        self._other = self._cluster.add_node(num_cpus=1)
        self._cluster.wait_for_nodes()
        self.address = self._cluster.address

    def lose(self) -> None:
        """The other machine is gone at once."""
        self._cluster.remove_node(self._other, allow_graceful=False)

    def end(self) -> None:
        self._cluster.shutdown()


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    # Sockets lie below it, and their paths must be short.
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/mr{os.getpid()}")
    Path(f"/tmp/mr{os.getpid()}").mkdir(exist_ok=True)
    made = Machines()
    with session(made.address):
        yield made
    made.end()


def slow_part(row: dict[str, Any], *arguments: Any) -> dict[str, str]:
    """`make_part`, slow enough for a machine to be lost meanwhile."""
    time.sleep(1.0)
    return stage.make_part(row, *arguments)


def test_an_extraction_makes_the_same_rows(machines: Machines, tmp_path: Path) -> None:
    from pipeline.ray_data import from_units, rows_of_one_stage

    data = write_tones(tmp_path / "data", clips=40)
    calm, disturbed = extract_config(data, tmp_path / "calm"), extract_config(data, tmp_path / "disturbed")
    extract(calm, run_here)
    lost = later(lambda: len(list(disturbed.out.glob("part-*.parquet"))) >= 3, machines.lose)
    made = extract(
        disturbed,
        lambda units, c: map(unpack, rows_of_one_stage(from_units(units).map(slow_part, fn_args=(c.out, c.features, c.augment)))),
    )
    lost.result()
    assert made == open_shards(calm.out).model_copy(update={"source": made.source})
    for part in made.parts:
        assert read_part(disturbed.out / part.name).equals(read_part(calm.out / part.name))


def test_a_training_goes_on_with_fewer_workers_where_that_is_allowed(machines: Machines, tmp_path: Path) -> None:
    shards = write_shards(tmp_path, clips=20, copies=3)
    config = train_config(shards, tmp_path / "run", **SLOW, workers=2, min_workers=1)
    lost = later(lambda: len(RunFolder(config.run).read_history()) == 2, machines.lose)
    summary = train_classifier(config)
    lost.result()
    assert summary["epochs"] == 6
    assert [line["epoch"] for line in RunFolder(config.run).read_history()] == [1, 2, 3, 4, 5, 6]


def test_a_training_of_one_worker_ends_with_the_same_weights(machines: Machines, tmp_path: Path) -> None:
    shards = write_shards(tmp_path, clips=20, copies=3)
    calm = train_config(shards, tmp_path / "calm", **SLOW)
    torch.set_num_threads(1)
    calm.run.mkdir()
    train_loop(calm, ALONE)
    config = train_config(shards, tmp_path / "run", **SLOW)
    lost = later(lambda: len(RunFolder(config.run).read_history()) == 2, machines.lose)
    train_classifier(config)
    lost.result()
    assert same(weights(config.run), weights(calm.run))
