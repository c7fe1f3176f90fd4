"""A cluster that starts without a CPU and grows by demand: commands ask for what they need, and wait for no longer than they were told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.connection.session import session
from pipeline.classifier.train import train_classifier
from pipeline.extract import extract
from pipeline.io.errors import UserError
from tests.helpers.autoscaling_cluster import GrowingCluster
from tests.helpers.processes import wait_for
from tests.helpers.sounds import extract_config, train_config, write_tones

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> Iterator[GrowingCluster]:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cluster = GrowingCluster(most=2)
    try:
        with session(cluster.address):
            yield cluster
    finally:
        cluster.end()


def test_machines_come_when_they_are_asked_for(growing: GrowingCluster, tmp_path: Path) -> None:
    config = extract_config(write_tones(tmp_path / "data", clips=8), tmp_path / "shards")
    began = time.monotonic()
    with pytest.raises(
        UserError,
        match=r"needs 1 worker with 1 CPU; the cluster has room for 0 .*: start a machine with CPUs, or add",
    ):
        extract(config)
    assert time.monotonic() - began < 5 and growing.machines == 0, "not asked to wait, it says so at once"
    made = extract(config.model_copy(update={"wait_for_nodes": 1.5}))
    assert made.clips == 24 and growing.machines >= 1
    # A third worker can't come: after the time it was given, the command says what is there.
    train = train_config(config.out, tmp_path / "run", epochs=1, cpus_per_worker=1)
    with pytest.raises(
        UserError,
        match=r"needs 3 workers with 1 CPU each; the cluster has room for 2 after 15 s \(1 CPU, 1 CPU\): .*raise --wait-for-nodes",
    ):
        train_classifier(train.model_copy(update={"workers": 3, "wait_for_nodes": 0.25}))
    assert train_classifier(train.model_copy(update={"workers": 2, "wait_for_nodes": 1.5}))["epochs"] == 1
    assert growing.machines == 2
    # Nothing asks for them any more.
    wait_for(lambda: growing.machines == 0, 45)
